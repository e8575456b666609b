"""Run an experiment on a claim about attention; without a name, list them."""

from __future__ import annotations

import argparse
import ast
import importlib
from pathlib import Path

from ..console.errors import CommandError
from ..console.suggest import hint
from .options import path_name, seed

NEEDS = ("filelock", "matplotlib", "rich", "safetensors", "tomli_w")

_LAB = Path(__file__).parents[1] / "lab"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the name of an experiment")
    parser.add_argument(
        "--out", metavar="FOLDER", type=path_name, help="the folder for runs and results (default: runs/NAME)"
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="the seed of data and training (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..console.output import lasting_output

    experiments = _experiments()
    name = arguments.name
    if name is None:
        width = max(map(len, experiments))
        for known, claim in experiments.items():
            print(f"{known:<{width}}  {claim}")
        return 0
    if name not in experiments:
        raise CommandError(f"there is no experiment {name!r}; {hint(name, experiments)}")
    experiment = importlib.import_module(f"..lab.{name}", __package__)
    with lasting_output():
        return experiment.run(Path(arguments.out or Path("runs") / name), arguments.seed)


def _experiments() -> dict[str, str]:
    """The experiments by name, with the first line of each file, which is not imported: that takes a second."""
    found = {}
    for path in sorted(_LAB.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found
