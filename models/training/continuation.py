"""Continuation: the goal of a language model, to say of a text what comes next."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ..console.counts import clock
from ..console.errors import UserError
from ..console.program import command_line
from ..console.working import working
from ..data import PlainText, TextTask, Tokenizer, Windows, encode_text
from ..data.corpus import LongText
from ..data.file_text import pieces
from ..data.windows import WINDOW
from ..decoding.generate import Sampling, generate
from ..evaluation.metrics import TeacherForced, teacher_forced
from ..interface import LanguageModel
from ..runs.folder import Run
from .advice import Advice, longer_or_average, more_dropout, overfitting
from .goal import Ending, Goal, Row, Validation, closing

__all__ = ["Continuation", "TextValidation"]

_SHOWN = 240  # symbols of a sample
_GAP = 0.1  # nats per symbol by which the training loss is below the validation loss from which on dropout may help
_LONGEST_PROMPT = 40  # characters, of a text without blanks


class TextValidation(Validation):
    """Measures a model on a text: all windows one after the other.

    Args:
        run: its tokenizer and settings.
        text: what is measured.
        length: of a window.
        name: of the text, in messages.

    Raises:
        DataError: there is too little text.
    """

    metric = "loss"

    def __init__(self, run: Run, text: str | LongText, length: int, name: str) -> None:
        self.tokenizer = run.target
        ids = encode_text(text, run.target, name)
        self.windows = Windows(ids, length=length, batch_size=run.config.decoding.batch_size, name=name)
        self.symbols_per_character = (len(ids) - 1) / max(1, len(text) - 1)

    def measure(self, model: LanguageModel) -> TeacherForced:
        """Loss and accuracy."""
        return teacher_forced(model, self.windows.in_order())

    def bits_per_character(self, loss: float) -> float:
        """A loss in nats per symbol, in bits per character: comparable between tokenizers."""
        return loss / math.log(2) * self.symbols_per_character

    def row(self, model: LanguageModel) -> dict[str, Any]:
        """See `Validation.row`."""
        figures = self.measure(model)
        return {
            "valid_loss": figures.loss,
            "valid_bits_per_character": self.bits_per_character(figures.loss),
            "valid_perplexity_teacher_forced": figures.perplexity,
            "valid_accuracy": figures.accuracy,
        }

    def part(self, most: int) -> tuple[TextValidation, float]:
        """See `Validation.part`."""
        found, whole = copy.copy(self), self.windows
        ids = whole.ids[: most * whole.length + 1]
        found.windows = Windows(ids, length=whole.length, batch_size=whole.batch_size)
        return found, len(ids) / len(whole.ids)


class Continuation(Goal):
    """To continue a text.

    Args:
        run: its tokenizer and settings.
        text: the text.

    Raises:
        DataError: there is too little text for a window.
        UserError: a setting of training that is about pairs.
    """

    def __init__(self, run: Run, text: PlainText) -> None:
        super().__init__(run)
        settings, data = run.config.training, run.config.data
        assert isinstance(data, TextTask)
        if settings.early_stopping_metric != "loss":
            raise UserError(
                f"training.early_stopping_metric is {settings.early_stopping_metric!r}, which is of translations; a "
                "text has 'loss'"
            )
        self.data = data
        length = run.config.model.longest_target() or WINDOW
        size = settings.batch_size
        self.batches = Windows(
            encode_text(text.train, run.target, "the training text"),
            length=length,
            batch_size=size if settings.batch_type == "sentences" else max(1, size // length),
            count=data.epoch_windows,
            seed=settings.seed,
            name="the training text",
        )
        self.validation: TextValidation = TextValidation(run, text.valid, length, "the validation text")
        self.test = TextValidation(run, text.test, length, "the test text") if text.test else None
        self.prompt = _beginning(text, run.target)

    def check(self, model: LanguageModel) -> None:
        """See `Goal.check`; no setting asks for anything."""

    def symbols(self) -> str:
        """See `Goal.symbols`."""
        return f"{len(self.run.target)} symbols"

    def headline(self, row: Row) -> str:
        """See `Goal.headline`."""
        return f"{row['valid_bits_per_character']:.3f} bits per character"

    def show(self, model: LanguageModel) -> str:
        """A sample; whether each whole line is right, if the task can tell."""
        written = self._sample(model)
        return "\n".join(f"    {line}{mark}" for line, mark in self._judged(written))

    def finish(self, model: LanguageModel, history: Sequence[Row], seconds: float) -> Ending:
        """See `Goal.finish`."""
        measured = self.test or self.validation
        figures = measured.measure(model)
        bits = measured.bits_per_character(figures.loss)
        draw(self.run, history)
        results = {**dataclasses.asdict(figures), "bits_per_character": bits}
        what = "unseen test text" if self.test else "validation text"
        lines = [
            f"Loss: {figures.loss:.4f} nats per symbol ({bits:.3f} bits per character) on {figures.tokens:,} symbols "
            f"of {what}, after {clock(seconds)} of training."
        ]
        if (right := self._share_right(model)) is not None:
            share, count = right
            results["right"] = share
            lines.append(f"Of {count} lines that it wrote, {100 * share:.0f} % are right. A sample:")
        else:
            lines.append("A sample:")
        lines.append(self.show(model))
        lines.append(f"In {self.run.directory}: learning_curve.png, log.csv, best.safetensors")
        return Ending(results, closing(lines, self._next_steps(history)))

    def _next_steps(self, history: Sequence[Row]) -> list[str]:
        run = self.run
        separator = ["--"] if self.prompt.startswith("-") else []
        gap = overfitting(history)
        if gap > _GAP and (changed := more_dropout(run.config)):
            advice = Advice(f"The training loss is {gap:.2f} below the validation loss; dropout may help:", changed)
        else:
            advice = longer_or_average(run.config, history, self.best_epoch(history))
        return [
            f"    {command_line('generate', run.directory, *separator, self.prompt)}",
            f"    {command_line('score', run.directory, *separator, self.prompt)}",
            advice.reason,
            f"    {command_line('train', '--config', run.directory / 'config.toml', '--set', *advice.setting.split())}",
        ]

    # -- samples -------------------------------------------------------------------------------------------------------

    def _sample(self, model: LanguageModel, length: int = _SHOWN) -> str:
        """The same random numbers each time, so that samples of epochs can be compared."""
        prompt = "" if self._knows_lines else self.prompt
        sampling = Sampling(length=length, seed=self.run.config.training.seed)
        return "".join(generate(model, self.run.target, prompt, sampling))

    @property
    def _knows_lines(self) -> bool:
        return not self.run.target.unknown("\n") and bool(self.run.target.encode("\n"))

    def _judged(self, written: str) -> list[tuple[str, str]]:
        """The lines of a sample, each with its verdict; the last, which is cut off, has none."""
        lines = written.split("\n")
        verdicts = [*(self.data.is_right(line) for line in lines[:-1]), None]
        marks = {True: " ✓", False: " ✗", None: ""}
        return [(line, marks[verdict]) for line, verdict in zip(lines, verdicts, strict=True) if line]

    def _share_right(self, model: LanguageModel) -> tuple[float, int] | None:
        """The share of lines that are right, and how many were looked at; None if nobody can tell."""
        if not self._knows_lines or self.data.is_right("") is None:
            return None
        with working("writing lines to be judged"):
            lines = self._sample(model, 16 * _SHOWN).split("\n")[:-1]
        return (sum(map(bool, map(self.data.is_right, lines))) / len(lines), len(lines)) if lines else (0.0, 0)


def draw(run: Run, history: Sequence[Row]) -> None:
    """Draw ``learning_curve.png``."""
    from ..evaluation.plots import plot_learning_curve

    plot_learning_curve(history, run.to_write("learning_curve.png"), "")


def _beginning(text: PlainText, tokenizer: Tokenizer) -> str:
    """The first words of a line in the middle of the validation text, two symbols at least, so that they can be scored;
    empty if no line has any, nor the text as a whole."""
    valid, train = (next(pieces(part)) for part in (text.valid, text.train))
    lines = valid.splitlines()
    middle = len(lines) // 2
    for line in (*lines[middle:], *lines[:middle], valid, train):
        words = " ".join(line.split(maxsplit=3)[:3])[:_LONGEST_PROMPT].strip()
        if len(tokenizer.encode(words)) > 1:
            return words
    return ""
