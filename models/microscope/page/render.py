"""Renders the microscope's data as one self-contained HTML file."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..record.arrays import as_json
from .bundle import ASSETS, VIEWS, entry, find_views, import_map
from .korean import korean
from .mathml import mathml

__all__ = ["embeddable", "render"]

_ICON = (
    "data:image/svg+xml,"
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='8' height='16' fill='%231f5fa8'/%3E"
    "%3Crect x='8' width='8' height='16' fill='%23c25608'/%3E%3C/svg%3E"
)


def render(data: Mapping[str, Any], views: Sequence[Path] = (VIEWS,), opens: Mapping[str, str] | None = None) -> str:
    """The page that shows ``data`` (see `models.microscope.record.schema.Data`).

    Its content security policy allows only the modules in the page to run, and nothing to be loaded; the page of a live
    server may send requests to that server. The same data gives the same bytes.

    Args:
        data: the data to show.
        views: the folders with the views.
        opens: what is selected at first, as in the page's address, such as ``{"view": "tour"}``.
    """
    found = find_views(views)
    modules, start, style = import_map(found), entry(found), (ASSETS / "page.css").read_text(encoding="utf-8")
    content = {**_blocks(data), **({"opens": dict(opens)} if opens else {})}
    blocks = {key: embeddable(value) for key, value in content.items()}
    # A digest of the whole page: no text on the page can contain it, so no text can run as a script of the page.
    nonce = _digest("\0".join([modules, start, *blocks.values()]))
    policy = {
        "default-src": "'none'",
        "script-src": f"'nonce-{nonce}'",
        "style-src": f"'sha256-{_digest(style)}'",
        "img-src": "data: blob:",
        "connect-src": "'self'" if data["meta"]["served"] else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(map(" ".join, policy.items()))}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape((data['source'] or data['target'])['text'])}</title>",
            f'<link rel="icon" href="{_ICON}">',
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            '<div id="app"></div>',
            *(f'<script type="application/json" id="{key}">{text}</script>' for key, text in blocks.items()),
            f'<script type="importmap" nonce="{nonce}">{modules}</script>',
            f'<script type="module" nonce="{nonce}">{start}</script>',
            "</body>",
            "</html>",
            "",
        ]
    )


def _blocks(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON that the page's script reads, by the id of its element."""
    own = json.loads((ASSETS / "formulas.json").read_text(encoding="utf-8"))
    return {"data": data, "formulas": {**_typeset({*_latex(data), *_own(own)}), "own": own}, "strings": _strings()}


def embeddable(value: Any) -> str:
    """JSON that is safe inside a script element: without ``<``, so neither ``</script>`` nor ``<!--`` can occur."""
    return as_json(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _typeset(formulas: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each language the MathML of the formulas; for Korean, only of those that contain words.

    A formula that cannot be converted (of a user's own op, say) is left out: the page shows its LaTeX.
    """
    found: dict[str, dict[str, str]] = {"en": {}, "ko": {}}
    for latex in sorted(formulas):
        with contextlib.suppress(ValueError):
            found["en"][latex] = mathml(latex)
            if korean(latex) != latex:
                found["ko"][latex] = mathml(korean(latex))
    return found


def _own(formulas: Mapping[str, Any]) -> Iterator[str]:
    """The LaTeX of the page's own formulas, those of the tour, and of the legend's letters."""
    yield formulas["central"]
    yield from formulas["tour"].values()
    for latex, _ in formulas["letters"].values():
        yield latex


def _latex(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str):
                if inner and (key == "latex" or key.endswith("_latex")):  # where there is none, it is empty
                    yield inner
            elif key == "vjp":
                yield from inner.values()
            else:
                yield from _latex(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _latex(inner)


def _strings() -> dict[str, dict[str, str]]:
    """The words that all views share, by language: one file each."""
    files = sorted(ASSETS.glob("strings.*.json"))
    return {file.suffixes[0][1:]: json.loads(file.read_text(encoding="utf-8")) for file in files}


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
