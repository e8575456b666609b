"""Run: the folder of one training run, with its settings, weights, log and results.

========================  ============================================================================================
``config.toml``           the settings of its model, its task, training and decoding; a copy, to be read
``run.json``              command, seed, versions, commit, and the final figures
``log.csv``               one line an epoch
``tensorboard/``          the same for TensorBoard, if ``training.tensorboard`` asks for it
``steps.csv``             one line a step: loss, learning rate, the gradient's norm
``train.log``             what training has printed
``clock.json``            how long training has taken
``best.safetensors``      the weights of the best epoch; config, tokenizers and the text's fingerprint
                          as JSON within
``last.safetensors``      the latest weights, the optimiser's state, and the position in training, for ``--resume``
``epoch-N.safetensors``   the weights after epoch N, for an average
``step-N.safetensors``    the weights after N steps, if ``training.keep_checkpoints`` keeps them (see ``kept``)
``learning_curve.png``    loss and accuracy by epoch
``attention.png``         the attention weights of a few sentences, if the model has attention
``evaluation.json``       the results of evaluate, by split: test, valid
``bleu_by_length_S.png``  its BLEU by source length on the split S
``.lock``                 held by a process while it trains
========================  ============================================================================================

Every file is written atomically: a crash leaves the old file whole.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec

import numpy as np

from tinygrad_attn.atomic import atomic_path, leftovers
from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.nn import count_parameters
from tinygrad_attn.serialize import load_file, save_file

from ..console.errors import UserError
from ..console.program import command_line
from ..data import DataError, Tokenizer, tokenizer_from_dict
from ..data.corpus import Fingerprint
from ..interface import LanguageModel
from ..memory import machine_memory, readable, refuse_beyond_memory
from ..parallel.ranks import current
from ..registry import IMPORTED, MODELS, import_file
from .clock import CLOCK
from .config import Config, ConfigError, differences, load_config
from .jsons import checked_json, parse_json, read_json
from .versions import versions

__all__ = ["Run", "RunError"]

Arrays = dict[str, np.ndarray[Any, Any]]
Side = Literal["source", "target"]
P = ParamSpec("P")

BEST, LAST, CONFIG = "best.safetensors", "last.safetensors", "config.toml"
STEPS, PRINTED, _LOCK = "steps.csv", "train.log", ".lock"
_BYTES = 4  # of a parameter or an activation
# One entry: safetensors writes several in an order of its own, and equal checkpoints would be different files.
_METADATA = "run"
_SHOWN = 3  # of many faults of a checkpoint
# What a run may leave that was stopped before its first checkpoint.
_BEFORE = {_LOCK, CLOCK, STEPS, PRINTED}


class RunError(UserError):
    """A run folder that cannot be used. The message names it and says what to do."""


def _of_the_writer(method: Callable[Concatenate[Run, P], None]) -> Callable[Concatenate[Run, P], None]:
    """A method that writes, which of several processes only the one that `Run.writes` carries out."""

    @functools.wraps(method)
    def carried_out(run: Run, *arguments: P.args, **options: P.kwargs) -> None:
        if run.writes:
            method(run, *arguments, **options)

    return carried_out


class Run:
    """A run: its folder, which `create` makes and `open` reads, its config, and its two tokenizers."""

    def __init__(self, directory: str | os.PathLike[str], config: Config, source: Tokenizer, target: Tokenizer) -> None:
        self.directory = Path(directory)
        self.config = config
        self.source = source
        self.target = target
        self.data: dict[str, Fingerprint] = {}
        """The fingerprint of each split that it is trained on; empty if it is not known."""
        self._held: tuple[int, int] | None = None

    @property
    def writes(self) -> bool:
        """Whether this process writes into the folder, as of several that share a run the first alone does."""
        return current().first

    @_of_the_writer
    def create(self) -> None:
        """Make the folder.

        Raises:
            RunError: the folder holds files already, or cannot be made.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            found = {path.name for path in self.directory.iterdir()}
            occupied = found - _BEFORE - {path.name for path in leftovers(self.directory)}
        except OSError as error:
            raise RunError(f"the run folder {self.directory} cannot be made: {error.strerror}") from error
        if occupied:
            resumable = LAST in found
            hint = f"continue it with: {command_line('train', '--resume', self.directory)}; or " if resumable else ""
            raise RunError(f"{self.directory} is not empty; {hint}name another folder with --out")

    @_of_the_writer
    def describe(self) -> None:
        """Write ``config.toml`` and ``run.json`` where they are missing, and remove temporary files.

        A process that is killed while it writes a file leaves a part of it under a temporary name.
        """
        for path in leftovers(self.directory):
            path.unlink()
        if not (self.directory / CONFIG).exists():
            if (self.directory / BEST).exists():
                best, arrays, progress = Run.open(self.directory, BEST)
                if best.config != self.config:
                    self.save(BEST, arrays, progress)
            self.write_text(CONFIG, self.config.to_toml())
        if not (self.directory / "run.json").exists():
            about = {"command": sys.argv, "seed": self.config.training.seed, "versions": versions()}
            self.write_json("run.json", about)

    @_of_the_writer
    def drop_other_config(self) -> None:
        """Remove a ``config.toml`` with other settings; `describe` writes it anew, after a checkpoint."""
        if self.edited():
            (self.directory / CONFIG).unlink()

    def edited(self) -> str:
        """The settings that ``config.toml`` has otherwise than the run, in words; empty if there are none."""
        path = self.directory / CONFIG
        if not path.exists():
            return ""
        try:
            found = differences(load_config(path), self.config)
        except ConfigError as error:
            return str(error)
        return ", ".join(f"{name} ({there!r} there, {own!r} in the run)" for name, (there, own) in found.items())

    @context
    def held(self) -> Iterator[None]:
        """Keep other processes from training in the folder while the block runs, or until this one is killed.

        Raises:
            RunError: another process trains in the folder.
        """
        import filelock

        lock = filelock.FileLock(self.directory / _LOCK, blocking=False)

        def acquire() -> None:
            try:
                lock.acquire()
            except filelock.Timeout:
                raise RunError(
                    f"another process is training in {self.directory}; wait for its end, or stop it with Ctrl-C, and "
                    f"then continue with: {command_line('train', '--resume', self.directory)}"
                ) from None
            self._held = _identity(self.directory)

        with undone_by(lock.release):
            current().of_first(acquire)
            yield

    @classmethod
    def open(cls, directory: str | os.PathLike[str], checkpoint: str) -> tuple[Run, Arrays, dict[str, Any]]:
        """The run in a folder, the arrays of one of its checkpoints, and that checkpoint's position in training.

        Raises:
            RunError: no such folder, no such checkpoint, or one that is damaged.
        """
        directory = Path(directory)
        path = directory / checkpoint
        if not path.is_file():
            raise RunError(_missing(directory, checkpoint))
        try:
            arrays, metadata = load_file(path)
        except ValueError as error:
            raise RunError(str(error)) from error
        try:
            about = parse_json(metadata[_METADATA])
            _import_again(about.get("imports", {}), directory)
            config = Config.from_dict(about["config"])
            source = tokenizer_from_dict(about["source_tokenizer"])
            target = tokenizer_from_dict(about["target_tokenizer"])
            progress = about["progress"]
            data = {split: Fingerprint(**known) for split, known in about.get("data", {}).items()}
        except ConfigError as error:
            raise RunError(f"{path} does not fit this version of the program: {error}") from error
        except KeyError as error:
            raise RunError(f"{path} is no checkpoint of this program: it lacks {error}") from error
        except ValueError as error:
            raise RunError(f"{path} is no checkpoint of this program: {error}") from error
        except (TypeError, AttributeError, IndexError, RecursionError) as error:
            raise RunError(f"{path} is no checkpoint of this program: its description is damaged") from error
        run = cls(directory, config, source, target)
        run.data = data
        return run, arrays, progress

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> tuple[Run, LanguageModel]:
        """The run in a folder, and its best model, ready for use; a note if ``config.toml`` was edited.

        Raises:
            RunError: no such folder, or a checkpoint that is missing or damaged.
        """
        run, arrays, _ = cls.open(directory, BEST)
        if edited := run.edited():
            warnings.warn(
                f"the run keeps its own settings: {run.directory / CONFIG} was edited: {edited}", stacklevel=3
            )
        model = run.build()
        run.restore(model, arrays)
        return run, model.eval()

    def build(self) -> LanguageModel:
        """A new model for this run's config and tokenizers.

        Raises:
            TooLargeError: it does not fit into the machine's memory.
        """
        self.refuse_too_large()
        return self.build_without_check()

    def build_without_check(self) -> LanguageModel:
        """`build`, however large the model is."""
        return MODELS[self.config.model.name].from_settings(self.config.model, len(self.source), len(self.target))

    def refuse_too_large(self, copies: int = 1, more: int = 0) -> None:
        """Raise if ``copies`` of the model's parameters, and ``more`` bytes, are more than the machine's memory.

        Raises:
            TooLargeError: they are; the message has the number of parameters.
        """
        count = count_parameters(self.build_without_check)
        weights, settings = _BYTES * copies * count, self.config.model
        large = [
            f"{settings.section}.{field.name} {getattr(settings, field.name):,}"
            for field in settings.fields()
            if settings.types()[field.name] is int and getattr(settings, field.name) > field.default
        ]
        if more > weights:
            large = [f"training.batch_size {self.config.training.batch_size:,}", *large]
        refuse_beyond_memory(
            weights + more,
            f"a model of {count:,} parameters" + (" and its training" if copies > 1 else ""),
            f"lower {' or '.join(large) or 'data.vocabulary_size'}",
        )

    def too_long(self, length: int, side: Side) -> str:
        """What to say of a sentence of this many symbols that the model cannot read; empty if it can.

        Args:
            length: the number of its ids, without the ``<s>`` before a target.
            side: "source", or "target" for one that the decoder reads (teacher forcing).
        """
        settings = self.config.model
        most = settings.longest_source() if side == "source" else settings.longest_target()
        needed = _BYTES * length * settings.activations() // 2  # half of what training keeps
        if needed > machine_memory():
            return (
                f"has {length:,} symbols, and reading it would take about {readable(needed)} of memory; there are "
                f"{readable(machine_memory())}; split it"
            )
        if most is None or length <= most:
            return ""
        enough = getattr(settings, "max_length", most) + length - most
        return (
            f"has {length:,} symbols, but this model reads {most:,} at most; shorten it, or train one with "
            f"--set model.max_length={enough}"
        )

    def refuse_too_long(
        self,
        sources: Iterable[Sequence[int]],
        targets: Iterable[Sequence[int]] = (),
        where: Callable[[Side, int], str] = lambda side, number: f"{side} {number + 1}",
    ) -> None:
        """Raise if a sentence is too long for the model.

        Args:
            sources: ids.
            targets: ids that the decoder reads, without the ``<s>`` before them.
            where: the name of a sentence, by its side and number.

        Raises:
            DataError: a sentence is too long for the model; the message names the longest.
        """
        sides: tuple[tuple[Side, Iterable[Sequence[int]]], ...] = (("source", sources), ("target", targets))
        for side, sentences in sides:
            lengths = list(map(len, sentences))
            longest = max(range(len(lengths)), key=lengths.__getitem__, default=None)
            if longest is not None and (problem := self.too_long(lengths[longest], side)):
                others = sum(bool(self.too_long(length, side)) for length in lengths) - 1
                more = f" ({others:,} more {'is' if others == 1 else 'are'} too long)" if others else ""
                raise DataError(f"{where(side, longest)} {problem}{more}")

    def restore(self, model: LanguageModel, arrays: Mapping[str, Any]) -> None:
        """Give the model the weights of a checkpoint.

        Raises:
            RunError: they do not fit the model, or are not numbers that it can have.
        """
        self.refuse_bad_numbers(arrays, {name: tensor.array for name, tensor in model.state_dict().items()})
        try:
            model.load_state_dict(arrays)
        except ValueError as error:
            wrong = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            listed = ", ".join(wrong[:_SHOWN]) + more
            raise RunError(f"the weights in {self.directory} do not fit the model: {listed}") from error

    def refuse_bad_numbers(self, arrays: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """Raise if an array of a checkpoint has another dtype than the one of its name in ``expected``, or nan or inf.

        Raises:
            RunError: it names the array.
        """
        for name in arrays.keys() & expected.keys():
            found, right = np.asarray(arrays[name]), np.asarray(expected[name]).dtype
            if found.dtype != right:
                problem = f"is {found.dtype}, expected {right}"
            elif not np.isfinite(found).all():
                problem = f"has {np.sum(~np.isfinite(found)):,} of {found.size:,} values that are nan or infinite"
            else:
                continue
            raise RunError(f"a checkpoint in {self.directory} cannot be used: {name} {problem}; use another checkpoint")

    @_of_the_writer
    def save(self, checkpoint: str, arrays: Mapping[str, Any], progress: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint that ``open`` reads back."""
        about = {
            "config": self.config.to_dict(),
            **({"imports": {path: IMPORTED[path] for path in self.config.imports}} if self.config.imports else {}),
            "source_tokenizer": self.source.to_dict(),
            "target_tokenizer": self.target.to_dict(),
            "progress": progress or {},
            **({"data": {name: dataclasses.asdict(one) for name, one in self.data.items()}} if self.data else {}),
        }
        save_file(arrays, self.to_write(checkpoint), {_METADATA: json.dumps(about)})

    def write_log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rewrite ``log.csv``, with one line for each row; all rows have the same keys."""
        content = io.StringIO()
        writer = csv.DictWriter(content, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text("log.csv", content.getvalue())

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """A JSON file in the folder, with a checksum."""
        self.write_text(name, checked_json(values))

    @_of_the_writer
    def write_text(self, name: str, content: str) -> None:
        """A text file in the folder."""
        with atomic_path(self.to_write(name)) as path:
            path.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")

    @_of_the_writer
    def remove(self, name: str) -> None:
        """Remove a file from the folder, if it is there."""
        (self.directory / name).unlink(missing_ok=True)

    def to_write(self, name: str) -> Path:
        """The path of a file in the folder.

        Raises:
            RunError: the folder was renamed or removed since training has held it.
        """
        if self._held not in (None, _identity(self.directory)):
            raise RunError(
                f"the run folder {self.directory} was renamed or removed during training; if it was renamed, continue "
                f"from its last checkpoint under the new name: {command_line('train', '--resume', 'RUN')}"
            )
        return self.directory / name

    @_of_the_writer
    def add_results(self, results: Mapping[str, Any]) -> None:
        """Add the final figures to ``run.json``.

        Raises:
            RunError: the file is damaged, or the folder was renamed or removed.
        """
        path = self.to_write("run.json")
        try:
            about = read_json(path)
        except ValueError as error:
            resume = command_line("train", "--resume", self.directory)
            raise RunError(f"{path} is damaged: {error}; remove it; this command writes it again: {resume}") from error
        self.write_json("run.json", {**about, "results": dict(results)})


def _import_again(fingerprints: Mapping[str, str], directory: Path) -> None:
    """Import the user's files that a run needs, and warn if one has changed since."""
    for path, fingerprint in fingerprints.items():
        try:
            import_file(path)
        except ConfigError as error:
            raise RunError(f"{directory} needs a file that it was trained with: {error}") from error
        if IMPORTED[path] != fingerprint:
            warnings.warn(f"{path} has changed since {directory} was trained with it", stacklevel=3)


def _identity(directory: Path) -> tuple[int, int] | None:
    """What stays the same of a folder when it is renamed; None if there is none of this name."""
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _missing(directory: Path, checkpoint: str) -> str:
    if not directory.exists():
        return f"there is no run folder {directory}"
    if not directory.is_dir():
        return f"{directory} is a file, not a run folder"
    if checkpoint == BEST and (directory / "log.csv").exists():
        return f"{directory} has no {BEST}, though an epoch was finished: the file was removed; train a new run"
    if checkpoint == BEST and (directory / LAST).exists():
        resume = command_line("train", "--resume", directory)
        return f"{directory} has no {BEST}: no epoch is finished yet; continue with: {resume}"
    if checkpoint not in (BEST, LAST):
        return f"{directory} has no {checkpoint}: the file was removed"
    if checkpoint == LAST and {path.name for path in directory.iterdir()} & _BEFORE:
        begin = command_line("train", "--out", directory)
        return f"training in {directory} was stopped before its first checkpoint; begin it again, with: {begin}"
    return f"{directory} is no run folder: it has no {checkpoint}"
