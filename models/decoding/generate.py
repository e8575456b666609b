"""Generation: a language model continues a text, symbol by symbol, each drawn by chance from what the model expects.

::

    for piece in generate(model, tokenizer, "Mina has three", Sampling(temperature=0.8)):
        print(piece, end="", flush=True)

Unlikely symbols may be left out: all but the ``top_k`` likeliest, or all beyond the likeliest that together have the
probability ``top_p`` (nucleus sampling: Holtzman, Buys, Du, Forbes and Choi, "The Curious Case of Neural Text
Degeneration", 2020). When as many symbols are read as the model can read, the window
slides: it goes on from the later half of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import no_grad
from tinygrad_attn.nn.evaluating import evaluating

from ..console.errors import UserError
from ..data import END, PAD, START, UNKNOWN, Tokenizer
from ..interface import Decoder, LanguageModel
from .states import decoder_of

__all__ = ["Sampling", "distribution", "first_symbols", "generate", "generate_ids"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sampling:
    """How symbols are drawn.

    Raises:
        UserError: a value that cannot be; the message names it.
    """

    temperature: float = 0.8
    """By which logits are divided: 1 keeps the distribution, less prefers likely symbols, 0 takes the likeliest."""
    top_k: int = 0
    """Draw from so many of the likeliest symbols; 0 from all."""
    top_p: float = 1.0
    """Draw from the fewest symbols that together have this probability."""
    length: int = 500
    """The most symbols to write."""
    stop: tuple[str, ...] = ()
    """Texts at which to end; they are not written."""
    seed: int | None = None
    """The same seed writes the same text; None takes another each time."""

    def __post_init__(self) -> None:
        wrong = {
            "temperature": (not 0 <= self.temperature < np.inf, "at least 0"),
            "top_k": (self.top_k < 0, "at least 0"),
            "top_p": (not 0 < self.top_p <= 1, "more than 0 and at most 1"),
            "length": (self.length < 0, "at least 0"),
            "stop": (isinstance(self.stop, str) or not all(self.stop), "texts that are not empty"),
            "seed": (self.seed is not None and self.seed < 0, "at least 0"),
        }
        for name, (is_wrong, right) in wrong.items():
            if is_wrong:
                raise UserError(f"generate: {name} must be {right}, got {getattr(self, name)!r}")


def generate(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Iterator[str]:
    """The continuation of ``prompt``, piece by piece, as it is written; the pieces joined are the whole.

    An empty prompt stands for a line's end, after which a new line begins.

    Args:
        model: in evaluation mode or not; nothing is dropped.
        tokenizer: its symbols.
        prompt: the beginning, which is not repeated.
        sampling: how to draw, where to end.

    Raises:
        UserError: a prompt without symbols, where the vocabulary has no line's end.
    """
    read = first_symbols(tokenizer, prompt)
    return _pieces(generate_ids(model, read, sampling, (PAD, START, UNKNOWN), END), tokenizer, read, sampling.stop)


def first_symbols(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt; see `generate`."""
    read = list(tokenizer.encode(prompt or "\n"))
    if not read or (not prompt and UNKNOWN in read):
        raise UserError("generate: the prompt is empty, and the model knows no line's end to begin after; give a text")
    return read


def _pieces(ids: Iterator[int], tokenizer: Tokenizer, read: Sequence[int], stop: Sequence[str]) -> Iterator[str]:
    """The text of ids that are not there yet; what may become a text of ``stop`` is held back."""
    known = [*read[-1:]]  # the symbol before, since it may say whether a blank is between
    shown = len(tokenizer.decode(known))
    for number in ids:
        known.append(number)
        text = tokenizer.decode(known)
        ends = [at for end in stop if (at := text.find(end, max(0, shown - len(end) + 1))) >= shown]
        if ends:
            yield text[shown : min(ends)]
            return
        safe = len(text) - max((_overlap(text[shown:], end) for end in stop), default=0)
        if safe > shown:
            yield text[shown:safe]
            shown = safe
    text = tokenizer.decode(known)
    if text[shown:]:
        yield text[shown:]


def _overlap(text: str, end: str) -> int:
    """The length of the longest end of ``text`` that is a beginning of ``end``."""
    return next((size for size in range(min(len(end) - 1, len(text)), 0, -1) if end.startswith(text[-size:])), 0)


@no_grad()
def generate_ids(
    model: LanguageModel, read: Sequence[int], sampling: Sampling, forbidden: Sequence[int] = (), end: int | None = None
) -> Iterator[int]:
    """The ids that follow ``read``, at least one id, one by one, up to ``end`` without it.

    Args:
        model: any without a source.
        read: the ids so far.
        sampling: how to draw; ``stop`` is not looked at.
        forbidden: ids that are never drawn.
        end: the id at which the text ends, None for none.
    """
    generator = np.random.default_rng(sampling.seed)
    never = [*forbidden, *([] if end is None or model.delimited else [end])]
    text = list(read)
    with evaluating(model):
        step = _reader(model)
        logits = step(text)
        for _ in range(sampling.length):
            logits[never] = -np.inf
            chosen = int(generator.choice(len(logits), p=distribution(logits, sampling)))
            if chosen == end:
                return
            yield chosen
            text.append(chosen)
            logits = step(text)


def _reader(model: LanguageModel) -> Callable[[list[int]], Array]:
    """A function from all ids so far, of which it reads those that are new, to the logits of the next."""
    decoder: Decoder | None = None
    done = first = 0

    def step(text: list[int]) -> Array:
        nonlocal decoder, done, first
        if decoder is None or (model.context is not None and len(text) - first > model.context):
            decoder = decoder_of(model, model.start(model.encode()), 1)
            keep = len(text) if model.context is None else model.context if not done else max(1, model.context // 2)
            done = first = max(0, len(text) - keep)
        for number in text[done:]:
            logits = decoder.step(np.array([number]))[0]
        done = len(text)
        return logits

    return step


def distribution(logits: Array, sampling: Sampling) -> Array:
    """The probabilities (V,), float64, with which the next symbol is drawn, from its logits."""
    logits = logits.astype(np.float64)
    if sampling.temperature == 0:
        return (np.arange(len(logits)) == logits.argmax()).astype(np.float64)
    logits = (logits - logits.max()) / sampling.temperature
    order = np.argsort(-logits, kind="stable")
    weights = np.exp(logits[order])
    kept = weights > 0
    if sampling.top_k:
        kept[sampling.top_k :] = False
    weights = np.where(kept, weights, 0.0)
    weights /= weights.sum()
    if sampling.top_p < 1:
        weights[np.cumsum(weights) - weights >= sampling.top_p] = 0.0  # the first is always kept
        weights /= weights.sum()
    probabilities = np.empty_like(weights)
    probabilities[order] = weights
    return probabilities
