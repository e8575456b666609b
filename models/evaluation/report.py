"""The full evaluation of a run on a split, overall and by source length: the command ``evaluate``.

It is kept in the run folder as ``evaluation.json``, by split, with everything that it depends on: config, seed,
versions, and the settings of decoding and of BLEU.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinygrad_attn.atomic import atomic_path

from ..console.program import command_line
from ..console.tables import print_table
from ..data import Batches, DataError, encode_pairs, normalise
from ..data.batches import Example
from ..data.corpus import Fingerprint, Pair
from ..decoding.translate import OnBatch, translate
from ..decoding.unknown import Detokenizer
from ..interface import Translator
from ..runs.config import Config, DecodingConfig
from ..runs.folder import BEST, Run, RunError, Side
from ..runs.jsons import checked_json, read_json
from ..runs.versions import versions
from .bleu import BleuSettings, CorpusScore, bleu, chrf
from .metrics import TeacherForced, exact_match, teacher_forced

__all__ = [
    "EVALUATION",
    "Evaluation",
    "LengthScores",
    "Scores",
    "buckets",
    "describe_decoding",
    "evaluate",
    "print_evaluation",
    "refuse_language_model",
]

EVALUATION = "evaluation.json"
# The largest number of groups of source lengths.
_MOST_BUCKETS = 12


@dataclass(frozen=True)
class Scores:
    """The figures of a set of pairs. Shares are from 0 to 1, BLEU and chrF from 0 to 100."""

    pairs: int
    bleu: float
    chrf: float
    exact_match: float
    """The share of pairs whose translation is the reference, symbol for symbol."""
    token_accuracy_teacher_forced: float
    perplexity_teacher_forced: float
    """Per symbol of the target tokenizer, so not comparable between different tokenizers."""


@dataclass(frozen=True)
class LengthScores:
    """The figures of the pairs whose source has ``shortest`` to ``longest`` symbols."""

    shortest: int
    longest: int
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """The results of evaluating a run, and the settings and versions that they depend on."""

    model: str
    parameters: int
    """The number of the model's parameters."""
    split: str
    scores: Scores
    by_source_length: list[LengthScores]
    """By source length BLEU has n-grams only up to the length of the sentences (see ``short`` of `bleu`)."""
    bleu_signature: str
    bleu_signature_by_source_length: str
    chrf_signature: str
    decoding: DecodingConfig
    seed: int
    versions: dict[str, str]
    config: Config
    text: str = ""
    """The SHA-256 of the pairs; empty in an older evaluation."""
    trained_on: str = ""
    """The SHA-256 of the training pairs; empty if it is not known."""

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The evaluation that ``to_dict`` described.

        Raises:
            ConfigError, KeyError, TypeError: ``stored`` is no such dictionary.
        """
        by_length = [LengthScores(**{**row, "scores": Scores(**row["scores"])}) for row in stored["by_source_length"]]
        return cls(
            **{
                **stored,
                "scores": Scores(**stored["scores"]),
                "by_source_length": by_length,
                "decoding": DecodingConfig(**stored["decoding"]),
                "config": Config.from_dict(stored["config"]),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {**dataclasses.asdict(self), "config": self.config.to_dict()}

    def save(self, directory: Path) -> None:
        """Write it to a run folder, replacing an earlier one of the same split."""
        try:
            kept = dict(read_json(directory / EVALUATION))
        except (FileNotFoundError, TypeError, ValueError):  # no file yet, or a damaged one
            kept = {}
        with atomic_path(directory / EVALUATION) as path:
            path.write_text(checked_json({**kept, self.split: self.to_dict()}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, split: str) -> Self:
        """The evaluation of a split from a run folder.

        Raises:
            RunError: no such folder, no evaluation yet, a language model, or a file that is damaged.
        """
        if not directory.is_dir():
            raise RunError(f"there is no run folder {directory}")
        path = directory / EVALUATION
        command = command_line("evaluate", directory, "--split", split)
        try:
            stored = _stored(path, command)
            if split not in stored:
                raise RunError(f"{directory} is not evaluated on {split} yet; do so with: {command}")
            return cls.from_dict(stored[split])
        except FileNotFoundError as error:
            _refuse_language_model_in(directory)
            raise RunError(f"{directory} is not evaluated yet; do so with: {command}") from error
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(
                f"{path} is no evaluation of this version of the program; redo it with: {command}"
            ) from error


def refuse_language_model(run: Run) -> None:
    """Raise if a run's model continues texts: these are figures of translations.

    Raises:
        RunError: it says what there is instead.
    """
    if run.config.model.reads == "text":
        raise RunError(
            f"{run.directory} is a language model ({run.config.model.name}), which continues texts and translates "
            "none, so there is no BLEU to measure or compare; its loss after each epoch is in log.csv there, that of "
            f"the best weights in run.json, and this measures any text: {command_line('score', run.directory, 'TEXT')}"
        )


def _refuse_language_model_in(directory: Path) -> None:
    try:
        run, _, _ = Run.open(directory, BEST)
    except RunError:  # nothing is known of it
        return
    refuse_language_model(run)


def _stored(path: Path, command: str) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; redo it with: {command}") from error


def evaluate(
    run: Run,
    model: Translator,
    split: str,
    pairs: Sequence[Pair],
    settings: DecodingConfig,
    bleu_settings: BleuSettings,
    on_batch: OnBatch | None = None,
    where: Callable[[Side, int], str] | None = None,
) -> Evaluation:
    """Translate the sources and measure.

    Args:
        run, model: as `Run.load` gives them.
        split: the name of the split that the pairs are from.
        pairs: source and reference; at least one.
        settings: how to translate.
        bleu_settings: how to compare texts.
        on_batch: see `models.decoding.translate.translate`.
        where: the names of the sentences in messages, see `Run.refuse_too_long`.

    Raises:
        DataError: there are no pairs, or one is too long for the model.
    """
    if not pairs:
        raise DataError(f"the {split} set is empty: there is nothing to evaluate on")
    bleu_settings.metric()  # if its tokenizer cannot be had, say so now
    examples = encode_pairs(pairs, run.source, run.target)
    sources = examples.sources
    names = where or (lambda side, number: f"{side} {number + 1} of {split}")
    run.refuse_too_long(sources, examples.targets, names)
    translations = translate(model, sources, settings, on_batch)
    text_of = Detokenizer(model, run.source, run.target, settings).text
    texts = [text_of(source, translation) for (source, _), translation in zip(pairs, translations, strict=True)]
    references = [normalise(reference, lowercase=False) for _, reference in pairs]  # as tokenizers see them
    translated = _Translated(examples, translations, texts, references, bleu_settings)
    forced, by_length = [], []
    for shortest, longest in buckets(sources.lengths.tolist()):
        rows = np.flatnonzero((shortest <= sources.lengths) & (sources.lengths <= longest)).tolist()
        batches = Batches([examples[i] for i in rows], batch_size=settings.batch_size)
        forced.append(teacher_forced(model, batches.in_order()))
        scores, short_bleu, _ = translated.measure(rows, forced[-1], short=True)
        by_length.append(LengthScores(shortest, longest, scores))
    scores, whole_bleu, whole_chrf = translated.measure(range(len(pairs)), TeacherForced.pooled(forced), short=False)
    return Evaluation(
        model=run.config.model.name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        split=split,
        scores=scores,
        by_source_length=by_length,
        bleu_signature=whole_bleu.signature,
        bleu_signature_by_source_length=short_bleu.signature,
        chrf_signature=whole_chrf.signature,
        decoding=settings,
        seed=run.config.training.seed,
        versions={**versions(), "sacrebleu": metadata.version("sacrebleu")},
        config=run.config,
        text=Fingerprint.of(pairs).sha256,
        trained_on=run.data["train"].sha256 if run.data else "",
    )


@dataclass(frozen=True)
class _Translated:
    """Pairs and their translations, as ids and as text."""

    examples: Sequence[Example]
    translations: Sequence[Sequence[int]]
    texts: Sequence[str]
    references: Sequence[str]
    settings: BleuSettings

    def measure(
        self, rows: Sequence[int], forced: TeacherForced, short: bool
    ) -> tuple[Scores, CorpusScore, CorpusScore]:
        """The figures of the pairs with these numbers, and BLEU (see `bleu` for ``short``) and chrF with signatures."""
        corpus = [self.texts[i] for i in rows], [self.references[i] for i in rows]
        by_bleu, by_chrf = bleu(*corpus, self.settings, short=short), chrf(*corpus, self.settings)
        scores = Scores(
            pairs=len(rows),
            bleu=by_bleu.score,
            chrf=by_chrf.score,
            exact_match=exact_match([self.translations[i] for i in rows], [self.examples[i][1] for i in rows]),
            token_accuracy_teacher_forced=forced.accuracy,
            perplexity_teacher_forced=forced.perplexity,
        )
        return scores, by_bleu, by_chrf


def buckets(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """The ranges (shortest, longest) into which lengths are grouped, in order, without empty ones.

    Their width is the smallest of 1, 2, 5, 10, 20, 50, … that gives at most a dozen ranges. They begin one above a
    multiple of the width: 1 to 5, 6 to 10 and so on.
    """
    width = next(
        digit * 10**power
        for power in itertools.count()
        for digit in (1, 2, 5)
        if len({(length - 1) // (digit * 10**power) for length in lengths}) <= _MOST_BUCKETS
    )
    starts = sorted({(length - 1) // width * width + 1 for length in lengths})
    return [(start, start + width - 1) for start in starts]


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table of all figures, overall and by source length, and how they were computed."""
    ranges = [
        str(row.shortest) if row.shortest == row.longest else f"{row.shortest}–{row.longest}"
        for row in evaluation.by_source_length
    ]
    labels = ["all", *(f"source of {symbols}" for symbols in ranges)]
    rows = [evaluation.scores, *(row.scores for row in evaluation.by_source_length)]
    print_table(
        [f"{evaluation.split} set", "pairs", "BLEU", "chrF", "exact match", "token accuracy*", "perplexity*"],
        [[label, *_cells(scores)] for label, scores in zip(labels, rows, strict=True)],
    )
    print("* teacher-forced: given the reference prefix; perplexity is per symbol of the target tokenizer")
    print(f"Decoding:        {describe_decoding(evaluation.decoding)}")
    print(f"BLEU:            {evaluation.bleu_signature}")
    print(f"BLEU by length:  {evaluation.bleu_signature_by_source_length}")
    print(f"chrF:            {evaluation.chrf_signature}")


def describe_decoding(settings: DecodingConfig) -> str:
    """The settings of decoding, in a few words."""
    words = ["greedy" if settings.beam == 1 else f"beam {settings.beam}, length penalty {settings.length_penalty:g}"]
    if settings.min_length:
        words.append(f"at least {settings.min_length} symbols")
    if settings.no_repeat_ngram_size:
        words.append(f"no {settings.no_repeat_ngram_size} symbols in a row twice")
    if settings.unknown != "keep":
        words.append(f"<unk>: {settings.unknown}")
    if settings.int8:
        words.append("weights of 8 bits")
    return ", ".join(words)


def _cells(scores: Scores) -> list[str]:
    return [
        f"{scores.pairs:,}",
        f"{scores.bleu:.2f}",
        f"{scores.chrf:.2f}",
        f"{100 * scores.exact_match:.2f} %",
        f"{100 * scores.token_accuracy_teacher_forced:.2f} %",
        f"{scores.perplexity_teacher_forced:.3f}",
    ]
