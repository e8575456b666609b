"""Task: the data section of a config, and load(), which gives the pairs of sentences, or for a TextTask a text.

    @register_task
    @dataclass(frozen=True)
    class Sort(SequenceTask):
        kind: str = constant("sort")
        symbols = tuple("0123456789")

        def answer(self, symbols):
            return sorted(symbols)

Then ``[data] kind = "sort"`` in a config chooses it. All files of this folder are imported.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from tinygrad_attn.registry import Registry

from ..memory import refuse_beyond_memory
from ..setting import ConfigError, Section, constant, setting
from .corpus import ParallelText, PlainText
from .tokenizer import TOKENIZERS

__all__ = ["SYMBOL_SETTINGS", "TASKS", "BaseTask", "GeneratedTask", "Task", "TextTask", "register_task"]


@dataclass(frozen=True)
class BaseTask(Section):
    """The data section of a config: what a model is trained on, and how it is cut into symbols.

    Attributes:
        gives: "pairs" for translators, or a "text" for language models.
    """

    section = "data"
    gives: ClassVar[Literal["pairs", "text"]]

    kind: str = constant("")
    tokenizer: str = setting("characters", "how text is split into symbols", choices=TOKENIZERS, affects="symbols")
    lowercase: bool = setting(False, "make all text lower case", affects="symbols")
    min_frequency: int = setting(
        1,
        "rarer symbols of the training text are unknown; bpe makes no symbol of a rarer pair",
        minimum=1,
        affects="symbols",
    )
    vocabulary_size: int = setting(
        0, "the most symbols of a language; 0 sets no limit, but bpe needs one", minimum=0, affects="symbols"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if TOKENIZERS[self.tokenizer].needs_size and not self.vocabulary_size:
            raise ConfigError(f"data.tokenizer is {self.tokenizer!r}, which needs data.vocabulary_size, as in 8000")

    def load(self) -> ParallelText | PlainText:
        """The pairs or the text, generated or read.

        Raises:
            DataError: they cannot be generated or read.
        """
        raise NotImplementedError

    def load_only(self, split: str) -> ParallelText | PlainText:
        """The pairs or the text, as `load` gives them, of which this split alone is used.

        Raises:
            DataError: they cannot be generated or read.
        """
        return self.load()

    def lengths(self) -> dict[str, int]:
        """For each setting that limits lengths, by name, its limit; a model that reads fewer symbols is refused."""
        return {}


@dataclass(frozen=True)
class Task(BaseTask):
    """A task for translators: pairs of a source and a target.

    Attributes:
        bleu_tokenizer: the tokenizer of BLEU; "13a", the usual one for text.
        headline: the figure that says how good a model of the task is: "bleu", since a text has many good translations,
            or "exact_match", where only one answer is right.
    """

    gives = "pairs"
    bleu_tokenizer: ClassVar[str] = "13a"
    headline: ClassVar[Literal["bleu", "exact_match"]] = "bleu"

    shared_vocabulary: bool = setting(
        False, "source and target share one vocabulary, made from both", affects="symbols"
    )
    max_length: int = setting(
        100, "training pairs with more symbols on a side are left out", minimum=1, affects="training"
    )

    def load(self) -> ParallelText:
        """See `BaseTask.load`."""
        raise NotImplementedError

    def lengths(self) -> dict[str, int]:
        """See `BaseTask.lengths`."""
        return {"data.max_length": self.max_length}


@dataclass(frozen=True)
class TextTask(BaseTask):
    """A task for language models: one long text, of which random windows are read."""

    gives = "text"

    epoch_windows: int = setting(
        0, "windows of an epoch, drawn by chance; 0: as many as cover the training text", minimum=0, affects="training"
    )

    def load(self) -> PlainText:
        """See `BaseTask.load`."""
        raise NotImplementedError

    def is_right(self, line: str) -> bool | None:
        """Whether a whole line that a model has written is one that the task may have; None if nobody can tell."""
        return None


@dataclass(frozen=True)
class GeneratedTask(Task):
    """A task whose pairs are generated, in any number."""

    bleu_tokenizer = "char"
    headline = "exact_match"

    train_size: int = setting(10_000, "generated training pairs", minimum=1, affects="training")
    valid_size: int = setting(1_000, "generated validation pairs", minimum=1)
    test_size: int = setting(2_000, "generated test pairs", minimum=1)
    seed: int = setting(0, "seed of the generated pairs", minimum=0)

    def refuse_too_many(self, length: float) -> None:
        """Raise if the pairs, whose sides have ``length`` symbols on average, are more than the memory holds.

        Raises:
            TooLargeError: they are.
        """
        pairs = self.train_size + self.valid_size + self.test_size
        # Text and ids, and numbers that tell where each pair is.
        each = _PAIR + int(length) * _SYMBOL
        refuse_beyond_memory(
            pairs * each,
            f"{pairs:,} generated pairs of about {int(length):,} symbols",
            "lower data.train_size, data.valid_size or data.test_size" + ("" if length < 1000 else ", or the lengths"),
        )


# Bytes of a pair and its ids without any symbol, and of a symbol.
_PAIR, _SYMBOL = 100, 10

SYMBOL_SETTINGS = tuple(field.name for field in Task.fields() if field.metadata["affects"] == "symbols")
"""The settings by which text becomes symbols."""

TASKS: Registry[type[BaseTask]] = Registry("task", package=__package__)

T = TypeVar("T", bound=type[BaseTask])


def register_task(task: T) -> T:
    """A decorator that registers a task under its ``kind``.

    Raises:
        ValueError: the task has no ``kind``, or another task has the same.
    """
    kind = next(field.default for field in dataclasses.fields(task) if field.name == "kind")
    if not kind:
        raise ValueError(f'{task.__name__} has no kind: give it the field kind: str = constant("...")')
    TASKS.register(str(kind))(task)
    return task
