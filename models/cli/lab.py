"""Put a claim about attention to the test by an experiment; without a name, list them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console.errors import CommandError
from ..console.suggest import hint
from .options import path_name, seed

NEEDS = ("filelock", "matplotlib", "rich", "safetensors", "tomli_w")

SEEDS = [0, 1, 2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="the name of an experiment")
    parser.add_argument("--all", action="store_true", help="all experiments, the shortest first")
    parser.add_argument("--quick", action="store_true", help="a smaller version, in seconds to a minute")
    parser.add_argument(
        "--out", metavar="FOLDER", type=path_name, help="the folder for results (default: runs/lab, or runs/lab-quick)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=seed, nargs="+", default=SEEDS, help="seeds of data and training (default: 0 1 2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..console.output import lasting_output
    from ..lab.form.experiment import find_experiments, load_experiment

    known, name = find_experiments(), arguments.name
    if name is not None and arguments.all:
        raise CommandError(f"--all carries out all experiments, {name} too; leave out one of them")
    if name is None and not arguments.all:
        width = max(map(len, known))
        for each, claim in known.items():
            print(f"{each:<{width}}  {claim}")
        return 0
    if not arguments.all and name not in known:
        raise CommandError(f"there is no experiment {name!r}; {hint(name, known)}")
    from ..lab.form.running import carry_out

    experiments = {each: load_experiment(each) for each in (known if arguments.all else [name])}
    folder = Path(arguments.out or ("runs/lab-quick" if arguments.quick else "runs/lab"))
    with lasting_output():
        for each in sorted(experiments, key=lambda each: experiments[each].minutes):
            carry_out(each, experiments[each], folder, arguments.seed, arguments.quick)
    return 0
