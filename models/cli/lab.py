"""Put a claim about attention to the test by an experiment; without a name, list them."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..console.errors import CommandError
from ..console.suggest import hint
from .options import add_files, path_name, seed

NEEDS = ("filelock", "matplotlib", "rich", "sacrebleu", "safetensors", "tomli_w")

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
    add_files(parser, "a folder of parallel text, for an experiment that translates")


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
    if files := _files(arguments):
        experiments = {each: _reading(experiment, files) for each, experiment in experiments.items()}
        if experiments and not any(hasattr(experiment.full, "data") for experiment in experiments.values()):
            raise CommandError(f"the experiment {name} reads no data; leave out --data")
    folder = Path(arguments.out or ("runs/lab-quick" if arguments.quick else "runs/lab"))
    with lasting_output():
        for each in sorted(experiments, key=lambda each: experiments[each].minutes):
            carry_out(each, experiments[each], folder, list(dict.fromkeys(arguments.seed)), arguments.quick)
    return 0


def _files(arguments: argparse.Namespace) -> dict[str, str]:
    """The folder of parallel text and its languages; empty if none is named."""
    files = {name: getattr(arguments, name) for name in ("data", "source", "target")}
    missing = [f"--{name}" for name, value in files.items() if value is None]
    if missing and len(missing) < len(files):
        raise CommandError(
            f"parallel text needs {' and '.join(missing)}, too, as in --data DIR --source ko --target en"
        )
    return {} if missing else {**files, "data": str(Path(files["data"]).absolute())}


def _reading(experiment: Any, files: dict[str, str]) -> Any:
    """The experiment with these files in its sizes, if it reads any."""
    if not hasattr(experiment.full, "data"):
        return experiment
    sizes = {name: dataclasses.replace(getattr(experiment, name), **files) for name in ("full", "quick")}
    return dataclasses.replace(experiment, **sizes)
