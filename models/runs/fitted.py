"""Settings chosen from the user's own parallel text, each with the reason, for training without a config.

The rules are the functions below, in the order in which they apply: each reads what was measured of the text, and what
was chosen before. They are rules of thumb: their numbers were tried on a few corpora of 50 to 29,000 pairs. A setting
that the user gives is never chosen, and the rules that follow go by the user's value.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..console.working import worked_off, working
from ..data import ParallelText, Tokenizer, train_tokenizers
from ..data.corpus import Pair
from ..registry import MODELS
from ..setting import Value
from .config import Config, load_config

__all__ = ["Fitted", "fit", "load_fitted_config"]

_SAMPLE = 10_000
"""The most pairs that are measured, spread evenly over the training text."""

_WIDTHS = ((0, 64), (1_000, 128), (3_000, 192), (20_000, 256), (200_000, 512))
"""From how many pairs on a model has which width."""


class Choice(NamedTuple):
    """Settings, by ``section.key``, and why they have these values."""

    settings: dict[str, Value]
    reason: str


@dataclass
class Fitted:
    """The settings chosen for a text.

    Attributes:
        base: the config that holds the user's own settings.
        given: the names of these, as ``section.key``.
        choices: what was chosen, in order.
        notes: what the user should know about the text.
    """

    base: Config
    given: Collection[str]
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def choose(self, reason: str, settings: Mapping[str, Value]) -> None:
        """Give these settings their values, except those that the user gave."""
        chosen = {name: value for name, value in settings.items() if name not in self.given}
        if chosen:
            self.choices.append(Choice(chosen, reason))

    def value(self, name: str) -> Value:
        """The value of a setting: the chosen one, or that of the base."""
        section, _, key = name.partition(".")
        value: Value = self.settings.get(name, getattr(getattr(self.base, section), key))
        return value

    @property
    def settings(self) -> dict[str, Value]:
        """All chosen settings, by ``section.key``."""
        return {name: value for choice in self.choices for name, value in choice.settings.items()}

    def describe(self) -> str:
        """The choices and their reasons, a line for each, and the notes."""
        lines = ["Settings chosen from the data; --set changes them, as in --set training.epochs=40:"]
        for choice in self.choices:
            lines.append(f"    {' '.join(f'{name}={_typed(value)}' for name, value in choice.settings.items())}")
            lines.append(f"        {choice.reason}")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def load_fitted_config(
    overrides: Sequence[str], imports: Sequence[str] = (), under: Mapping[str, Value] | None = None, symbols: int = 0
) -> tuple[Config, ParallelText, Fitted]:
    """The config for the text that ``overrides`` name, the text, and what was chosen for it.

    Args:
        overrides, imports: see `load_config`.
        under: settings that are not chosen either, and that ``overrides`` change.
        symbols: end training after about so many; 0 sets no limit.

    Raises:
        ConfigError, DataError: a setting that cannot be, or data that cannot be read.
    """
    fixed = [f"{name}={_typed(value)}" for name, value in (under or {}).items()]
    # `fit` chooses the size of the vocabulary, without which there is no config with the tokenizer bpe.
    base = load_config(None, ["data.vocabulary_size=8000", *fixed, *overrides], imports)
    text = base.pairs.load()
    with working("choosing settings from the text"):
        fitted = fit(text, base, {setting.partition("=")[0].strip() for setting in [*fixed, *overrides]}, symbols)
    chosen = [f"{name}={_typed(value)}" for name, value in fitted.settings.items()]
    return load_config(None, [*chosen, *fixed, *overrides], imports), text, fitted


def fit(text: ParallelText, base: Config, given: Collection[str], symbols: int = 0) -> Fitted:
    """Choose settings for a text by all rules; see `Fitted`, and `load_fitted_config` for ``symbols``."""
    fitted = Fitted(base, given)
    step = max(1, len(text.train) // _SAMPLE)
    sample = text.train[::step]
    source, target = (_Side.measured([pair[side] for pair in sample]) for side in (0, 1))
    choose_tokenizer(fitted, source, target)
    choose_case(fitted, source, target, len(text.train))
    choose_vocabulary(fitted, source, target, len(text.train) / len(sample))
    lengths = _lengths(fitted, text, sample)
    choose_lengths(fitted, *lengths)
    mean = float(np.mean(np.maximum(*lengths)))
    steps = choose_batches(fitted, len(text.train), mean)
    read = mean * len(text.train) * int(fitted.value("training.epochs"))
    if 0 < symbols < read:
        steps = max(1, int(steps * symbols / read))
        fitted.choose(f"lines of {mean:.0f} symbols: so many steps take about a minute", {"training.max_steps": steps})
    choose_model(fitted, len(text.train), steps)
    choose_training(fitted)
    fitted.notes += _notes(text)
    return fitted


# -- what is measured --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """The training lines of one language."""

    lines: int
    words: int
    """Pieces between white space; where there is little white space, one for every six characters."""
    distinct: int
    """How many different words, without regard to case."""
    longest: int
    """Characters of the longest line but one of a hundred."""
    script: str
    """The script of most letters; empty without letters."""
    lower: float | None
    """The share of lower case among letters that have case; None if (nearly) none has."""

    @classmethod
    def measured(cls, lines: Sequence[str]) -> _Side:
        words = Counter(word for line in lines for word in line.lower().split())
        characters = Counter(character for line in lines for character in line)
        total = characters.total()
        scripts: Counter[str] = Counter()
        cased = lower = 0
        for character, count in characters.items():
            if character.isalpha():
                scripts[unicodedata.name(character, "").partition(" ")[0]] += count
            if character.lower() != character.upper():
                cased += count
                lower += count * character.islower()
        return cls(
            lines=len(lines),
            words=max(words.total(), total // 6),
            distinct=len(words),
            longest=int(np.percentile([len(line) for line in lines], 99)),
            script=max(scripts, key=scripts.__getitem__) if scripts else "",
            lower=lower / cased if cased > 0.05 * total else None,
        )


def _lengths(
    fitted: Fitted, text: ParallelText, sample: Sequence[Pair]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The symbols of each source and of each target of the sample, by tokenizers as chosen."""
    names = ("tokenizer", "lowercase", "min_frequency", "vocabulary_size", "shared_vocabulary")
    chosen = {f"data.{name}": fitted.value(f"data.{name}") for name in names}
    task = load_config(None, chosen).data
    tokenizers: tuple[Tokenizer, Tokenizer] = train_tokenizers(
        ParallelText(text.name, text.source_language, text.target_language, sample, [], []), task
    )
    source, target = (
        np.array([len(tokenizer.encode(pair[side])) for pair in sample], dtype=np.int64)
        for side, tokenizer in enumerate(tokenizers)
    )
    return source, target


# -- the rules ---------------------------------------------------------------------------------------------------------


def choose_tokenizer(fitted: Fitted, source: _Side, target: _Side) -> None:
    """Characters for short strings such as names and numbers, words for a tiny vocabulary, else byte pair encoding."""
    per_line = [side.words / side.lines for side in (source, target)]
    if max(side.longest for side in (source, target)) <= 40 and min(per_line) < 1.5:
        reason = f"lines are short strings, not sentences: {min(per_line):.1f} words in a line, at most 40 characters"
        fitted.choose(f"{reason}; each character is a symbol", {"data.tokenizer": "characters"})
    elif all(side.distinct <= 500 and side.distinct * 20 <= side.words for side in (source, target)):
        reason = f"only {source.distinct} and {target.distinct} different words, each of which comes often"
        fitted.choose(f"{reason}; each is a symbol", {"data.tokenizer": "words"})
    else:
        reason = f"{source.distinct:,} and {target.distinct:,} different words in {source.words + target.words:,}"
        fitted.choose(
            f"{reason}: byte pair encoding makes frequent words one symbol, and cuts rare ones into pieces",
            {"data.tokenizer": "bpe"},
        )


def choose_case(fitted: Fitted, source: _Side, target: _Side, pairs: int) -> None:
    """Lower case for sentences where text is scarce, unless capitals are more than the beginnings of words."""
    shares = [side.lower for side in (source, target) if side.lower is not None]
    if fitted.value("data.tokenizer") == "bpe" and pairs < 100_000 and shares and min(shares) > 0.7:
        fitted.choose(
            f"with {pairs:,} pairs a word and its capitalised form are better one symbol, so translations are in lower "
            "case; data.lowercase=false keeps capitals",
            {"data.lowercase": True},
        )


def choose_vocabulary(fitted: Fitted, source: _Side, target: _Side, scale: float) -> None:
    """For byte pair encoding 13·√words symbols, from 200 to 16,000; one vocabulary for two languages of one script."""
    if fitted.value("data.tokenizer") != "bpe":
        fitted.choose("every symbol of the training text is known", {"data.vocabulary_size": 0})
        return
    words = max(source.words, target.words) * scale
    size = min(max(100 * round(13 * math.sqrt(words) / 100), 200), 16_000)
    shared = source.script == target.script != ""
    reason = f"13·√{words:,.0f} words: each symbol must come often enough to be learned"
    settings: dict[str, Value] = {"data.vocabulary_size": size, "data.min_frequency": 2}
    if shared:
        reason += f"; both languages are written in {source.script.capitalize()} letters, so they share it"
        settings["data.shared_vocabulary"] = True
    fitted.choose(reason, settings)


def choose_lengths(
    fitted: Fitted,
    source: np.ndarray[tuple[int], np.dtype[np.int64]],
    target: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> None:
    """Pairs of up to 100 symbols on a side; with longer ones 99 of 100, up to 250 symbols, but at least half of all."""
    longest = np.maximum(source, target)
    limits = [limit for limit in (fitted.base.model.longest_source(), fitted.base.model.longest_target()) if limit]
    most = int(np.percentile(longest, 99))
    if most > 100:
        middle = int(np.median(longest))
        limit = min([10 * math.ceil((most if most <= 250 else max(250, middle)) / 10), *limits])
        fitted.choose(
            f"half of the pairs have up to {middle} symbols on a side, 99 of 100 up to {most}",
            {"data.max_length": limit},
        )
    limit = int(fitted.value("data.max_length"))
    left_out = float(np.mean(longest > limit))
    if left_out > 0.1:
        fitted.notes.append(
            f"{100 * left_out:.0f} % of the pairs are longer than {limit} symbols and are not trained on; cut their "
            "lines into sentences, or raise data.max_length, which takes time and memory"
        )
    room = min([int(1.5 * np.percentile(target, 99)) + 10, *limits])
    fitted.choose("room for a translation half as long again as nearly all targets", {"decoding.max_length": room})


def choose_batches(fitted: Fitted, pairs: int, symbols: float) -> int:
    """Batches of 1/160 of the pairs, 8 to 128 of them; as many epochs as read 120,000 pairs, 8 to 60.

    Args:
        symbols: the mean length of a pair's longer side.

    Returns:
        About how many steps training has.
    """
    sentences = min(max(2 ** round(math.log2(max(pairs, 160) / 160)), 8), 128)
    longest = int(fitted.value("data.max_length"))
    # A batch of long lines must fit into memory, so it has fewer of them.
    unit = fitted.value("training.batch_type") if "training.batch_type" in fitted.given else None
    by_tokens = unit == "tokens" if unit else longest > 100
    size = max(sentences * math.ceil(symbols), longest + 1) if by_tokens else sentences
    if unit or "training.batch_size" not in fitted.given:  # a size that is given alone counts sentences
        fitted.choose(
            f"about {sentences} pairs: smaller batches learn more from few pairs, larger ones are faster",
            {"training.batch_type": "tokens" if by_tokens else "sentences", "training.batch_size": size},
        )
    epochs = min(max(round(120_000 / pairs), 8), 60)
    fitted.choose(f"{pairs:,} pairs; the fewer they are, the more often each is read", {"training.epochs": epochs})
    return int(fitted.value("training.epochs")) * math.ceil(pairs / sentences)


def choose_model(fitted: Fitted, pairs: int, steps: int) -> None:
    """The model's size by the number of pairs, and what suits the model; Bahdanau's, unless the user names another."""
    name = fitted.base.model.name
    fitted.choose("a recurrent network with attention learns more from few pairs than others", {"model.name": name})
    width = next(width for least, width in reversed(_WIDTHS) if pairs >= least)
    suited = MODELS[name].Settings.suited(width, steps)
    fitted.choose(f"{width} wide for {pairs:,} pairs; a wider one learns few pairs by heart", suited)
    if "dropout" in type(fitted.base.model).types():
        scarce = pairs < 200_000 and fitted.value("data.tokenizer") == "bpe"
        fitted.choose("against learning by heart", {"model.dropout": 0.3 if scarce else 0.1})


def choose_training(fitted: Fitted) -> None:
    """What says which epoch is the best; for sentences, which have more than one good translation, softer targets."""
    if fitted.value("data.tokenizer") == "characters":
        measured: dict[str, Value] = {
            "training.early_stopping_metric": "exact_match",
            "training.bleu_tokenizer": "char",
        }
        fitted.choose("an answer is right or wrong as a whole", {**measured, "training.patience": 10})
        return
    fitted.choose(
        "the weights with the best BLEU are kept; it grows after the validation loss has stopped falling, but not for "
        "ten epochs without progress",
        {"training.early_stopping_metric": "bleu", "training.patience": 10},
    )
    if fitted.value("data.tokenizer") == "bpe":
        fitted.choose("a sentence has more than one good translation", {"training.label_smoothing": 0.1})
        fitted.choose("beam search finds likelier translations than greedy decoding", {"decoding.beam": 5})


def _notes(text: ParallelText) -> list[str]:
    """What the user should know about the text."""
    found = []
    # A number of 64 bits for each pair, so that millions need not be held; two pairs have the same by a rare chance.
    train, equal = np.empty(len(text.train), np.int64), 0
    for i, pair in enumerate(worked_off(text.train, "comparing pairs", len(text.train))):
        train[i] = hash(pair)
        equal += pair[0] == pair[1]
    train.sort()
    different = len(train) and 1 + int(np.count_nonzero(train[1:] != train[:-1]))
    if different < 1_000:
        found.append(
            f"{different:,} different pairs are few: expect little of sentences that are not among them; a model "
            "that translates needs some ten thousand"
        )
    repeated = len(train) - different
    if repeated > len(train) / 20:
        found.append(f"{repeated:,} of {len(train):,} training pairs come again; they count more than others")
    test = np.array([hash(pair) for pair in text.test], np.int64)
    seen = int(np.count_nonzero(np.searchsorted(train, test, "right") > np.searchsorted(train, test)))
    if seen:
        found.append(
            f"{seen:,} of {len(text.test):,} test pairs are in the training text too: figures say too much of the model"
        )
    if equal > len(train) / 5:
        found.append(f"in {equal:,} of {len(train):,} training pairs source and target are equal")
    return found


def _typed(value: Value) -> str:
    """A value as typed after ``--set``."""
    return str(value).lower() if isinstance(value, bool) else str(value)
