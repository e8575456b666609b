"""The page's ES modules as one script, since modules can't import each other from inside one HTML file.

Every module becomes a function that runs once and gives its exports; those that it imports run before it. Enough of
the language for the modules of this folder, and no more: static imports, exports by name or default, no circles, and no
binding that changes after its module has run.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

__all__ = ["ASSETS", "bundle"]

ASSETS = Path(__file__).parent

# What the vendored libraries and the app call them by.
_LIBRARIES = {"preact": "vendor/preact.mjs", "preact/hooks": "vendor/hooks.mjs", "htm": "vendor/htm.mjs"}
_IMPORT = re.compile(
    r"^import\s*(?:\{(?P<names>[^}]*)\}|(?P<default>\w+))\s*from\s*[\"'](?P<source>[^\"']+)[\"'];?", re.M
)
_EXPORTED = re.compile(r"^export (?P<what>(?:async )?(?:function|const|class)) (?P<name>\w+)", re.M)
_EXPORT_LIST = re.compile(r"export\s*\{(?P<names>[^}]*)\};?")
_EXPORT_DEFAULT = re.compile(r"export default\s")


def bundle(entry: str, root: Path = ASSETS) -> str:
    """The module ``entry`` and all that it imports, each once, as one script.

    Raises:
        ValueError: modules import each other in a circle, or use a form of import that is not known here.
        FileNotFoundError: a module imports what isn't there.
    """
    written: dict[str, str] = {}
    _add(entry, root, written, ())
    return '"use strict";\n' + "\n".join(written.values())


def _add(name: str, root: Path, written: dict[str, str], importers: tuple[str, ...]) -> None:
    if name in importers:
        raise ValueError(f"bundle: modules import each other in a circle: {' → '.join((*importers, name))}")
    if name in written:
        return
    code = (root / name).read_text(encoding="utf-8")
    for match in _IMPORT.finditer(code):
        _add(_resolve(match["source"], name), root, written, (*importers, name))
    written[name] = _as_function(name, code)


def _as_function(name: str, code: str) -> str:
    exports: list[str] = []

    def keep(match: re.Match[str]) -> str:
        exports.append(match["name"])
        return f"{match['what']} {match['name']}"

    def keep_list(match: re.Match[str]) -> str:
        for local, public in _renamings(match["names"]):
            exports.append(local if local == public else f"{public}: {local}")
        return ""

    code = _IMPORT.sub(lambda match: _import(match, name), code)
    code = _EXPORTED.sub(keep, code)
    code = _EXPORT_LIST.sub(keep_list, code)
    if _EXPORT_DEFAULT.search(code):
        exports.append("default: $default")
        code = _EXPORT_DEFAULT.sub("const $default = ", code, count=1)
    left = re.search(r"^(?:import|export)\b.*", code, re.M)
    if left:
        raise ValueError(f"bundle: {name} has an import or export of a form that is not known here: {left[0]!r}")
    return f"const {_variable(name)} = (() => {{\n{code.strip()}\nreturn {{ {', '.join(exports)} }};\n}})();"


def _import(match: re.Match[str], importer: str) -> str:
    module = _variable(_resolve(match["source"], importer))
    if match["default"]:
        return f"const {match['default']} = {module}.default;"
    names = (public if public == local else f"{public}: {local}" for public, local in _renamings(match["names"]))
    return f"const {{ {', '.join(names)} }} = {module};"


def _renamings(names: str) -> list[tuple[str, str]]:
    """``a, b as c`` as [(a, a), (b, c)]."""
    parts = [part.split(" as ") for part in names.split(",") if part.strip()]
    return [(part[0].strip(), part[-1].strip()) for part in parts]


def _resolve(source: str, importer: str) -> str:
    if source in _LIBRARIES:
        return _LIBRARIES[source]
    parts: list[str] = []
    for part in (PurePosixPath(importer).parent / source).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name)
