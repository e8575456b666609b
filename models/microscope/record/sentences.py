"""Many sentences, each followed as the one that is shown: one sentence is an anecdote.

For every sentence each token's loss L_t goes back to every symbol that was read, which gives ‖∂L_t/∂x_j‖ of its
embedding x_j; and every head of every attention has an entropy and a gradient of its scores. All tokens are followed in
one pass: the sentence stands in the batch once for each token, and in row t the loss is that of token t alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tinygrad_attn import unfused
from tinygrad_attn.autograd import grad
from tinygrad_attn.nn import functional as F
from tinygrad_attn.record import Call, Output, Record, record
from tinygrad_attn.tensor import Tensor

from ...console.working import worked_off
from ...evaluation.scoring import read_and_said
from ...interface import LanguageModel
from ...runs.folder import Run
from ..checks.softmax import softmax
from .drawn import Given, draw
from .estimate import refuse_too_large
from .example import Example
from .heads import described_heads
from .single_tokens import looks_up
from .sites import find_sites
from .trace import Traced, trace

__all__ = ["Among", "Followed", "Once", "Others", "Side", "follow", "follow_among", "follow_others"]

Array = np.ndarray[Any, Any]

_SYMBOLS = 4096
"""The most symbols of a batch of copies."""


@dataclass(frozen=True)
class Side:
    """The symbols of a source, or those that a decoder or language model reads: S of them, and T tokens."""

    each: Array
    """(T, S): ‖∂L_t/∂x_j‖."""
    whole: Array
    """(S,): ‖∂L/∂x_j‖ of the loss L, the mean of the L_t, from a pass of its own."""
    distance: Array
    """(T, S): how many symbols were read after symbol j when token t was predicted; below zero those not yet read."""


@dataclass(frozen=True)
class Followed:
    """One sentence."""

    example: Example
    loss: float
    unsure: float
    """The largest 1 − p of its tokens: the size of the gradient where it begins."""
    sides: dict[str, Side]
    """By name "source" and "target", those whose symbols the model looks up."""
    heads: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By attention site the "entropy" and the "gradient" ‖∂L/∂e‖ of each head."""
    off: float = 0.0
    """The largest element of the mean of all ∂L_t/∂x_j minus ∂L/∂x_j."""
    size: float = 0.0
    """The largest sum of the |elements| that this mean was taken of."""

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        numbers = [self.loss, self.off, *(x for site in self.heads.values() for heads in site.values() for x in heads)]
        return bool(np.isfinite(numbers).all()) and all(np.isfinite(side.each).all() for side in self.sides.values())


@dataclass(frozen=True)
class Others:
    """Sentences to take averages over."""

    followed: list[Followed]
    """Those whose passes are finite."""
    split: Literal["test", "valid", "given"]
    """What they are of."""
    left_out: int
    """How many could not be read, or were not finite."""


@dataclass(frozen=True)
class Among(Others):
    """The sentence that is shown, among others."""

    own: Followed


class Once:
    """Sentences that are followed at their first use, for several passes with the same weights."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self._others: Others | None = None

    def follow(self, model: LanguageModel, run: Run | None) -> Others:
        """Follow them, or return what was found before; the arguments are those of `follow_others`."""
        if self._others is None:
            self._others = follow_others(model, self.given, run)
        return self._others


def follow_among(model: LanguageModel, given: Given | Once, run: Run | None, traced: Traced, example: Example) -> Among:
    """Follow the sentence of a pass, and others.

    Args:
        model, given, run: see `follow_others`.
        traced: the pass that is shown.
        example: what it read.
    """
    others = given.follow(model, run) if isinstance(given, Once) else follow_others(model, given, run)
    return Among(others.followed, others.split, others.left_out, follow(traced, example))


def follow_others(model: LanguageModel, given: Given, run: Run | None) -> Others:
    """Follow sentences, with progress.

    Args:
        model: in float64 (see `models.microscope.record.trace.in_float64`).
        given: the sentences, see `models.microscope.record.drawn.draw`, which says what is raised.
        run: the run that the model is from.
    """
    chosen = draw(model, given, run)
    refuse_too_large(model, max(chosen.examples, key=_length))
    followed = []
    for each in worked_off(chosen.examples, "following sentences", len(chosen.examples)):
        source = None if each.source is None else each.source["ids"]
        followed.append(follow(trace(model, source, each.target["ids"], single_tokens=False), each))
    finite = [each for each in followed if each.finite]
    return Others(finite, chosen.split, chosen.left_out + len(followed) - len(finite))


def _length(example: Example) -> int:
    return len(example.target["ids"]) + (0 if example.source is None else len(example.source["ids"]))


def follow(traced: Traced, example: Example) -> Followed:
    """One sentence.

    Args:
        traced: a pass over it.
        example: what the model read.
    """
    model = traced.model
    assert isinstance(model, LanguageModel)
    read, expected = read_and_said(model, example.target["ids"])
    symbols = {"target": read} if traced.source is None else {"source": list(traced.source), "target": read}
    parameters = {id(parameter) for parameter in model.parameters()}
    whole = {
        name: _joined([np.zeros_like(o.value) if o.gradient is None else o.gradient for o in outputs], 1)[0]
        for name, outputs in _lookups(traced.record, parameters, symbols, 1).items()
    }
    each = _token_gradients(model, traced.source, read, expected, parameters, symbols)
    sides, off, size = {}, 0.0, 0.0
    for name in whole.keys() & each.keys():
        off = max(off, float(np.abs(each[name].mean(axis=0) - whole[name]).max(initial=0.0)))
        size = max(size, float(np.abs(each[name]).mean(axis=0).max(initial=0.0)))
        distances = _distances(len(expected), len(symbols[name]), name == "source")
        of_each, of_whole = np.linalg.norm(each[name], axis=-1), np.linalg.norm(whole[name], axis=-1)
        sides[name] = Side(of_each, of_whole, distances)
    described = described_heads(find_sites(traced))
    heads = {each["site"]: {"entropy": each["entropy"], "gradient": each["gradient_norms"]} for each in described}
    ordered = {name: sides[name] for name in symbols if name in sides}
    return Followed(example, float(traced.loss.values[0]), _unsure(traced), ordered, heads, off, size)


def _unsure(traced: Traced) -> float:
    """The largest probability that a token was not given."""
    others = softmax(traced.logits)
    others[np.arange(len(others)), list(traced.expected)] = 0.0
    return float(np.max(others.sum(axis=-1), initial=0.0))


def _distances(tokens: int, symbols: int, of_source: bool) -> Array:
    """A source is read before the symbols of the target, of which token t is predicted after the one at t."""
    t, j = np.arange(tokens)[:, None], np.arange(symbols)[None]
    return t - j + symbols if of_source else t - j


def _token_gradients(
    model: LanguageModel,
    source: Sequence[int] | None,
    read: Sequence[int],
    expected: Sequence[int],
    parameters: set[int],
    symbols: Mapping[str, Sequence[int]],
) -> dict[str, Array]:
    """By side ∂L_t/∂x_j, (T, S, E)."""
    most = max(1, _SYMBOLS // sum(map(len, symbols.values())))
    found: dict[str, list[Array]] = {}
    for first in range(0, len(expected), most):
        tokens = np.arange(first, min(first + most, len(expected)))
        copies = len(tokens)
        given = [] if source is None else [np.tile(source, (copies, 1)), np.ones((copies, len(source)), bool)]
        said = np.array(expected, np.int64)[tokens]
        with record() as recorded, unfused():
            logits = model(*map(Tensor, given), Tensor(np.tile(np.array(read, np.int64), (copies, 1))))
            loss = F.cross_entropy(logits[np.arange(copies), tokens], Tensor(said), reduction="sum")
        sides = _lookups(recorded, parameters, symbols, copies)
        if not sides:
            return {}
        outputs = [output for those in sides.values() for output in those]
        with unfused():
            gradients = iter(grad(loss, [recorded.tensor_of(output) for output in outputs], allow_unused=True))
        for name, those in sides.items():
            arrays = [np.zeros_like(o.value) if g is None else g.array for o, g in zip(those, gradients, strict=False)]
            found.setdefault(name, []).append(_joined(arrays, copies))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _joined(gradients: Iterable[Array], copies: int) -> Array:
    """(copies, symbols, E), of the lookups of one side: of all symbols at once, or of one after the other."""
    return np.concatenate([each.reshape(copies, -1, each.shape[-1]) for each in gradients], axis=1)


def _lookups(
    recorded: Record, parameters: set[int], symbols: Mapping[str, Sequence[int]], copies: int
) -> dict[str, list[Output]]:
    """By side the ops that look its symbols up, in their order; a side whose symbols are not all found is left out."""
    waiting = [call for call in recorded.calls if not call.during_backward and looks_up(call, parameters)]
    found: dict[str, list[Output]] = {}
    for name, ids in symbols.items():
        mine, at = [], 0
        for call in waiting:
            looked = _ids(call, copies)
            end = at + (0 if looked is None else looked.shape[1])
            if looked is not None and at < end <= len(ids) and (looked == ids[at:end]).all():
                mine.append(call)
                at = end
        if at == len(ids):
            found[name] = [Output(call, 0) for call in mine]
            waiting = [call for call in waiting if call not in mine]
    return found


def _ids(call: Call, copies: int) -> Array | None:
    """The ids that a call looks up, (copies, symbols); None if they are not those of a batch of copies."""
    ids: Array = np.asarray(call.arrays[0])
    return ids.reshape(copies, -1) if ids.ndim and ids.shape[0] == copies else None
