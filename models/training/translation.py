"""Translation: the goal of a translator, to say in the target language what the source says."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any

from tinygrad_attn.nn.evaluating import evaluating

from ..data import Batches, ParallelText, encode_pairs
from ..data.ids import Examples
from ..decoding.unknown import Detokenizer
from ..evaluation.bleu import BleuSettings, References
from ..evaluation.metrics import Figures, measure
from ..interface import Translator
from ..runs.folder import Run
from .advice import advise, note_of_unknown
from .goal import Ending, Goal, Row, Validation
from .reporting import choose_examples, closing_message, draw, headline, show_translations

__all__ = ["PairValidation", "Translation"]


class PairValidation(Validation):
    """Measures a model on pairs, and compares epochs by ``training.early_stopping_metric``.

    Args:
        run: its tokenizers and settings.
        text: the pairs.
        split: which of them, ``"valid"`` or ``"test"``.

    Raises:
        DataError: a pair is too long for the model.
    """

    def __init__(self, run: Run, text: ParallelText, split: str) -> None:
        pairs = getattr(text, split)
        self.examples = encode_pairs(pairs, run.source, run.target)
        run.refuse_too_long(self.examples.sources, self.examples.targets, functools.partial(text.where, split))
        self.references = References.of(pairs, run.source, run.target, BleuSettings.fitting(run.config))
        self.decoding = run.config.decoding
        self.metric = run.config.training.early_stopping_metric

    def measure(self, model: Translator) -> Figures:
        """The figures of ``model``, which decodes as the run's settings say."""
        return measure(model, self.examples, self.decoding, self.references)

    def row(self, model: Translator) -> dict[str, Any]:
        """See `Validation.row`. Decoding is greedy, whatever the beam: this is often."""
        figures = measure(model, self.examples, dataclasses.replace(self.decoding, beam=1), self.references)
        return {
            "valid_loss": figures.teacher_forced.loss,
            "valid_perplexity_teacher_forced": figures.teacher_forced.perplexity,
            "valid_accuracy": figures.teacher_forced.accuracy,
            "valid_exact_match": figures.exact_match,
            "valid_bleu": figures.bleu,
        }

    def part(self, most: int) -> tuple[PairValidation, float]:
        """See `Validation.part`."""
        rows = range(0, len(self.examples), -(-len(self.examples) // most))
        found = copy.copy(self)
        found.examples = Examples.of([self.examples[i] for i in rows])
        texts, sources = ([side[i] for i in rows] for side in (self.references.texts, self.references.sources))
        found.references = dataclasses.replace(self.references, texts=texts, sources=sources)
        longest = 1 + max(len(target) for _, target in found.examples)
        found.decoding = dataclasses.replace(
            self.decoding, max_length=min(self.decoding.max_length, max(longest, self.decoding.min_length))
        )
        return found, len(rows) / len(self.examples)


class Translation(Goal):
    """To translate pairs.

    Args:
        run: its tokenizers and settings.
        text: the pairs.

    Raises:
        DataError: no pair can be trained on, or one of validation or test is too long for the model.
    """

    def __init__(self, run: Run, text: ParallelText) -> None:
        super().__init__(run)
        settings = run.config.training
        self.data = data = run.config.pairs
        self.batches = Batches(
            encode_pairs(text.train, run.source, run.target),
            batch_size=settings.batch_size,
            batch_type=settings.batch_type,
            max_length=data.max_length,
            seed=settings.seed,
        )
        if note := note_of_unknown(run, self.batches.examples):
            warnings.warn(note, stacklevel=2)
        self.validation = PairValidation(run, text, "valid")
        self.test = PairValidation(run, text, "test")
        self.examples = choose_examples(text.test, run.source, settings.seed)

    def check(self, model: Any) -> None:
        """See `Goal.check`: ``decoding.unknown`` may ask for an attention that the model does not have."""
        with evaluating(model):
            Detokenizer(model, self.run.source, self.run.target, self.run.config.decoding)

    def symbols(self) -> str:
        """See `Goal.symbols`."""
        return f"{len(self.run.source)} source and {len(self.run.target)} target symbols"

    def headline(self, row: Row) -> str:
        """See `Goal.headline`."""
        return headline(self.data, row)

    def show(self, model: Translator) -> str:
        """A few translations."""
        return show_translations(self.run, model, self.examples)

    def finish(self, model: Translator, history: Sequence[Row], seconds: float) -> Ending:
        """See `Goal.finish`."""
        figures = self.test.measure(model)
        notice = draw(self.run, model, history, self.examples)
        advice = advise(self.run.config, figures, history, self.best_epoch(history))
        message = closing_message(self.run, figures, seconds, self.examples, advice)
        return Ending(dataclasses.asdict(figures), message, notice)
