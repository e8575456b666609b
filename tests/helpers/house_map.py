"""The map of the rooms in the README, drawn from the tree: ``python tests/helpers/house_map.py`` writes it there.

A folder is a room. Its remark is the first sentence of its ``__init__.py``, and behind it stand the names of its files.
The files at the top of the two packages have a line each, with the first sentence of theirs.
"""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

__all__ = ["ROOT", "draw_map", "map_in_readme"]

ROOT = Path(__file__).parents[2]
_WIDTH, _COLUMN = 120, 27
_MAP = re.compile(r"(?<=## The rooms\n\n```\n).*?(?=```)", re.DOTALL)
_OF_TESTS = {
    "tests": "the tests, in folders that mirror the two packages",
    "tests/helpers": "helpers that several tests use",
    "tests/parity": "comparisons with PyTorch, on the same weights and inputs",
    "tests/browser": "tests of the microscope's page in Chromium",
    "tests/benchmarks": "scripts that compare our speed with that of other libraries",
}


def draw_map(root: Path = ROOT) -> str:
    """Every room of the two packages and of the tests, with its remark and its files."""
    rooms = [room for package in ("tinygrad_attn", "models") for room in _rooms(root / package)]
    lines = [line for room in rooms for line in _describe_room(room, root)]
    for name, remark in _OF_TESTS.items():
        if not (root / name).is_dir():
            raise ValueError(f"there is no room {name}")
        lines += _line("  " * name.count("/") + name.rpartition("/")[2] + "/", remark)
    return "".join(f"{line}\n" for line in lines)


def map_in_readme(readme: str) -> str:
    """The map as the README has it."""
    found = _MAP.search(readme)
    if found is None:
        raise ValueError("the README has no map: a block of code below '## The rooms'")
    return found[0]


def _rooms(folder: Path) -> list[Path]:
    """The folder and those below it that hold something of the package, each before its own; trained runs are none."""
    inside = sorted(folder.iterdir())
    if any(path.suffix == ".safetensors" for path in inside):
        return []
    below = [room for path in inside if path.is_dir() and path.name[0] not in "._" for room in _rooms(path)]
    return [folder, *below] if below or any(path.is_file() for path in inside) else []


def _describe_room(room: Path, root: Path) -> list[str]:
    depth = len(room.relative_to(root).parts) - 1
    files = sorted(path for path in room.iterdir() if path.is_file() and path.name[0] not in "_.")
    label = "  " * depth + room.name + "/"
    if not depth:
        modules = [path for path in files if path.suffix == ".py"]
        return _line(label, _remark(room)) + [
            line for path in modules for line in _line(f"  {path.name}", _first_sentence(path))
        ]
    shown = [path for path in files if path.suffix in (".py", ".toml", ".js", ".mjs", ".md")]
    mixed = {path.suffix for path in shown} > {".py"}
    names = " ".join(path.name if mixed and path.suffix != ".py" else path.stem for path in shown)
    return _line(label, _remark(room)) + _line("", names, "  ")


def _remark(room: Path) -> str:
    init = room / "__init__.py"
    return _first_sentence(init) if init.is_file() else _OF_FOLDERS[room.name]


# Folders without Python.
_OF_FOLDERS = {
    "configs": "the settings of each result below",
    "views": "the views of the page, one a file",
    "vendor": "third-party libraries, unchanged",
}


def _first_sentence(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text = ast.get_docstring(tree)
    if not text:
        raise ValueError(f"{path} has no docstring")
    sentence = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[a-z)`])\. (?=[A-Z`])", sentence)[0].rstrip(".").replace("``", "").replace("`", "")
    names = _NAMES | {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    is_name = (len(sentence) > 1 and sentence[1].isupper()) or sentence.split()[0].rstrip(",:") in names
    return sentence if is_name else sentence[0].lower() + sentence[1:]


_NAMES = frozenset("Adam Bahdanau Luong Vaswani NumPy Python Korean".split())


def _line(label: str, text: str, indent: str = "") -> list[str]:
    width = _WIDTH - _COLUMN - len(indent)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [f"{label if not number else '':<{_COLUMN}}{indent}{line}" for number, line in enumerate(lines)]


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(_MAP.sub(lambda _: draw_map(), path.read_text(encoding="utf-8")), encoding="utf-8")
