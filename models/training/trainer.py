"""Trainer: the training loop, with validation after each epoch, checkpoints and --resume.

The whole state of training is in one file, ``last.safetensors``, which is replaced atomically: a process that is killed
at any moment loses only the steps since the last checkpoint. Training that continues from it takes exactly the steps
that it would have taken without the interruption.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import random
from tinygrad_attn.kernels.runtime.ahead import first_run
from tinygrad_attn.nn.utils import NonFiniteGradientError

from ..console.counts import counted
from ..console.program import command_line
from ..console.progress import Progress
from ..data import Batch, ParallelText, PlainText
from ..parallel.ranks import current
from ..runs.clock import CLOCK, Clock
from ..runs.continued import refuse_other_text
from ..runs.folder import BEST, LAST, Run, RunError
from . import tensorboard
from .continuation import Continuation
from .divergence import TrainingError, advise_against_divergence
from .estimate import build_model, refuse_too_large
from .goal import Goal
from .gradients import Gradients
from .interruption import Interruption
from .keeping import Keeping
from .optimizer import describe_schedule, make_optimizer, make_schedule
from .records import StepRecords
from .rescue import Rescue, note_of_deaths
from .translation import Translation

__all__ = ["Position", "Trainer", "TrainingError", "goal_of"]


@dataclass
class Position:
    """The position in training. Together with the weights and the optimiser's state it suffices to continue."""

    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches of the current epoch finished."""
    step: int = 0
    """Steps of the optimiser taken in all epochs."""
    loss: float = 0.0
    """The loss, summed over the target tokens of the current epoch."""
    correct: int = 0
    """Target tokens of the current epoch to which the model gave the highest probability."""
    tokens: int = 0
    """Target tokens of the current epoch."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The lines of ``log.csv``, without the columns of time."""
    random: dict[str, Any] = field(default_factory=dict)
    """The state of the package's generator."""
    skipped: int = 0
    """Steps of epochs that ``training.max_steps`` has ended before their end."""
    averaged: dict[str, Any] = field(default_factory=dict)
    """The line of ``log.csv`` that the average of the last epochs would have, if it is the best so far."""

    def __post_init__(self) -> None:
        counts = (self.epoch, self.batch, self.step, self.correct, self.tokens, self.skipped)
        rows = self.history if isinstance(self.history, list) else [self.history]
        rows = [*rows, self.averaged] if self.averaged else rows
        whole = all(type(count) is int and count >= 0 for count in counts)
        numbers = all(
            isinstance(row, dict) and "valid_loss" in row and all(type(value) in (int, float) for value in row.values())
            for row in rows
        )
        if not (whole and numbers and type(self.loss) in (int, float)):
            raise ValueError("its position in training is damaged")


class Trainer:
    """Trains the model of a run on pairs or on a text, from the beginning or, after ``resume``, from a checkpoint.

    Args:
        run: its folder, config and tokenizers.
        text: the pairs of the config's task, or its text.
        progress: displays the progress.

    Raises:
        TrainingError: the settings do not fit the number of steps.
        RunError: the text is not the one that the run began with.
        UserError: the settings ask for what the model does not have.
        DataError: there is nothing to train on, or a sentence of validation or test is too long for the model.
    """

    def __init__(self, run: Run, text: ParallelText | PlainText, progress: Progress) -> None:
        refuse_other_text(run, text)
        settings = run.config.training
        if settings.tensorboard:
            tensorboard.require()
        self.run = run
        self.settings = settings
        self.progress = progress
        self.interruption = Interruption()
        self.ranks = current()
        self.position = Position()
        self.clock = Clock()
        refuse_too_large(run)
        self.goal = goal_of(run, text)
        self.train_batches, self.validation = self.goal.batches, self.goal.validation
        refuse_too_large(run, self.train_batches)
        ta.manual_seed(settings.seed)
        self.model = build_model(run)
        self.goal.check(self.model)
        self.group = settings.gradient_accumulation_steps
        self.gradients = Gradients(self.model, settings, self.ranks)
        self.optimizer = make_optimizer(settings, self.model, self.ranks)
        self.records = StepRecords(run)
        self.keeping = Keeping(run, self.model)
        saves = run.writes and not settings.divided_moments  # which only all processes together have
        self.rescue = Rescue(self.ranks, self.save if saves else None, self._is_whole)
        self._compiles = self.ranks.size == 1  # the first step does; others' kernels too, if there are no other ranks
        self._plan()
        self.ranks.agree((run.config.to_toml(), run.data, self.steps), "settings or text")

    def _plan(self) -> None:
        """Count the steps of all epochs, and make the schedule for them."""
        steps, most = (
            self.train_batches.count_all(self.settings.epochs, self.group) - self.position.skipped,
            self.settings.max_steps,
        )
        self.steps = min(steps, most) if most else steps
        try:
            self.schedule = make_schedule(self.run.config, self.steps)
        except ValueError as error:
            raise TrainingError(f"training.warmup: {error}; lower it, or raise training.epochs") from error

    # -- the loop --------------------------------------------------------------------------------------------------

    def train(self) -> bool:
        """Train to the last epoch, until patience ends, or until Ctrl-C or another signal that asks to stop.

        Returns:
            Whether training is over. If not, `resume` continues with the same bits.

        Raises:
            TrainingError: the loss is no longer a number.
            RunError: another process trains in the run's folder.
        """
        stopping = "Stopping soon; Ctrl-C again stops at once."
        with (
            self.run.held(),
            self.interruption.awaited(lambda: self.progress.print(stopping)),
            self.rescue.watching(),
        ):
            self.run.drop_other_config()
            self.records.resume(self.position.step)
            self.save()  # so that a checkpoint to continue from exists from the start
            self.run.describe()
            self.keeping.begin(self.position.step, self.steps, self.progress)
            if self.ranks.size > 1 and (note := note_of_deaths(self.settings)):
                self.progress.print(note)
            self.ranks.going_on = f"go on with: {command_line('train', '--resume', self.run.directory)}"
            self.progress.start(self.position.step, self.steps)
            while not (self.finished or self._stopping):
                self._train_epoch()
                self.save()
                if not self._stopping:
                    self._finish_epoch()
            self.keeping.after(self.position.step, ended=self.finished)
        return not self._stopping

    @property
    def _stopping(self) -> bool:
        """Whether a signal has asked this process, or another of this run, to stop; all give the same answer."""
        if stopping := self.ranks.any(self.interruption.requested):
            self.interruption.requested = True
        return stopping

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, ``max_steps`` are taken, ``patience`` has ended, or an epoch is perfect."""
        patience, history = self.settings.patience, self.position.history
        over = self.validation.epochs_since_best(history) >= patience or self.validation.is_perfect(history)
        return (patience > 0 and over) or self.position.epoch >= self.settings.epochs or self._used_up

    @property
    def _used_up(self) -> bool:
        """Whether ``training.max_steps`` are taken."""
        return 0 < self.settings.max_steps <= self.position.step

    def _is_whole(self) -> bool:
        """Whether the weights are those after the steps that the position counts."""
        return self.optimizer.steps == self.position.step

    def _train_epoch(self) -> None:
        """Train on the remaining batches of the current epoch."""
        position = self.position
        saved = time.perf_counter()
        self.model.train()
        for batches in self.groups(position.epoch, position.batch):
            began = time.perf_counter()
            loss, correct, norm = self._first_step(batches) if self._compiles else self.step(*batches)
            tokens = sum(batch.target_tokens for batch in batches)
            position.batch += len(batches)
            position.loss += loss * tokens
            position.correct += correct
            position.tokens += tokens
            self.records.add(position.step + 1, position.epoch + 1, loss, self.optimizer.lr, norm, tokens)
            position.step += 1  # last: from here on the position is that of the weights
            ended = time.perf_counter()
            self.clock.batches += ended - began
            self.progress.advance(
                position.step, position.loss / position.tokens, position.correct / position.tokens, tokens
            )
            self.keeping.after(position.step)
            if self._stopping or self._used_up:
                return
            if self.ranks.any(0.0 < self.settings.checkpoint_seconds <= ended - saved):
                self.save()
                saved = time.perf_counter()

    def groups(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """The batches of each step of an epoch, from the batch ``start`` on; the last step may have fewer."""
        batches = self.train_batches.epoch(epoch, start=start)
        while group := list(itertools.islice(batches, self.group)):
            yield group

    def _first_step(self, batches: Sequence[Batch]) -> tuple[float, int, float]:
        self._compiles = False
        return first_run(lambda: self.step(*batches))

    def step(self, *batches: Batch) -> tuple[float, int, float]:
        """Take a training step on one batch, or on several as if they were one.

        Returns:
            The loss per target token, how many target tokens had the highest probability, and the gradient's norm.
        """
        self.optimizer.lr = self.schedule(self.position.step)
        self.optimizer.zero_grad()
        value, correct = self.gradients(batches, self.position.step)
        if not math.isfinite(value):
            advice = advise_against_divergence(self.settings)
            raise TrainingError(f"the loss became {value} at step {self.position.step + 1}; {advice}")
        try:
            norm = self.optimizer.step(clip_norm=self.settings.clip_norm or math.inf)  # infinity clips nothing
        except NonFiniteGradientError as error:
            advice = advise_against_divergence(self.settings)
            raise TrainingError(f"at step {self.position.step + 1}, {error}; {advice}") from None
        assert norm is not None
        return value, correct, norm

    def _finish_epoch(self) -> None:
        """Measure on the validation set, save the weights and the log, and show the examples."""
        position = self.position
        row = {
            "epoch": position.epoch + 1,
            "step": position.step,
            "train_loss": position.loss / position.tokens,
            "train_accuracy": position.correct / position.tokens,
            **self.validation.row(self.model),
        }
        if not math.isfinite(row["valid_loss"]):
            best = f"{BEST} has the best weights before; " if position.history else ""
            raise TrainingError(
                f"the validation loss became {row['valid_loss']} in epoch {position.epoch + 1}, its training loss was "
                f"{row['train_loss']:.4g}; {best}{advise_against_divergence(self.settings)}"
            )
        if self.validation.merit(row) > self._best():
            self.run.save(BEST, self.model.state_dict())
        self._keep_for_average()
        self.clock.finish_epoch(position.tokens)
        history = [*position.history, row]
        log = [row | times for row, times in zip(history, self.clock.epochs, strict=True)]
        self.run.write_log(log)
        if self.settings.tensorboard and self.run.writes:
            tensorboard.write_epoch(self.run.directory, log[-1])
        # Last, so that a process killed earlier repeats all of this.
        left = self.train_batches.count(position.epoch) - position.batch if self._used_up else 0
        skipped = position.skipped + -(-left // self.group)
        self.position = Position(
            epoch=position.epoch + 1, step=position.step, history=history, skipped=skipped, averaged=position.averaged
        )
        self.save()
        self.progress.print(self.goal.describe_epoch(log[-1]))
        self.progress.print(self.goal.show(self.model))

    def _best(self) -> tuple[float, float]:
        """The merit of the weights in ``best.safetensors``: of an epoch, or of an average."""
        averaged = [self.position.averaged] if self.position.averaged else []
        return self.validation.best([*self.position.history, *averaged])

    # -- the average -----------------------------------------------------------------------------------------------

    def _keep_for_average(self) -> None:
        """Write the weights of the epoch that ends, and remove those of the epoch that leaves the average."""
        count, epoch = self.settings.average, self.position.epoch
        if count > 1:
            self.run.save(_of_epoch(epoch), self.model.state_dict())
            self.run.remove(_of_epoch(epoch - count))

    def _try_average(self) -> None:
        """Average the weights of the last epochs, and keep the average if it is better than the best epoch."""
        last, count = self.position.epoch, min(self.settings.average, self.position.epoch)
        if count < 2 or self.position.averaged.get("epoch") == last:
            return
        epochs = []
        for epoch in range(last - count, last):
            try:
                epochs.append(Run.open(self.run.directory, _of_epoch(epoch))[1])
            except RunError as error:
                self.progress.print(f"Note: the average is without epoch {epoch + 1}: {error}")
        if len(epochs) < 2:
            return
        self.run.restore(self.model, _mean(epochs))
        figures = {"epoch": last, **self.validation.row(self.model)}
        which = f"the last {count} epochs" if len(epochs) == count else f"{len(epochs)} of the last {count} epochs"
        better = self.validation.merit(figures) > self._best()
        self.progress.print(
            f"average of {which}, {'' if better else 'not '}better than the best before: validation "
            f"loss {figures['valid_loss']:.4f}, {self.goal.headline(figures)}"
        )
        if better:
            self.run.save(BEST, self.model.state_dict())
            _, arrays, position = Run.open(self.run.directory, LAST)
            self.position.averaged = figures
            self.run.save(LAST, arrays, {**position, "averaged": figures})

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write all that `resume` needs, as one file.

        Raises:
            TrainingError: the weights are no longer numbers; the file keeps those before.
        """
        if self.position.step:
            self._refuse_bad_weights()
        arrays: dict[str, Any] = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}
        self.position.random = random.get_state()
        self.records.write()
        self.run.write_json(CLOCK, self.clock.to_dict())
        self.run.save(LAST, arrays, dataclasses.asdict(self.position))

    def _refuse_bad_weights(self) -> None:
        for name, tensor in self.model.state_dict().items():
            if not np.isfinite(tensor.array).all():
                raise TrainingError(
                    f"the weights {name} became nan or infinite by step {self.position.step}; {LAST} has those before, "
                    f"from which --resume goes on; {advise_against_divergence(self.settings)}"
                )

    def resume(self, arrays: dict[str, np.ndarray[Any, Any]], position: dict[str, Any]) -> None:
        """Continue from a checkpoint that `save` wrote.

        Raises:
            RunError: the checkpoint is not one of this run's model.
        """
        self.run.restore(self.model, _under("model.", arrays))
        state = _under("optimizer.", arrays)
        self.run.refuse_bad_numbers(state, self.optimizer.state_dict())
        try:
            self.optimizer.load_state_dict(state)
            self.position = Position(**position)
            random.set_state(self.position.random)
        except (TypeError, ValueError) as error:
            raise RunError(f"{self.run.directory / LAST} is no checkpoint to continue from: {error}") from error
        self.clock.resume(self.run.directory / CLOCK, self.position.epoch)
        self._plan()

    def restore_best(self) -> None:
        """Give the model the weights with the lowest validation loss."""
        self.ranks.wait()  # until rank 0 has written them
        _, arrays, _ = Run.open(self.run.directory, BEST)
        self.run.restore(self.model, arrays)

    # -- before and after ------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """One line: model, number of parameters, vocabularies, epochs and steps."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        dropped = self.train_batches.dropped
        left_out = f" ({dropped:,} longer than data.max_length left out)" if dropped else ""
        done = f", continuing at step {self.position.step}" if self.position.step else ""
        return (
            f"{self.run.config.model.name}, {count:,} parameters, {self.goal.symbols()}; "
            f"{counted(self.settings.epochs, 'epoch')}, {counted(self.steps, 'step')}{left_out}{done}"
        )

    def describe_schedule(self) -> str:
        """The learning rate of the next step and of the last."""
        return describe_schedule(self.settings.schedule, self.schedule, self.position.step, self.steps)

    def stopped_message(self) -> str:
        """Where training was stopped, and the command that continues it."""
        place = "after the last epoch" if self.finished else f"in epoch {self.position.epoch + 1}"
        return (
            f"Stopped {place}, at step {self.position.step} of {self.steps}, and saved. "
            f"Continue with:\n    {command_line('train', '--resume', self.run.directory)}"
        )

    def broken_off_message(self) -> str:
        """The command that continues from the last checkpoint, after training has ended without another one."""
        if not (self.run.directory / LAST).exists():
            return "Stopped at once, before the first checkpoint."
        continued = command_line("train", "--resume", self.run.directory)
        return f"Stopped at once. Continue from the last checkpoint with:\n    {continued}"

    def finish(self) -> str:
        """Measure the best model on the test set, draw the pictures, and return the closing message."""
        seconds = self.clock.total
        self._try_average()
        self.restore_best()
        ending = self.goal.finish(self.model, self.position.history, seconds)
        self.run.add_results({**ending.results, "training_seconds": round(seconds, 1)})
        if ending.notice:
            self.progress.print(f"Note: {ending.notice}")
        return ending.message


def goal_of(run: Run, text: ParallelText | PlainText) -> Goal:
    """What a run trains for on pairs or on a text; errors as of `Trainer`."""
    return Translation(run, text) if isinstance(text, ParallelText) else Continuation(run, text)


def _under(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _of_epoch(number: int) -> str:
    """The file of the weights after an epoch, which is counted from 0 here and from 1 in the name."""
    return f"epoch-{number + 1}.safetensors"


def _mean(checkpoints: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> dict[str, np.ndarray[Any, Any]]:
    """The mean of each array, summed in float64."""
    return {
        name: np.mean([arrays[name] for arrays in checkpoints], axis=0, dtype=np.float64).astype(array.dtype)
        for name, array in checkpoints[0].items()
    }
