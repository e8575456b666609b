"""What is planned: a config's training or a workload's step, with batches of any size."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinygrad_attn import Tensor, nn, optim

from ..console.progress import PlainProgress
from ..data import Batch, PairBatch, train_tokenizers
from ..runs.config import Config, change
from ..runs.folder import BEST, LAST, Run
from ..training.trainer import Trainer
from .bench import TrainingStep
from .counts import Size
from .profile import find_config_of
from .workloads import RandomBatch, RandomText

__all__ = ["ConfigSubject", "Subject", "WorkloadSubject", "find_run", "find_subject", "new_run", "resized", "size_of"]


class Subject(Protocol):
    """A model, its optimiser, and the batches that it is trained on. Nothing is written, and the weights are lost."""

    name: str

    @property
    def model(self) -> nn.Module:
        """What is trained, in training mode."""
        ...

    optimizer: optim.Adam
    unit: str
    """What a row of a batch is, as in "pairs"."""
    epochs: int
    """Of the whole training; 0 for a workload, which has none."""
    captured: bool
    """Whether steps whose shapes recur run from a program."""

    def groups(self, epoch: int) -> Iterator[list[Batch]]:
        """The batches of each step of an epoch."""
        ...

    def count(self, epoch: int) -> int:
        """How many steps an epoch has."""
        ...

    def step(self, *batches: Batch) -> object:
        """Take a step."""
        ...

    def forget(self) -> None:
        """Drop the programs of all shapes."""
        ...

    def measuring(self, batches: int) -> tuple[Callable[[], object], float]:
        """What measures the model as after an epoch, on so many batches, and the share of all that these are."""
        ...


class ConfigSubject:
    """The training of a config, as `models.training.trainer` does it."""

    def __init__(self, name: str, run: Run) -> None:
        text = run.config.data.load()
        settings = run.config.training
        self.name = name
        self._trainer = Trainer(run, text, PlainProgress())
        self.model = self._trainer.model
        self.model.train()
        self.optimizer = self._trainer.optimizer
        self.unit = {"pairs": "pairs", "text": "windows"}[run.config.data.gives]
        self.epochs = settings.epochs
        self.captured = settings.capture and settings.teacher_forcing == 1.0
        self.train_batches, self.validation = self._trainer.train_batches, self._trainer.validation

    def groups(self, epoch: int) -> Iterator[list[Batch]]:
        """See `Subject`."""
        return self._trainer.groups(epoch)

    def count(self, epoch: int) -> int:
        """See `Subject`."""
        return -(-self._trainer.train_batches.count(epoch) // self._trainer.group)

    def step(self, *batches: Batch) -> object:
        """See `Subject`."""
        return self._trainer.step(*batches)

    def forget(self) -> None:
        """See `Subject`."""
        self._trainer.gradients.captured.programs.clear()

    def measuring(self, batches: int) -> tuple[Callable[[], object], float]:
        """See `Subject`."""
        part, share = self.validation.part(batches * self._trainer.run.config.decoding.batch_size)
        return lambda: part.row(self.model), share


class WorkloadSubject:
    """The step of a workload, always on one batch."""

    epochs = 0
    captured = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._step = TrainingStep(name)
        self.model, self.optimizer = self._step.model, self._step.optimizer
        self.unit = "windows" if isinstance(self._step.batch, RandomText) else "pairs"
        self._batch = _as_batch(self._step.batch)

    def groups(self, epoch: int) -> Iterator[list[Batch]]:
        """See `Subject`."""
        return iter([[self._batch]])

    def count(self, epoch: int) -> int:
        """See `Subject`."""
        return 1

    def step(self, *batches: Batch) -> object:
        """See `Subject`."""
        (batch,) = batches
        read, said = Tensor(batch.target_in), Tensor(batch.target_out)
        if isinstance(batch, PairBatch):
            self._step.batch = RandomBatch(Tensor(batch.source), read, said, Tensor(batch.source_mask))
        else:
            self._step.batch = RandomText(read, said)
        return self._step()

    def forget(self) -> None:
        """See `Subject`."""
        self._step.programs.clear()

    def measuring(self, batches: int) -> tuple[Callable[[], object], float]:
        """See `Subject`; a workload has no epochs."""
        return lambda: None, 1.0


def _as_batch(random: RandomBatch | RandomText) -> Batch:
    read, said = random.target_in.array, random.target_out.array
    shared: dict[str, Any] = {
        "target_in": read, "target_out": said, "target_mask": np.ones(read.shape, dtype=bool),
        "indices": np.arange(len(read)), "target_tokens": read.size,
    }  # fmt: skip
    if isinstance(random, RandomText):
        return Batch(**shared)
    return PairBatch(source=random.source.array, source_mask=random.source_mask.array, **shared)


def find_subject(name: str, overrides: Sequence[str] = ()) -> Subject:
    """What is planned, by its name; errors as of `find_run`, and

    Raises:
        TooLargeError: the machine's memory does not hold the training.
    """
    run = find_run(name, overrides)
    return WorkloadSubject(name) if run is None else ConfigSubject(name, run)


def find_run(name: str, overrides: Sequence[str] = ()) -> Run | None:
    """The run that would be trained, by its name; None for a workload.

    Args:
        name: a workload of bench, a config of the package, a TOML file, or a run folder.
        overrides: of the config, as ``"section.key=value"``.

    Raises:
        ProfileError: unknown name, or overrides given for a workload.
        ConfigError, DataError, TrainingError, RunError: the config has a mistake, its data or the run cannot be read.
    """
    if (Path(name) / BEST).is_file() or (Path(name) / LAST).is_file():
        return _of_folder(name, overrides)
    found = find_config_of(name, overrides)
    return None if found is None else new_run(found)


def new_run(config: Config) -> Run:
    """A run of a config, which is not written."""
    return Run("", config, *train_tokenizers(config.data.load(), config.data))


def _of_folder(name: str | os.PathLike[str], overrides: Sequence[str]) -> Run:
    """A run with the settings and symbols of that in a folder, and nothing of its weights."""
    checkpoint = BEST if (Path(name) / BEST).is_file() else LAST
    run, _, _ = Run.open(name, checkpoint)
    return Run("", change(run.config, overrides), run.source, run.target)


# -- batches of other sizes --------------------------------------------------------------------------------------------


def size_of(batch: Batch) -> Size:
    """The shape of a batch."""
    rows, target = batch.target_in.shape
    return Size(rows, batch.source.shape[1] if isinstance(batch, PairBatch) else 0, target)


def resized(batch: Batch, size: Size) -> Batch:
    """A batch of some size, without padding, whose symbols come from another."""
    shape = size.rows, size.target
    changed: dict[str, Any] = {
        name: np.resize(getattr(batch, name)[batch.target_mask], shape) for name in ("target_in", "target_out")
    }
    changed |= {"target_mask": np.ones(shape, dtype=bool), "indices": np.resize(batch.indices, size.rows)}
    if isinstance(batch, PairBatch):
        source = np.resize(batch.source[batch.source_mask], (size.rows, size.source))
        changed |= {"source": source, "source_mask": np.ones(source.shape, dtype=bool)}
    return dataclasses.replace(batch, **changed, target_tokens=size.rows * size.target)
