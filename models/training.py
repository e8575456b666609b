"""Training: epochs of batches with Adam, and after each epoch a look at what the model can do."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, optim, random

from .data import Batch, Batches, ParallelText, encode_pairs
from .evaluation import correct_tokens, evaluate, token_loss
from .interruption import Interruption
from .progress import Progress
from .run import BEST, LAST, Run, RunError
from .showing import choose_examples, describe_epoch, draw, last_words, show_translations

__all__ = ["Position", "Trainer", "TrainingError"]


class TrainingError(RuntimeError):
    """Training cannot go on. The message says why and what to change."""


@dataclass
class Position:
    """Where training stands. With the weights and the optimiser's state it is all that a continuation needs."""

    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches of the current epoch finished."""
    step: int = 0
    """Batches finished in all epochs."""
    loss: float = 0.0
    """Summed over the target tokens of the current epoch."""
    correct: int = 0
    """Target tokens of the current epoch that were the likeliest."""
    tokens: int = 0
    """Target tokens of the current epoch."""
    seconds: float = 0.0
    """Spent on the batches of the current epoch."""
    total_seconds: float = 0.0
    """Spent on everything since the start."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The lines of ``log.csv``."""
    random: dict[str, Any] = field(default_factory=dict)
    """The state of the package's generator."""

    @property
    def best_loss(self) -> float:
        """The lowest validation loss of the finished epochs."""
        return min((row["valid_loss"] for row in self.history), default=math.inf)


class Trainer:
    """Trains the model of a run on parallel text, from its beginning or from where ``resume`` finds it.

    Args:
        run: its folder, config and tokenizers.
        text: the pairs that the config asks for.
        progress: told how it goes.
    """

    def __init__(self, run: Run, text: ParallelText, progress: Progress) -> None:
        settings = run.config.training
        self.run = run
        self.settings = settings
        self.progress = progress
        self.interruption = Interruption()
        self.position = Position()
        ta.manual_seed(settings.seed)
        self.model = run.build()
        self.optimizer = optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.train_batches = Batches(
            encode_pairs(text.train, run.source, run.target),
            batch_size=settings.batch_size,
            batch_type=settings.batch_type,
            max_length=run.config.data.max_length,
            seed=settings.seed,
        )
        self.valid = encode_pairs(text.valid, run.source, run.target)
        self.test = encode_pairs(text.test, run.source, run.target)
        self.steps = sum(self.train_batches.count(epoch) for epoch in range(settings.epochs))
        self.examples = choose_examples(text.test, run.source, settings.seed)

    # -- the loop --------------------------------------------------------------------------------------------------

    def train(self) -> bool:
        """Train to the last epoch, or until Ctrl-C.

        Returns:
            Whether the last epoch is finished. If not, `resume` continues with the same bits.

        Raises:
            TrainingError: the loss is no longer a number.
        """
        self.progress.start(self.position.step, self.steps)
        began = time.perf_counter() - self.position.total_seconds
        with self.interruption.awaited(lambda: self.progress.say("Stopping soon; Ctrl-C again stops at once.")):
            while self.position.epoch < self.settings.epochs:
                self._train_epoch()
                self.position.total_seconds = time.perf_counter() - began
                self.save()
                if self.interruption.requested:
                    return False
                self._finish_epoch(began)
        return True

    def _train_epoch(self) -> None:
        """The batches of the current epoch that are still to come."""
        position = self.position
        self.model.train()
        for batch in self.train_batches.epoch(position.epoch, start=position.batch):
            began = time.perf_counter()
            loss, correct = self._step(batch)
            position.batch += 1
            position.step += 1
            position.loss += loss * batch.target_tokens
            position.correct += correct
            position.tokens += batch.target_tokens
            position.seconds += time.perf_counter() - began
            self.progress.advance(
                position.step, position.loss / position.tokens, position.correct / position.tokens, batch.target_tokens
            )
            if self.interruption.requested:
                return

    def _step(self, batch: Batch) -> tuple[float, int]:
        """Learn from one batch: the loss per target token, and how many were the likeliest."""
        self.optimizer.lr = self._learning_rate(self.position.step)
        self.optimizer.zero_grad()
        logits = self.model(Tensor(batch.source), Tensor(batch.source_mask), Tensor(batch.target_in))
        loss = token_loss(logits, batch, self.settings.label_smoothing)
        value = float(loss.item())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.position.step + 1}; set training.learning_rate below "
                f"{self.settings.learning_rate} or training.clip_norm above 0, or look for the cause with "
                "tinygrad_attn.detect_anomaly()"
            )
        loss.backward()
        self.optimizer.step(clip_norm=self.settings.clip_norm or None)
        return value, correct_tokens(logits, batch)

    def _learning_rate(self, step: int) -> float:
        """The step size of step number ``step``, counted from 0."""
        if self.settings.schedule == "constant":
            return self.settings.learning_rate
        return self.settings.learning_rate * (1.0 - step / self.steps)

    def _finish_epoch(self, began: float) -> None:
        """Measure on the validation set, show the examples, and keep what there is to keep."""
        position, settings = self.position, self.run.config.decoding
        figures = evaluate(self.model, self.valid, settings)
        row = {
            "epoch": position.epoch + 1,
            "step": position.step,
            "train_loss": position.loss / position.tokens,
            "train_accuracy": position.correct / position.tokens,
            "valid_loss": figures.teacher_forced.loss,
            "valid_perplexity_teacher_forced": figures.teacher_forced.perplexity,
            "valid_accuracy": figures.teacher_forced.accuracy,
            "valid_exact_match": figures.exact_match,
            "tokens_per_second": round(position.tokens / position.seconds),
            "seconds": round(time.perf_counter() - began, 1),
        }
        if row["valid_loss"] < position.best_loss:
            self.run.save(BEST, self.model.state_dict())
        self.progress.say(describe_epoch(row, self.settings.epochs))
        self.progress.say(show_translations(self.run, self.model, self.examples))
        self.position = Position(
            epoch=position.epoch + 1,
            step=position.step,
            total_seconds=time.perf_counter() - began,
            history=[*position.history, row],
        )
        self.save()
        self.run.write_log(self.position.history)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write all that `resume` needs."""
        arrays: dict[str, Any] = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}
        self.position.random = random.get_state()
        self.run.save(LAST, arrays, dataclasses.asdict(self.position))

    def resume(self, arrays: dict[str, np.ndarray[Any, Any]], position: dict[str, Any]) -> None:
        """Continue from what `save` wrote.

        Raises:
            RunError: the checkpoint is not one of this run's model.
        """
        self.run.restore(self.model, _under("model.", arrays))
        try:
            self.optimizer.load_state_dict(_under("optimizer.", arrays))
            self.position = Position(**position)
            random.set_state(self.position.random)
        except (TypeError, ValueError) as error:
            raise RunError(f"{self.run.directory / LAST} is no checkpoint to continue from: {error}") from error

    def restore_best(self) -> None:
        """Give the model the weights of the epoch with the lowest validation loss."""
        _, arrays, _ = Run.open(self.run.directory, BEST)
        self.run.restore(self.model, arrays)

    # -- before and after ------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """What is trained on what."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        dropped = self.train_batches.dropped
        left_out = f" ({dropped:,} longer than data.max_length left out)" if dropped else ""
        done = f", continuing at step {self.position.step}" if self.position.step else ""
        return (
            f"{self.run.config.model.name}, {count:,} parameters, {len(self.run.source)} source and "
            f"{len(self.run.target)} target symbols; "
            f"{self.settings.epochs} epochs, {self.steps:,} steps{left_out}{done}"
        )

    def farewell(self) -> str:
        """What to say when stopped."""
        return (
            f"Stopped in epoch {self.position.epoch + 1}, at step {self.position.step} of {self.steps}, and saved. "
            f"Go on with:\n    python -m models train --resume {self.run.directory}"
        )

    def finish(self) -> str:
        """Measure the best model on the test set, draw the pictures, and return the last words."""
        self.restore_best()
        figures = evaluate(self.model, self.test, self.run.config.decoding)
        seconds = self.position.total_seconds
        self.run.add_results({**dataclasses.asdict(figures), "training_seconds": round(seconds, 1)})
        notice = draw(self.run, self.model, self.position.history, self.examples)
        if notice:
            self.progress.say(f"Note: {notice}")
        return last_words(self.run, figures, seconds, self.examples)


def _under(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
