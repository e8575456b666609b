"""Train a model; without options, one that reads dates in English and Korean."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..console.counts import counted
from ..console.errors import INTERRUPTED, CommandError
from ..console.program import command_line
from .options import add_data, is_text, overrides, path_name, refuse_other_data

if TYPE_CHECKING:
    from ..console.progress import Progress
    from ..runs.config import Config
    from ..runs.folder import Run
    from ..training.trainer import Trainer

NEEDS = ("filelock", "matplotlib", "rich", "safetensors", "tomli_w")
ON_RANKS = True


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
        "--resume",
        metavar="RUN",
        type=path_name,
        help="continue a run that was stopped, or with --set training.epochs=N one that has ended; --data if its text "
        "has moved",
    )
    parser.add_argument(
        "--from",
        metavar="RUN",
        type=path_name,
        dest="origin",
        help="begin a new run from the best weights, symbols and settings of another, or of demo:NAME",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a short run that shows every step, too short to learn much"
    )


def run(arguments: argparse.Namespace) -> int:
    """See `parser.Command`."""
    from ..console.output import lasting_output
    from ..console.progress import make_progress
    from ..training.logbook import Logbook

    with lasting_output() as output:
        log = Logbook(make_progress())
        try:
            trainer = _resume(arguments, log) if arguments.resume else _begin(arguments, log)
            log.write_to(trainer.run)
            log.print(trainer.summary())
            code, closing = _train(trainer)
        finally:
            log.stop()
        log.note(closing)
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
    from ..data import ParallelText, PlainText, train_tokenizers
    from ..runs.config import find_config, load_config
    from ..runs.fitted import load_fitted_config
    from ..runs.folder import Run
    from ..runs.quick import QUICK, QUICK_SYMBOLS, load_quick_config
    from ..training.trainer import Trainer

    if arguments.origin:
        return _begin_from(arguments, progress)
    settings, imports = overrides(arguments), arguments.imports
    text: ParallelText | PlainText
    if arguments.data and not arguments.config and not is_text(arguments.data):
        config, text, fitted = load_fitted_config(
            settings, imports, *((QUICK, QUICK_SYMBOLS) if arguments.quick else ())
        )
        progress.print(fitted.describe())
    else:
        name = arguments.config or ("gpt" if arguments.data else "")
        path = find_config(name) if name else None
        if path:
            refuse_other_data(name, path, arguments)
        config = (load_quick_config if arguments.quick else load_config)(path, settings, imports)
        _print_defaults(progress, config, settings)
        text = config.data.load()
    folder = arguments.out or _new_folder(text.name, config.model.name)
    run = Run(folder, config, *train_tokenizers(text, config.data))
    progress.print(text.summary())
    trainer = Trainer(run, text, progress)
    trainer.ranks.of_first(run.create)
    return trainer


def _begin_from(arguments: argparse.Namespace, progress: Progress) -> Trainer:
    """The trainer of a new run that begins with the weights of another."""
    from ..demos import folder_of
    from ..runs.config import change
    from ..runs.continued import refuse_other_symbols
    from ..runs.folder import BEST, Run, RunError
    from ..training.trainer import Trainer

    _refuse(arguments, "--from takes the settings of another run", ("config", "quick"))
    origin, arrays, _ = Run.open(folder_of(arguments.origin), BEST)
    changes = _changes(arguments, origin)
    config = change(origin.config, changes)
    _print_defaults(progress, config, changes)
    refuse_other_symbols(origin, config)
    text = config.data.load()
    run = Run(arguments.out or _new_folder(text.name, config.model.name), config, origin.source, origin.target)
    progress.print(text.summary())
    trainer = Trainer(run, text, progress)
    try:
        origin.restore(trainer.model, arrays)
    except RunError as error:
        names = [setting.partition("=")[0].strip() for setting in changes]
        if other := [name for name in names if name.startswith("model.")]:
            raise CommandError(
                f"the weights of {origin.directory} do not fit a model with {' and '.join(other)} as given; leave that "
                "out, or train without --from"
            ) from error
        raise
    progress.print(f"begins with the weights of {origin.directory}; {trainer.describe_schedule()}")
    trainer.ranks.of_first(run.create)
    return trainer


def _resume(arguments: argparse.Namespace, progress: Progress) -> Trainer:
    """The trainer of a run that was stopped, at its last checkpoint."""
    from ..demos import folder_of, is_demo
    from ..runs.config import differences
    from ..runs.continued import continued, refuse_edited
    from ..runs.folder import LAST, Run
    from ..training.trainer import Trainer

    _refuse(arguments, "--resume continues a run with its own settings", ("config", "origin", "out", "quick"))
    if is_demo(Path(folder_of(arguments.resume))):
        again = command_line("train", "--from", arguments.resume)
        raise CommandError(f"{arguments.resume} ships with the package, and has ended; to train on from it: {again}")
    run, arrays, position = Run.open(arguments.resume, LAST)
    refuse_edited(run)
    before: Config = run.config
    run.config = continued(run, _changes(arguments, run))
    text = run.config.data.load()
    progress.print(text.summary())
    trainer = Trainer(run, text, progress)
    trainer.resume(arrays, position)
    changed = differences(before, run.config)
    if any(name.startswith("training.") for name in changed):
        if trainer.finished:
            done = f"{counted(trainer.position.epoch, 'epoch')} and {counted(trainer.position.step, 'step')}"
            raise CommandError(f"{done} are done, so with these settings training is over; raise training.epochs")
        progress.print(f"changed: {_describe(changed)}; {trainer.describe_schedule()}")
    return trainer


def _refuse(arguments: argparse.Namespace, reason: str, names: Sequence[str]) -> None:
    """Raise if one of these arguments is given."""
    given = [f"--{'from' if name == 'origin' else name}" for name in names if getattr(arguments, name)]
    if given:
        raise CommandError(f"{reason}; leave out {' and '.join(given)}")


def _changes(arguments: argparse.Namespace, run: Run) -> list[str]:
    """The settings that --set and --data give for a run that is there; its languages hold if none are given."""
    if not hasattr(run.config.data, "directory") or is_text(arguments.data):
        return overrides(arguments)
    languages = {name: getattr(arguments, name) or getattr(run.config.data, name) for name in ("source", "target")}
    return overrides(argparse.Namespace(**{**vars(arguments), **(languages if arguments.data else {})}))


def _print_defaults(progress: Progress, config: Config, given: Sequence[str]) -> None:
    """A note of the settings that a model has by default, if --set has chosen the model."""
    names = {setting.partition("=")[0].strip() for setting in given}
    fields = {f"model.{field.name}": field for field in config.model.fields() if field.name != "name"}
    values = {name: getattr(config.model, field.name) for name, field in fields.items() if name not in names}
    taken = [f"{name}={value}" for name, value in values.items() if value == fields[name].default]
    if "model.name" in names and taken:
        progress.print(
            f"Note: --set model.name={config.model.name} takes that model's defaults: {' '.join(taken)}; --set changes "
            f"them, too, and this explains them: {command_line('settings', config.model.name)}"
        )


def _describe(changed: Mapping[str, tuple[object, object]]) -> str:
    return ", ".join(f"{name} from {before} to {after}" for name, (before, after) in changed.items())


def _new_folder(data: str, model: str) -> Path:
    """``runs/data-model``, with a number if there is one already."""
    from ..parallel.ranks import current

    def find() -> Path:
        first = Path("runs") / f"{data}-{model}"
        number, folder = 1, first
        while folder.exists():
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        return folder

    return current().of_first(find)
