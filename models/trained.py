"""TrainedModel: a trained run in Python, with translate or generate, align, score, evaluate and microscope.

::

    model = TrainedModel.load("runs/dates-bahdanau")
    model.translate(["22 November 2026", "이천사십이년 시월 십구일"])
    model.microscope("22 November 2026")
"""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from .console.errors import UserError
from .console.program import command_line
from .data import END, ParallelText, PlainText, Tokenizer
from .data.corpus import SPLITS, Fingerprint, Pair
from .decoding.alignment import Alignment
from .decoding.generate import Sampling, generate
from .decoding.translate import OnBatch, search, translate
from .decoding.unknown import Detokenizer
from .demos import folder_of
from .evaluation.scoring import Score, score
from .interface import LanguageModel, Translator
from .parallel.ranks import current
from .runs.config import Config, DecodingConfig
from .runs.folder import Run
from .runs.kept import at_step, kept_steps

if TYPE_CHECKING:  # imported at the first use elsewhere: most uses of a model do not need them
    from .evaluation.report import Evaluation
    from .microscope import Microscope

__all__ = ["ScoredText", "TrainedModel"]


class ScoredText(NamedTuple):
    """A translation that beam search found."""

    text: str
    score: float
    """log p(text | source), divided by the length penalty."""


class TrainedModel:
    """A trained model with its tokenizers and settings, in evaluation mode.

    Attributes:
        module: the model, an `tinygrad_attn.nn.Module`; its ``state_dict`` has PyTorch's names and layouts.
        run: its run folder.
    """

    def __init__(self, run: Run, module: LanguageModel) -> None:
        self.run = run
        self.module = module
        self._parts: dict[str, ParallelText | PlainText] = {}

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> TrainedModel:
        """The best model of a run folder, as ``python -m models train`` makes it; of ``"demo:NAME"`` one that ships.

        Raises:
            RunError: no such folder, or a checkpoint that is missing or damaged.
            CommandError: no such demo.
        """
        return cls(*Run.load(folder_of(directory)))

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        return f"<TrainedModel {self.config.model.name}, {parameters:,} parameters, from {self.run.directory}>"

    @property
    def config(self) -> Config:
        """The settings of its run."""
        return self.run.config

    @property
    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """The tokenizers of source and target."""
        return self.run.source, self.run.target

    @cached_property
    def text(self) -> ParallelText | PlainText:
        """The pairs for training, validation and testing, or the text, read again.

        Raises:
            DataError: the data can no longer be read.
        """
        return self.config.data.load()

    def text_of(self, split: str) -> ParallelText | PlainText:
        """The same, of which this split alone need be read.

        Raises:
            DataError: the data can no longer be read.
        """
        if "text" in self.__dict__:
            return self.text
        if split not in self._parts:
            self._parts[split] = self.config.data.load_only(split)
        return self._parts[split]

    @property
    def translator(self) -> Translator:
        """The module, of a run that translates.

        Raises:
            UserError: the run is a language model, which has no source.
        """
        if not isinstance(self.module, Translator):
            raise UserError(
                f"{self.run.directory} is a language model ({self.config.model.name}), which continues texts and "
                f"translates none; use {command_line('generate', self.run.directory, 'TEXT')}"
            )
        return self.module

    @property
    def kept_steps(self) -> list[int]:
        """The steps of training whose weights the run has kept (``training.keep_checkpoints``), the first first."""
        return kept_steps(self.run.directory)

    def at_step(self, step: int) -> TrainedModel:
        """The model as it was after this many steps of training, one of `kept_steps`.

        Raises:
            RunError: the run has not kept that step, or its file is damaged.
        """
        return TrainedModel(self.run, at_step(self.run, step))

    # -- translation -------------------------------------------------------------------------------------------------

    @overload
    def translate(
        self,
        texts: Sequence[str],
        *,
        n_best: None = None,
        on_batch: OnBatch | None = None,
        **decoding: Any,
    ) -> list[str]: ...

    @overload
    def translate(
        self,
        texts: Sequence[str],
        *,
        n_best: int,
        on_batch: OnBatch | None = None,
        **decoding: Any,
    ) -> list[list[ScoredText]]: ...

    def translate(
        self,
        texts: Sequence[str],
        *,
        n_best: int | None = None,
        on_batch: OnBatch | None = None,
        **decoding: Any,
    ) -> list[str] | list[list[ScoredText]]:
        """The translation of each text.

        Args:
            texts: source sentences; an empty one has an empty translation, or with ``n_best`` no translation.
            n_best: return this many translations of each text, the best first, with their scores.
            on_batch: called after each batch with the number of its sentences.
            decoding: settings in place of the run's own, such as ``beam``, ``length_penalty``, ``min_length`` and
                ``no_repeat_ngram_size``; see `decoding`.

        Raises:
            TypeError: a single text instead of a list, or a setting that does not exist.
            UserError: a text is too long for the model, or an option is out of its range.
        """
        texts = _listed("translate", texts)
        settings = self.decoding(n_best=n_best, **decoding)
        sentences = self.encode(texts)
        text_of = Detokenizer(self.translator, *self.tokenizers, settings).text
        if n_best is None:
            translations = translate(self.translator, sentences, settings, on_batch)
            return current().divided(zip(texts, translations, strict=True), lambda pair: text_of(*pair))
        found = search(self.translator, sentences, settings, n_best, on_batch)
        return [
            [ScoredText(text_of(text, one.tokens), one.score) for one in hypotheses]
            for text, hypotheses in zip(texts, found, strict=True)
        ]

    def translate_aligned(
        self, texts: Sequence[str], *, on_batch: OnBatch | None = None, **decoding: Any
    ) -> list[tuple[str, Alignment | None]]:
        """The translation of each text with its attention weights, None for an empty text; see `translate`."""
        texts = _listed("translate_aligned", texts)
        settings = self.decoding(**decoding)
        sentences = self.encode(texts)
        aligned = Detokenizer(self.translator, *self.tokenizers, settings).aligned
        translations = translate(self.translator, sentences, settings, on_batch)

        def work(one: tuple[str, list[int], list[int]]) -> tuple[str, Alignment | None]:
            text, sentence, ids = one
            return aligned(text, ids) if sentence else ("", None)

        return current().divided(zip(texts, sentences, translations, strict=True), work)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The source ids of each text, without control symbols.

        Raises:
            DataError: a text is too long for the model.
        """
        sentences = [list(self.run.source.encode(text)) for text in texts]
        self.run.refuse_too_long(sentences, where=lambda side, number: f"text {number + 1}")
        return sentences

    def too_long(self, text: str) -> str:
        """What to say of a source text that is too long for the model; empty if it is not."""
        return self.run.too_long(len(self.run.source.encode(text)), "source")

    def unknown(self, text: str) -> list[str]:
        """The characters or words of a source text that are not in the vocabulary."""
        return self.run.source.unknown(text)

    def align(self, text: str, translation: str | None = None, **decoding: Any) -> Alignment:
        """The attention weights over a source text, for each symbol of a translation; see `Detokenizer.alignment`.

        Args:
            text: a source sentence, not empty.
            translation: any; if None, the model's own.
            decoding: how that is found; see `decoding`.
        """
        (sentence,) = self.encode([text])
        if not sentence:
            raise UserError("align: the text is empty; give at least one symbol")
        settings = self.decoding(**decoding)
        shown = Detokenizer(self.translator, *self.tokenizers, settings)
        if translation is None:
            (target,) = translate(self.translator, [sentence], settings)
        else:
            target = list(self.run.target.encode(translation))
        return shown.alignment(text, target)

    def decoding(self, *, n_best: int | None = None, **given: Any) -> DecodingConfig:
        """The run's decoding settings, changed by those given.

        Args:
            n_best: the beam is at least this wide, unless ``beam`` is given.
            given: values of the fields of `DecodingConfig`; None keeps the run's own.

        Raises:
            TypeError: a setting that does not exist.
            UserError: a setting is out of its range, or ``n_best`` larger than the beam that is given.
        """
        settings, known = self.config.decoding, DecodingConfig.types()
        for name in given:
            if name not in known:
                raise TypeError(f"there is no setting of decoding {name!r}; there are {', '.join(known)}")
        given = {name: value for name, value in given.items() if value is not None}
        if n_best is not None:
            if isinstance(n_best, bool) or not isinstance(n_best, int):
                raise UserError(f"n_best is {n_best!r}; it must be a whole number")
            if not 1 <= n_best <= given.get("beam", n_best):
                raise UserError(f"n_best is {n_best}; it must be from 1 to the width of the beam, so raise beam")
            given.setdefault("beam", max(n_best, settings.beam))
        return dataclasses.replace(settings, **given)

    # -- language ------------------------------------------------------------------------------------------------------

    def generate(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """The continuation of a text, piece by piece, as it is written.

        Args:
            prompt: the beginning, which is not repeated; an empty one stands for a line's end.
            options: ``temperature``, ``top_k``, ``top_p``, ``length``, ``stop``, ``seed``: see
                `models.decoding.generate.Sampling`.

        Raises:
            TypeError: an option that does not exist.
            UserError: the run is a translator, or an option is out of its range.
        """
        if isinstance(self.module, Translator):
            raise UserError(
                f"{self.run.directory} is a translator ({self.config.model.name}), which needs a source; use "
                f"{command_line('translate', self.run.directory, 'TEXT')}"
            )
        known = [field.name for field in dataclasses.fields(Sampling)]
        for name in options:
            if name not in known:
                raise TypeError(f"there is no option of generate {name!r}; there are {', '.join(known)}")
        return generate(self.module, self.run.target, prompt, Sampling(**options))

    def score(self, text: str, source: str | None = None) -> Score:
        """The log-probability of each token of a text, or of a translation of ``source``.

        Raises:
            UserError: no text, no source where the model needs one or one where it has none, or a sentence that is too
                long for the model.
        """
        translates = isinstance(self.module, Translator)
        if translates != (source is not None):
            needs = "needs a source" if translates else "has no source"
            raise UserError(f"score: {self.run.directory} is a {self.config.model.name}, which {needs}")
        ids, sources = list(self.run.target.encode(text)), None
        if source is not None:
            (sources,) = self.encode([source])
            self.run.refuse_too_long([], [ids], lambda side, number: "the translation")
            if not sources:
                raise UserError("score: the source is empty; give at least one symbol")
        elif not ids:
            raise UserError("score: the text is empty; give more")
        elif not self.module.delimited and len(ids) < 2:
            raise UserError("score: a text of one symbol, which is given, has nothing to score; give more")
        symbols = self.run.target.symbols_of([*ids, END] if self.module.delimited else ids)
        return score(self.module, ids, symbols, sources)

    # -- a closer look -----------------------------------------------------------------------------------------------

    def evaluate(
        self,
        split: str = "test",
        *,
        text: ParallelText | None = None,
        bleu_tokenizer: str | None = None,
        bleu_lowercase: bool | None = None,
        on_batch: OnBatch | None = None,
        **decoding: Any,
    ) -> Evaluation:
        """BLEU, chrF, exact match, perplexity and token accuracy on ``"test"`` or ``"valid"``, also by source length.

        Args:
            split: of the data that the run was trained on, or of ``text``; the results are named after both then.
            text: other pairs, from `models.data.read_parallel_text`; the run's own if None.
            bleu_tokenizer: one of `models.runs.bleu_tokenizers.BLEU_TOKENIZERS`; if None, the run's own.
            bleu_lowercase: compare without case; if None, only if the model was trained without case.
            on_batch: called after each batch with the number of its sentences.
            decoding: settings in place of the run's own; see `decoding`.

        Raises:
            UserError: the run is a language model, or the data can no longer be read, is empty, or is too long for the
                model.
        """
        if split not in (known := SPLITS[1:]):
            raise UserError(f"evaluate: there is no split {split!r}; there are {' and '.join(map(repr, known))}")
        from .evaluation.bleu import BleuSettings
        from .evaluation.report import evaluate, refuse_language_model

        refuse_language_model(self.run)
        given: dict[str, Any] = {"tokenizer": bleu_tokenizer, "lowercase": bleu_lowercase}
        fitting = BleuSettings.fitting(self.config)
        bleu = dataclasses.replace(fitting, **{name: value for name, value in given.items() if value is not None})
        model, measured = self.translator, text or self.text_of(split)
        assert isinstance(measured, ParallelText)
        pairs = getattr(measured, split)
        settings = self.decoding(**decoding)
        where = functools.partial(measured.where, split)
        name = self._name_of(split, pairs, text)
        return evaluate(self.run, model, name, pairs, settings, bleu, on_batch, where)

    def _name_of(self, split: str, pairs: Sequence[Pair], text: ParallelText | None) -> str:
        """The name of the pairs in the results; a note if the run's own are no longer those that it began with."""
        known = self.run.data.get(split)
        if known is None or Fingerprint.of(pairs) == known:
            return split if text is None or known is not None else f"{split}-{text.name}"
        if text is not None:
            return f"{split}-{text.name}"
        warnings.warn(f"the pairs of {split} are not those that {self.run.directory} began with", stacklevel=3)
        return split

    def microscope(
        self, source: str, target: str | None = None, *, beside: TrainedModel | None = None, **options: Any
    ) -> Microscope:
        """Every number of the forward and backward pass over one pair, or over one text of a language model.

        Jupyter displays the result as the page.

        Args:
            source: a source sentence; of a language model the text.
            target: its translation; the model's own if None. A language model has none.
            beside: another model of the same kind, to compare the paths of its gradient.
            options: ``nudge``, ``broken``, ``checkpoints``, ``sentences``, ``limit``: see
                `models.microscope.microscope`.

        Raises:
            UserError: a sentence that is empty or too long, or a target of a language model.
        """
        from .microscope import microscope

        if not isinstance(beside, TrainedModel | None):
            raise TypeError(f"microscope: beside must be another TrainedModel, got {type(beside).__name__}; load(RUN)")
        other = None if beside is None else (beside.run, beside.module)
        return microscope(self.module, source, target, run=self.run, beside=other, **options)


def _listed(method: str, texts: Iterable[str]) -> list[str]:
    """Several texts as a list."""
    if isinstance(texts, str):
        raise TypeError(f"{method}: expected a list of texts, got one text; write {method}([{texts!r}])")
    if not isinstance(texts, Iterable):
        raise TypeError(f"{method}: expected a list of texts, got {type(texts).__name__}")
    return list(texts)
