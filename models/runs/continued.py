"""What a run may change when it is continued, and what must be as it was: its text, and its settings in the folder."""

from __future__ import annotations

from collections.abc import Iterable

from ..console.counts import counted
from ..console.program import command_line
from ..data import ParallelText, PlainText
from ..data.task import SYMBOL_SETTINGS
from .config import Config, change, differences
from .folder import CONFIG, Run, RunError

__all__ = ["continued", "refuse_edited", "refuse_other_symbols", "refuse_other_text"]

# Beside these, all settings of training and decoding may change: they matter to steps yet to be taken.
_FIXED = (
    "training.seed", "training.batch_type", "training.batch_size", "training.gradient_accumulation_steps"
)  # fmt: skip
_DECAY = "training.weight_decay"  # with one AdamW keeps its state of matrices apart; without, Adam that of all
_MOVED = ("data.file", "data.directory", "data.source", "data.target")


def continued(run: Run, overrides: Iterable[str]) -> Config:
    """The config of a run, changed by ``section.key=value`` for a continuation.

    Raises:
        ConfigError: an unknown setting, or a value that it cannot have.
        RunError: a setting that the weights or the order of the batches depend on.
    """
    changed = change(run.config, overrides)
    for name, (before, after) in differences(run.config, changed).items():
        section = name.partition(".")[0]
        fixed = name in _FIXED or (section not in ("training", "decoding") and name not in _MOVED)
        if fixed or (name == _DECAY and bool(before) != bool(after)):
            which = "cannot change" if fixed else f"cannot change from {before:g} to {after:g}"
            raise RunError(
                f"{name} {which} when {run.directory} is continued; begin a new run from its weights, with "
                f"{command_line('train', '--from', run.directory)}"
            )
    return changed


def refuse_edited(run: Run) -> None:
    """Raise if somebody has edited the run's ``config.toml``: the settings that count are in its checkpoint.

    Raises:
        RunError: it names the settings.
    """
    if edited := run.edited():
        resume = command_line("train", "--resume", run.directory, "--set", "SECTION.KEY=VALUE")
        raise RunError(
            f"{run.directory / CONFIG} was edited: {edited}; undo that, or remove the file, which is written again; to "
            f"go on with other settings: {resume}"
        )


def refuse_other_symbols(origin: Run, config: Config) -> None:
    """Raise if a config that takes the weights of another run would make other symbols of text.

    Raises:
        RunError: it names the settings.
    """
    wrong = [f"data.{name}" for name in SYMBOL_SETTINGS if _symbols(origin.config, name) != _symbols(config, name)]
    if wrong:
        raise RunError(f"the weights of {origin.directory} are for its own symbols; leave out {' and '.join(wrong)}")


def _symbols(config: Config, name: str) -> object:
    """A setting by which text becomes symbols; None if the task has no such setting."""
    return getattr(config.data, name, None)


def refuse_other_text(run: Run, text: ParallelText | PlainText) -> None:
    """Raise if the text is not the one that the run began with; a run that does not know its text yet remembers it.

    Raises:
        RunError: it names the splits.
    """
    found = text.fingerprints()
    if not run.data:
        run.data = found
        return
    changed = [
        f"{split} has {counted(found[split].pairs, text.unit)}, {known.pairs:,} then"
        if found[split].pairs != known.pairs
        else f"{split} has {counted(known.pairs, text.unit)} as then, but others, or in another order"
        for split, known in run.data.items()
        if found[split] != known
    ]
    if changed:
        data = "FOLDER" if isinstance(text, ParallelText) else "FILE"
        raise RunError(
            f"the text is not the one that {run.directory} began with: {'; '.join(changed)}; restore it, or "
            f"say where it is with --data {data}; to train on other text, begin a new run from these weights: "
            f"{command_line('train', '--from', run.directory, '--data', data)}"
        )
