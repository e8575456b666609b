"""Which tests need packages that the default command does not install: what `pytest.importorskip` names tells."""

import ast
import functools
import re
import tomllib
from pathlib import Path

__all__ = ["needs_more"]

_DEFAULT = ("models", "test")  # the extras of README's command


@functools.cache
def _installed():
    """The packages of the default command, as they are imported; our own among them."""
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = [line for extra in _DEFAULT for line in project["optional-dependencies"][extra]]
    names = [re.split(r"[\[><=!~; ]", line)[0] for line in (*project["dependencies"], *extras)]
    return {name.replace("-", "_") for name in names} | {"tinygrad_attn", "tinygrad_attn_models"}


def _asks(node):
    """Whether code asks for a package that is not installed, or for any that is named elsewhere."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "importorskip":
            package = call.args[0].value if isinstance(call.args[0], ast.Constant) else ""
            if package.partition(".")[0] not in _installed():
                return True
    return False


@functools.cache
def _asking(file):
    """The functions of a file that ask, or use one that does; None if the file does as it is imported."""
    text = file.read_text(encoding="utf-8")
    if "importorskip(" not in text:
        return set()
    body = ast.parse(text).body
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    if any(_asks(node) for node in body if node not in functions.values()):
        return None
    asking = {name for name, node in functions.items() if _asks(node)}
    while True:
        more = {name for name, node in functions.items() if asking & _names_in(node)} - asking
        if not more:
            return asking
        asking |= more


def _names_in(node):
    """The names and arguments, which may be fixtures, in a function."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found | {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}


def needs_more(file, function):
    """Whether a test function of a file is skipped for want of a package where only the default command was run."""
    asking = _asking(file)
    return asking is None or function in asking
