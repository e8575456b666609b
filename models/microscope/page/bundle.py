"""Puts the page's JavaScript modules into one HTML file, as ``data:`` URLs with an import map.

Others import a module of this folder as ``page/NAME.js``, a view as ``page/views/NAME.js``, and the libraries as
``preact``, ``preact/hooks`` and ``htm``. Nothing is rewritten: the browser links the modules.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ASSETS", "VIEWS", "entry", "find_views", "import_map"]

ASSETS = Path(__file__).parent
VIEWS = ASSETS / "views"
"""One file for each view. It exports ``order``, its position in the row of tabs (those of this folder are 10, 20, 30
and so on); ``words``, a JSON object of its texts by language, ``{"en": {"title": …}, "ko": {…}}``; and ``View``, the
component."""

_LIBRARIES = {"preact": "preact.mjs", "preact/hooks": "hooks.mjs", "htm": "htm.mjs"}


def find_views(folders: Sequence[Path] = (VIEWS,)) -> dict[str, Path]:
    """The views' files by name, in the order of their names.

    Raises:
        ValueError: two folders have a view of the same name, or a name is no JavaScript identifier.
    """
    found: dict[str, Path] = {}
    for file in (file for folder in folders for file in folder.glob("*.js")):
        if not file.stem.isidentifier():
            raise ValueError(f"the view {file} must be named by letters, digits and _, with no digit first")
        if file.stem in found:
            raise ValueError(f"there are two views {file.stem!r}: {found[file.stem]} and {file}")
        found[file.stem] = file
    return dict(sorted(found.items()))


def import_map(views: Mapping[str, Path]) -> str:
    """The content of the page's ``<script type="importmap">``: all modules by name, as URLs that hold them."""
    files = {
        **{name: ASSETS / "vendor" / file for name, file in _LIBRARIES.items()},
        **{f"page/{file.name}": file for file in sorted(ASSETS.glob("*.js"))},
        **{f"page/views/{name}.js": file for name, file in views.items()},
    }
    return json.dumps({"imports": {name: _url(file) for name, file in files.items()}})


def entry(views: Mapping[str, Path]) -> str:
    """The module that opens the page with these views."""
    imports = [f'import * as {name} from "page/views/{name}.js";' for name in views]
    return "\n".join([*imports, 'import { start } from "page/app.js";', f"start({{ {', '.join(views)} }});"])


def _url(file: Path) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(file.read_bytes()).decode()}"
