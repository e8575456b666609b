"""The architecture: imports point down the floors, and no modules import each other in a circle.

Imports within functions, and those for type checkers alone, count as those at the top of a file do: they hide a circle,
and do not remove it.
"""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the lowest up. A module may import from its own floor and from those below it.
ENGINE = (
    ("atomic", "contexts", "kernels", "registry"),
    ("checked", "dtypes", "modes", "overwriting", "public", "random", "rule", "samples", "schedule"),
    ("copying", "display", "nested", "options", "serialize", "tensor", "values", "version"),
    ("op",),
    ("ops",),
    (
        "anomaly",
        "autograd",
        "capture",
        "check",
        "checkpoint",
        "creation",
        "differential",
        "formula",
        "inner_call",
        "latex",
        "linalg",
        "program",
        "program_lines",
        "pullback",
        "random_tensors",
        "record",
        "vmap",
    ),
    ("nn", "optim"),
    ("func",),
)
MODELS = (
    ("console", "memory", "setting", "version"),
    ("interface", "multihead", "recurrence", "registry", "*"),  # and the systems, one a file
    ("data",),
    ("parallel",),
    ("runs",),
    ("decoding",),
    ("evaluation",),
    ("training",),
    ("lab", "lessons", "microscope", "speed"),
    ("demos",),
    ("gpt2_weights", "trained"),
    ("", "__main__", "cli"),
)
FLOORS = [
    *[{f"tinygrad_attn.{name}" for name in names} for names in ENGINE],
    {"tinygrad_attn"},
    *[{f"models.{name}".rstrip(".") for name in names} for names in MODELS],
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
SYSTEMS = FLOOR_OF["models.*"]


def find_modules(root, packages):
    """From the names of all modules of the packages to their files."""
    files = [path for package in packages for path in (root / package).rglob("*.py")]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def names_imported(name, path):
    """Whatever this module imports, anywhere in its file; what is taken from a module is ``module.name``."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_of(name, path, modules):
    """The modules among ``modules`` that this one imports."""
    imported = {full if full in modules else full.rpartition(".")[0] for full in names_imported(name, path)}
    return (imported & modules.keys()) - {name}


def find_circle(graph):
    """A list of modules each of which imports the next, and the last the first; None if there is none."""
    done = set()

    def search(name, way):
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return None
        circle = next(filter(None, (search(other, [*way, name]) for other in sorted(graph[name]))), None)
        done.add(name)
        return circle

    return next(filter(None, (search(name, []) for name in sorted(graph))), None)


MODULES = find_modules(ROOT, ("tinygrad_attn", "models"))


@functools.cache
def graph():
    """From each module to those that it imports."""
    return {name: imports_of(name, path, MODULES) for name, path in MODULES.items()}


def floor(name):
    room = ".".join(name.split(".")[:2])
    # A file at the top of `models` that is not named above is a system.
    alone = (ROOT / "models" / f"{room.removeprefix('models.')}.py").is_file()
    return FLOOR_OF[room] if room in FLOOR_OF or not alone else SYSTEMS


def test_no_circle():
    circle = find_circle(graph())
    assert circle is None, " imports ".join([*circle, circle[0]])


def test_imports_point_down():
    up = [f"{name} imports {other}" for name in graph() for other in graph()[name] if floor(other) > floor(name)]
    assert up == []


def test_every_module_has_its_floor():
    assert len(graph()) > 100
    for name in graph():
        assert floor(name) in range(len(FLOORS)), name


def test_the_engine_knows_no_models():
    for name, path in MODULES.items():
        if name.startswith("tinygrad_attn"):
            packages = {imported.split(".")[0] for imported in names_imported(name, path)}
            assert not packages & {"models", "tinygrad_attn_models"}, name


def test_kernels_know_arrays_only():
    kernels = {name: path for name, path in MODULES.items() if floor(name) == 0 and ".kernels" in name}
    known = {"numpy", "numba", "llvmlite", *sys.stdlib_module_names}
    for name, path in kernels.items():
        strangers = {other for other in names_imported(name, path) if other.split(".")[0] not in known}
        # Contexts know nothing but Python.
        below = ("tinygrad_attn.kernels.", "tinygrad_attn.contexts.")
        assert all(other.startswith(below) for other in strangers), name


@pytest.mark.parametrize(
    ("sources", "circle"),
    [
        ({"a": "from . import b", "b": "from .c import x", "c": "import p.d", "d": ""}, None),
        ({"a": "from . import b", "b": "def f():\n    from .a import x"}, ["p.a", "p.b"]),
        ({"a": "from p.b import x", "b": "import p.c", "c": "from .a import x"}, ["p.a", "p.b", "p.c"]),
        ({"a": "from .b import x", "b": "if TYPE_CHECKING:\n    from .a import y"}, ["p.a", "p.b"]),
    ],
)
def test_what_a_circle_is(tmp_path, sources, circle):
    (tmp_path / "p").mkdir()
    for name, source in {"__init__": "", **sources}.items():
        (tmp_path / "p" / f"{name}.py").write_text(source, encoding="utf-8")
    modules = find_modules(tmp_path, ("p",))
    assert find_circle({name: imports_of(name, path, modules) for name, path in modules.items()}) == circle
