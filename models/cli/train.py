"""Train a model; without options, one that reads dates in English and Korean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..console.errors import INTERRUPTED, CommandError
from .options import add_data, overrides, path_name

if TYPE_CHECKING:
    from ..console.progress import Progress
    from ..training.trainer import Trainer

NEEDS = ("filelock", "matplotlib", "rich", "safetensors", "tomli_w")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument(
        "--config",
        metavar="NAME",
        type=path_name,
        help="settings: the name of one of the configs in models/configs, or a TOML file",
    )
    add_data(parser)
    parser.add_argument(
        "--out", metavar="RUN", type=path_name, help="the run folder to make (default: a new one in runs/)"
    )
    parser.add_argument(
        "--resume", metavar="RUN", type=path_name, help="continue a run that was stopped, with its own settings"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a short run that shows every step, too short to learn much"
    )


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..console.output import lasting_output
    from ..console.progress import make_progress

    with lasting_output() as output:
        progress = make_progress()
        try:
            trainer = _resume(arguments, progress) if arguments.resume else _begin(arguments, progress)
            progress.print(trainer.summary())
            code, closing = _train(trainer)
        finally:
            progress.stop()
        output.close(closing)
    return code


def _train(trainer: Trainer) -> tuple[int, str]:
    """Train and measure; the exit code and the closing message."""
    try:
        if trainer.train():
            return 0, trainer.finish()
        return trainer.interruption.exit_code, trainer.stopped_message()
    except KeyboardInterrupt:  # a second Ctrl-C, or one after training
        return INTERRUPTED, trainer.broken_off_message()


def _begin(arguments: argparse.Namespace, progress: Progress) -> Trainer:
    """The trainer of a new run."""
    from ..data import train_tokenizers
    from ..runs.config import find_config, load_config
    from ..runs.fitted import load_fitted_config
    from ..runs.folder import Run
    from ..runs.quick import QUICK, load_quick_config
    from ..training.trainer import Trainer

    settings, imports = overrides(arguments), arguments.imports
    if arguments.data and not arguments.config:
        config, text, fitted = load_fitted_config(settings, imports, QUICK if arguments.quick else {})
        progress.print(fitted.describe())
    else:
        path = find_config(arguments.config) if arguments.config else None
        config = (load_quick_config if arguments.quick else load_config)(path, settings, imports)
        text = config.data.load()
    run = Run(arguments.out or _new_folder(text.name, config.model.name), config, *train_tokenizers(text, config.data))
    progress.print(text.summary())
    trainer = Trainer(run, text, progress)
    run.create()
    return trainer


def _resume(arguments: argparse.Namespace, progress: Progress) -> Trainer:
    """The trainer of a run that was stopped, at its last checkpoint."""
    from ..runs.folder import LAST, Run
    from ..training.trainer import Trainer

    names = ("config", "set", "data", "source", "target", "out", "quick")
    given = [f"--{name}" for name in names if getattr(arguments, name)]
    if given:
        raise CommandError(f"--resume continues a run with its own settings; leave out {' and '.join(given)}")
    run, arrays, position = Run.open(arguments.resume, LAST)
    text = run.config.data.load()
    progress.print(text.summary())
    trainer = Trainer(run, text, progress)
    trainer.resume(arrays, position)
    return trainer


def _new_folder(data: str, model: str) -> Path:
    """``runs/data-model``, with a number if there is one already."""
    first = Path("runs") / f"{data}-{model}"
    number, folder = 1, first
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    return folder
