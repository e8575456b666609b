"""Translates lists of sentences in batches of similar length, by greedy decoding or beam search; of several processes
that share the work each takes some of the batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

from tinygrad_attn.nn import frozen_weights
from tinygrad_attn.nn.evaluating import evaluating

from ..console.counts import counted
from ..console.working import working
from ..data import pad
from ..data.batches import BoolArray, IntArray
from ..interface import Translator
from ..parallel.ranks import current
from ..runs.config import DecodingConfig
from .beam import Hypothesis, beam_search
from .constraints import Constraints
from .greedy import greedy

__all__ = ["OnBatch", "search", "translate"]

# From this length on, fewer sentences than a batch may have are translated together.
_LONGEST = 1000

_Batch = tuple[list[int], IntArray, BoolArray]  # indices of sentences, their ids, and the mask

OnBatch = Callable[[int], None]
"""Called after each batch with the number of its sentences."""


def translate(
    model: Translator, sentences: Sequence[Sequence[int]], settings: DecodingConfig, on_batch: OnBatch | None = None
) -> list[list[int]]:
    """The best translations of sentences of any lengths, in their order.

    Args:
        sentences: source ids, without control symbols.
        settings: the width of the beam (1 is greedy), the length penalty, the number of sentences in a batch, the most
            tokens of a translation, and its `Constraints`.
        on_batch: called after each batch with the number of its sentences.

    Returns:
        A list of target ids for each sentence. An empty sentence has an empty translation.
    """
    if settings.beam > 1:
        ranked = search(model, sentences, settings, on_batch=on_batch)
        return [list(hypotheses[0].tokens) if hypotheses else [] for hypotheses in ranked]
    translations: list[list[int]] = [[] for _ in sentences]
    constraints = Constraints.of(settings)

    def work(batch: _Batch) -> list[tuple[int, list[int]]]:
        chosen, source, mask = batch
        found = greedy(model, source, mask, settings.max_length, constraints, settings.int8)
        return list(zip(chosen, found, strict=True))

    batches = _batches(model, sentences, settings.batch_size, on_batch)
    for i, translation in itertools.chain(*current().divided(batches, work)):
        translations[i] = translation
    return translations


def search(
    model: Translator,
    sentences: Sequence[Sequence[int]],
    settings: DecodingConfig,
    n_best: int = 1,
    on_batch: OnBatch | None = None,
) -> list[list[Hypothesis]]:
    """For each sentence the ``n_best`` translations of a beam search, the best first; see `translate`.

    An empty sentence has no translation.

    Raises:
        ValueError: ``n_best`` is not from 1 to the width of the beam.
    """
    if not 1 <= n_best <= settings.beam:
        raise ValueError(f"search: n_best must be from 1 to the width of the beam, {settings.beam}; got {n_best}")
    found: list[list[Hypothesis]] = [[] for _ in sentences]
    constraints = Constraints.of(settings)

    def work(batch: _Batch) -> list[tuple[int, list[Hypothesis]]]:
        chosen, source, mask = batch
        best = beam_search(
            model, source, mask, settings.max_length, settings.beam, settings.length_penalty, n_best, constraints,
            settings.int8,
        )  # fmt: skip
        return list(zip(chosen, best, strict=True))

    batches = _batches(model, sentences, settings.batch_size, on_batch)
    for i, hypotheses in itertools.chain(*current().divided(batches, work)):
        found[i] = hypotheses
    return found


def _batches(
    model: Translator, sentences: Sequence[Sequence[int]], size: int, on_batch: OnBatch | None
) -> Iterator[_Batch]:
    """Batches of the sentences that are not empty, longest first: their indices, ids and mask.

    The model is in evaluation mode during the iteration. With the longest sentences first, the estimate of the time
    left is too high rather than too low.
    """
    order = [i for i, sentence in enumerate(sentences) if len(sentence)]
    order.sort(key=lambda i: len(sentences[i]), reverse=True)
    counted_here = on_batch is None and len(order) > size
    counting = working("translating sentences", len(order)) if counted_here else nullcontext(lambda count: None)
    with evaluating(model), frozen_weights(model), counting as advance:
        while order:
            # One long sentence among many is not worth that much padding.
            fitting = max(1, size * _LONGEST // len(sentences[order[0]]))
            chosen, order = order[: min(size, fitting)], order[min(size, fitting) :]
            longest = len(sentences[chosen[0]])
            what = f"translating {counted(len(chosen), 'sentence')} of up to {counted(longest, 'symbol')}"
            with nullcontext() if counted_here else working(what):
                yield chosen, *pad([sentences[i] for i in chosen])
            advance(len(chosen))
            if on_batch is not None:
                on_batch(len(chosen))
