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

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from tinygrad_attn import no_grad
from tinygrad_attn.nn.evaluating import evaluating

from ..console.errors import UserError
from ..data import END, PAD, START, UNKNOWN, Tokenizer
from ..interface import Decoder, LanguageModel, TextDecoder
from .sampling import Sampling
from .states import PlainDecoder, decoder_of

__all__ = ["Sampling", "distribution", "first_symbols", "generate", "generate_ids"]

Array = np.ndarray[Any, Any]


def generate(model: LanguageModel, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Iterator[str]:
    """The continuation of ``prompt``, piece by piece, as it is written; the pieces joined are the whole.

    An empty prompt stands for a line's end, after which a new line begins; a model of sentences (``delimited``) begins
    one.

    Args:
        model: in evaluation mode or not; nothing is dropped.
        tokenizer: its symbols.
        prompt: the beginning, which is not repeated.
        sampling: how to draw, where to end.

    Raises:
        UserError: a prompt without symbols, where the vocabulary has no line's end; later, logits of which none can be
            drawn.
    """
    read = [] if model.delimited and not prompt else first_symbols(tokenizer, prompt)
    return _pieces(generate_ids(model, read, sampling, (PAD, START, UNKNOWN), END), tokenizer, read, sampling.stop)


def first_symbols(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt; see `generate`."""
    read = list(tokenizer.encode(prompt or "\n"))
    if not read or (not prompt and UNKNOWN in read):
        raise UserError("generate: the prompt is empty, and the model knows no line's end to begin after; give a text")
    return read


def _pieces(ids: Iterator[int], tokenizer: Tokenizer, read: Sequence[int], stop: Sequence[str]) -> Iterator[str]:
    """The text of ids that are not there yet; what may become a text of ``stop`` is held back."""
    context = [*read[-1:]]  # from the last symbol with text on: they say whether a blank is before the next
    held = ""
    for number in ids:
        before = tokenizer.decode(context)
        held += tokenizer.decode([*context, number])[len(before) :]
        context = [number] if tokenizer.decode([number]) else [*context, number]
        ends = [at for end in stop if (at := held.find(end)) >= 0]
        if ends:
            held = held[: min(ends)]
            break
        safe = len(held) - max((_overlap(held, end) for end in stop), default=0)
        if safe:
            yield held[:safe]
            held = held[safe:]
    if held:
        yield held


def _overlap(text: str, end: str) -> int:
    """The length of the longest end of ``text`` that is a beginning of ``end``."""
    return next((size for size in range(min(len(end) - 1, len(text)), 0, -1) if end.startswith(text[-size:])), 0)


def generate_ids(
    model: LanguageModel, read: Sequence[int], sampling: Sampling, forbidden: Sequence[int] = (), end: int | None = None
) -> Iterator[int]:
    """The ids that follow ``read``, one by one, up to ``end`` without it.

    Args:
        model: any without a source.
        read: the ids so far, without ``<s>``, which a model of sentences (``delimited``) reads first; of another at
            least one.
        sampling: how to draw; ``stop`` is not looked at.
        forbidden: ids that are never drawn.
        end: the id at which the text ends, None for none.

    Raises:
        UserError: logits of which none can be drawn; see `distribution`.
    """
    generator = np.random.default_rng(sampling.seed)
    never = np.array([*forbidden, *([] if end is None or model.delimited else [end])], np.int64)
    text = [START, *read] if model.delimited else list(read)
    step = _reader(model)
    for _ in range(sampling.length):
        logits = step(text)
        logits[never] = -np.inf
        chosen = _drawn(logits, sampling, generator)
        if chosen == end:
            return
        yield chosen
        text.append(chosen)


def _reader(model: LanguageModel) -> Callable[[list[int]], Array]:
    """A function from all ids so far, of which it reads those that are new, to the logits of the next.

    The model is in evaluation mode while the function runs, and not between: who gets the ids may train it, or have it
    write another text. Its own fast decoder knows no modes once it is made.
    """
    decoder: Decoder | None = None
    done = first = 0

    def begin(text: list[int]) -> Array:
        """Read a window that ends with the text; what was read before is forgotten."""
        nonlocal decoder, first
        keep = len(text) if model.context is None else model.context if not done else max(1, model.context // 2)
        first = max(0, len(text) - keep)
        if not isinstance(decoder, TextDecoder):
            decoder = decoder_of(model, model.start(model.encode()), 1)
        window = np.array(text[first:])
        if isinstance(decoder, TextDecoder):
            return decoder.read(window)[0]
        for number in window:
            logits = decoder.step(np.array([number]))
        return logits[0]

    def step(text: list[int]) -> Array:
        nonlocal done
        begins = decoder is None or (model.context is not None and len(text) - first > model.context)
        by_itself = not (begins or isinstance(decoder, PlainDecoder))
        with no_grad(), nullcontext() if by_itself else evaluating(model):
            logits = begin(text) if begins else decoder.step(np.array(text[done:]))[0]  # type: ignore[union-attr]
        done = len(text)
        return logits

    return step


def _drawn(logits: Array, sampling: Sampling, generator: np.random.Generator) -> int:
    """A symbol, drawn by `distribution`."""
    if sampling.temperature == 0:
        chosen = int(logits.argmax())  # of nan, if there is any
        _check(logits[chosen])
        return chosen
    reached = distribution(logits, sampling).cumsum()
    reached /= reached[-1]
    return int(reached.searchsorted(generator.random(), side="right"))  # as Generator.choice, without its checks


def distribution(logits: Array, sampling: Sampling) -> Array:
    """The probabilities (V,), float64, with which the next symbol is drawn, from its logits.

    Raises:
        UserError: all logits are -inf, so that no symbol may be drawn; or one is nan or inf.
    """
    logits = logits.astype(np.float64)
    likeliest = logits.argmax()  # of nan, if there is any
    _check(logits[likeliest])
    if sampling.temperature == 0:
        return (np.arange(len(logits)) == likeliest).astype(np.float64)
    with np.errstate(over="ignore"):  # of a temperature near 0: -inf then
        weights = np.exp((logits - logits[likeliest]) / sampling.temperature)
    if sampling.top_k:
        _keep(weights, sampling.top_k)
    weights /= weights.sum()
    if sampling.top_p < 1:
        ordered = np.sort(weights)[::-1]
        count = int(np.count_nonzero(ordered.cumsum() - ordered < sampling.top_p))  # at least 1
        _keep(weights, count)
        weights /= weights.sum()
    return weights


def _check(most: float) -> None:
    """Raise, of the largest logit, where `distribution` does."""
    if not math.isfinite(most):
        raise UserError(
            "generate: no symbol may be drawn, since the vocabulary has none beside the control symbols; train on a "
            "text of symbols that come at least data.min_frequency times"
            if most == -math.inf
            else f"generate: the model's logits have {most}, so its weights have diverged; train again with a lower "
            "training.learning_rate"
        )


def _keep(weights: Array, count: int) -> None:
    """Set all but the ``count`` largest to 0; of equals the first are kept."""
    if count >= len(weights):
        return
    least = np.partition(weights, len(weights) - count)[len(weights) - count]
    kept = weights > least
    kept[np.flatnonzero(weights == least)[: count - np.count_nonzero(kept)]] = True
    weights[~kept] = 0.0
