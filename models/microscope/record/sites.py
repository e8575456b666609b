"""Where a model attends: found in the recorded graph, whatever the model, by the softmax that makes the weights.

From the softmax the search goes back to the product or the additive form that made the scores, and on to the product of
the weights with the values. What is found are *parts*: an operand or output of a recorded call. Calls of several
decoder steps over the same values are one place of attention, with a row for each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tinygrad_attn import nn
from tinygrad_attn.record import Call, Leaf, Output

from ...interface import Translator
from .trace import Traced

__all__ = ["Part", "Place", "Quantity", "find_places"]

Array = np.ndarray[Any, Any]
Role = Literal["cross", "self", "causal"]

# Ops that move numbers and do not change them.
_MOVES = frozenset(
    "alias clone expand flatten movedim permute reshape select slice_view split squeeze stack transpose unsqueeze view"
    " chunk narrow unbind swapaxes contiguous".split()
)
_SOFTMAXES = ("softmax", "masked_softmax")
_SCORES = {
    nn.ConcatScore: "concat",
    nn.GeneralScore: "general",
    nn.ScaledDotScore: "scaled_dot",
    nn.DotScore: "dot",
    nn.LocationScore: "location",
}


@dataclass(frozen=True)
class Part:
    """One operand of a call as the call sees it, or one of its outputs."""

    call: Call
    number: int
    """The operand's position, or which output."""
    operand: bool
    transposed: bool = False
    """Whether its last two axes are (channel, key)."""
    rows: int | None = None
    """How many of the first rows count; None for all."""

    def canonical(self, array: Array) -> Array:
        """A view (heads, rows, columns) of an array of this part's shape, for the one sentence of the batch."""
        if array.ndim == 4 and 1 in array.shape[1:3] and self.call.op.name == "add":
            # (B, T, 1, A) and (B, 1, S, A), which an additive score adds.
            array = array[:, :, 0] if array.shape[2] == 1 else array[:, 0]
        if self.transposed:
            array = np.swapaxes(array, -1, -2)
        if array.ndim == 4:
            return array[0]
        if array.ndim == 3:
            return array
        array = array[: self.rows]
        return array[None] if array.ndim == 2 else array[None, None]

    @property
    def source(self) -> Output | Leaf | None:
        """Where the numbers come from."""
        return self.call.inputs[self.number] if self.operand else Output(self.call, self.number)

    @property
    def array(self) -> Array:
        """The numbers in the call's own layout."""
        return np.asarray(self.call.arrays[self.number]) if self.operand else self.call.values[self.number]

    @property
    def value(self) -> Array:
        """(heads, rows, columns)."""
        return self.canonical(self.array)

    @property
    def gradient(self) -> Array | None:
        """Of an operand what this call sends to it, of an output all that arrives."""
        found = self.call.contributions.get(self.number) if self.operand else self.call.gradients[self.number]
        return None if found is None else self.canonical(found)


@dataclass
class Quantity:
    """A tensor of a place of attention: parts that are its rows, or parts that all are the whole of it."""

    parts: list[Part]
    shared: bool
    """Whether each part is the whole: a key that several steps score against."""

    @property
    def value(self) -> Array:
        """(heads, rows, columns)."""
        if self.shared:
            return self.parts[0].value
        return np.concatenate([part.value for part in self.parts], axis=1)

    @property
    def gradient(self) -> Array | None:
        """Of the same shape, or None if no gradient arrived; 0 in parts that it did not reach."""
        found = [part.gradient for part in self.parts]
        if all(gradient is None for gradient in found):
            return None
        filled = [
            np.zeros_like(part.value) if gradient is None else gradient
            for part, gradient in zip(self.parts, found, strict=True)
        ]
        if not self.shared:
            return np.concatenate(filled, axis=1)
        total = filled[0]
        for gradient in filled[1:]:
            total = total + gradient
        return total

    def perturbed(self, cell: tuple[int, int, int], by: float) -> Iterator[tuple[Part, Array]]:
        """Each part that holds the cell, with its array, in the call's layout, after ``by`` was added there."""
        head, row, column = cell
        for part in self.parts:
            rows = part.value.shape[1]
            if self.shared or 0 <= row < rows:
                array = part.array.copy()
                part.canonical(array)[head, row, column] += by
                yield part, array
            row -= 0 if self.shared else rows

    def calls(self) -> list[Call]:
        """The calls that made it."""
        sources = [part.source for part in self.parts]
        made = {source.call.index: source.call for source in sources if isinstance(source, Output)}
        return [made[index] for index in sorted(made)]


@dataclass
class Place:
    """A place of attention."""

    id: str
    role: Role
    score: str
    module: str
    scale: float
    quantities: dict[str, Quantity]
    """Q, K, V, scores, weights, context and so on, see `models.microscope.record.schema.Site`."""
    mask: Array | None
    """Bool (1 or heads, queries, keys)."""
    parameters: dict[str, Array]
    """v of the additive scores, (A,); W of the location score, (keys, channels)."""
    steps: dict[str, list[Call]] = field(default_factory=dict)
    """The calls of each of the six steps."""


@dataclass
class _Attending:
    """What one softmax is in the middle of."""

    softmax: Call
    score: str
    scale: float
    query: Part
    key: Part | None
    scoring: list[Call]
    scaling: list[Call]
    parameters: dict[str, Array]
    gaussian: Part | None
    mixing: Call


def find_places(traced: Traced) -> list[Place]:
    """All places of attention that the loss depends on, in the order of the forward pass.

    Raises:
        ValueError: a softmax weighs something, but its scores were made in a way that is not known here.
    """
    groups: dict[tuple[str, Any], list[_Attending]] = {}
    users = _users(traced.calls)
    for call in traced.calls:
        if call.op.name in _SOFTMAXES and call.gradients[0] is not None:
            attending = _around(call, traced.model, users)
            if attending is not None:
                values = _origin(attending.mixing.inputs[1])
                groups.setdefault((call.module, values), []).append(attending)
    return [_place(traced, module, found, users) for (module, _), found in groups.items()]


Users = dict[Output, list[tuple[Call, int]]]


def _users(calls: Sequence[Call]) -> Users:
    users: Users = {}
    for call in calls:
        for position, source in enumerate(call.inputs):
            if isinstance(source, Output):
                users.setdefault(source, []).append((call, position))
    return users


def _origin(source: Output | Leaf | None) -> Any:
    """What a tensor is a view of."""
    while isinstance(source, Output) and source.call.op.name in _MOVES - {"stack"}:
        source = source.call.inputs[0]
    return source


def _back(source: Output | Leaf | None) -> Call | None:
    """The call that made a tensor, looking through those that only move its numbers."""
    origin = _origin(source)
    return origin.call if isinstance(origin, Output) else None


def _around(softmax: Call, model: Translator, users: Users) -> _Attending | None:
    """Scores and context of a softmax; None if what it makes weighs nothing."""
    mixing, gaussian = _mixing(softmax, users)
    if mixing is None:
        return None
    made = _back(softmax.inputs[0])
    scale = 1.0
    scaling: list[Call] = []
    if made is not None and made.op.name == "mul" and isinstance(made.operands[1], float):
        scale, scaling = made.operands[1], [made]
        made = _back(made.inputs[0])
    if made is None or made.op.name not in ("matmul", "add"):
        raise ValueError(f"the scores of {softmax} in {softmax.module or 'no module'} are made in an unknown way")
    kind = _kind(softmax.module, model)
    if made.op.name == "add" or kind == "location":  # a linear map with a bias, or without
        product = made if made.op.name == "matmul" else _back(made.inputs[0])
        if product is None or product.op.name != "matmul":
            raise ValueError(f"the scores of {softmax} in {softmax.module or 'no module'} are made in an unknown way")
        keys = softmax.values[0].shape[-1]
        weight = np.swapaxes(product.arrays[1], -1, -2)[:keys]
        return _Attending(
            softmax, "location", 1.0, Part(product, 0, True), None, [product], scaling, {"W": weight}, gaussian, mixing
        )
    units = _back(made.inputs[0])
    if units is not None and units.op.name == "tanh":
        pairs = _back(units.inputs[0])
        if pairs is None or pairs.op.name != "add":
            raise ValueError(f"the additive scores of {softmax} are made of {pairs}, expected a sum of query and key")
        energy = np.asarray(made.arrays[1]).reshape(-1)
        kind = "concat" if kind == "concat" else "additive"
        query, key = Part(pairs, 0, True), Part(pairs, 1, True)
        scoring = [pairs, units, made]
        return _Attending(softmax, kind, 1.0, query, key, scoring, scaling, {"v": energy}, gaussian, mixing)
    query = Part(made, 0, True)
    if units is not None and units.op.name == "mul" and isinstance(units.operands[1], float):
        scale, query, scaling = scale * units.operands[1], Part(units, 0, True), [units]
    key = Part(made, 1, True, transposed=True)
    return _Attending(softmax, kind or "dot", scale, query, key, [made], scaling, {}, gaussian, mixing)


def _mixing(softmax: Call, users: Users) -> tuple[Call | None, Part | None]:
    """The product of the weights and the values, and what multiplied the weights on the way there."""
    waiting: list[tuple[Output, Part | None]] = [(Output(softmax, 0), None)]
    while waiting:
        output, gaussian = waiting.pop(0)
        for call, position in users.get(output, []):
            if call.op.name == "matmul" and position == 0:
                return call, gaussian
            if call.op.name == "mul" and isinstance(call.inputs[1], Output):
                waiting.append((Output(call, 0), Part(call, 1 - position, True)))
            elif call.op.name in _MOVES - {"stack"}:
                waiting += [(Output(call, index), gaussian) for index in range(len(call.values))]
    return None, None


def _kind(module: str, model: Translator) -> str | None:
    """The name of the score by the module that computes it, None if there is none to tell."""
    path = module.partition(".")[2]
    for name, found in model.named_modules():
        if isinstance(found, nn.MultiheadAttention) and name == path:
            return "scaled_dot_product"
        if isinstance(found, nn.Score) and name.rpartition(".")[0] == path:
            return next((kind for of_kind, kind in _SCORES.items() if isinstance(found, of_kind)), None)
    return None


def _place(traced: Traced, module: str, found: list[_Attending], users: Users) -> Place:
    first = found[0]
    several = len(found) > 1

    def rows(parts: list[Part]) -> Quantity:
        return Quantity(parts, shared=False)

    quantities = {"Q": rows([each.query for each in found])}
    if first.key is not None:
        quantities["K"] = Quantity([each.key for each in found if each.key is not None], shared=several)
    quantities["V"] = Quantity([Part(each.mixing, 1, True) for each in found], shared=several)
    quantities["scores"] = rows([Part(each.softmax, 0, True) for each in found])
    quantities["weights"] = rows([Part(each.softmax, 0, False) for each in found])
    if first.gaussian is not None:
        quantities["gaussian"] = rows([each.gaussian for each in found if each.gaussian is not None])
        quantities["mixed"] = rows([Part(each.mixing, 0, True) for each in found])
    quantities["context"] = rows([Part(each.mixing, 0, False) for each in found])
    path = module.partition(".")[2]
    of_heads = first.score == "scaled_dot_product"
    place = Place(
        path.removeprefix("transformer.") if of_heads else "attention",
        _role(path, traced),
        first.score,
        module,
        first.scale,
        quantities,
        _mask([each.softmax for each in found]),
        first.parameters,
    )
    scoring = [call for each in found for call in each.scoring]
    scaling = [call for each in found for call in each.scaling]
    softmaxes, mixings = [each.softmax for each in found], [each.mixing for each in found]
    if of_heads:
        place.steps = {"product": scoring, "scale": scaling, "mask": [], "softmax": softmaxes, "weighted_sum": mixings}
    else:
        place.steps = {"score": sorted([*scoring, *scaling], key=lambda call: call.index), "softmax": softmaxes}
        place.steps["weighted_sum"] = mixings
    _add_outcome(traced, place, users, of_heads)
    return place


def _role(path: str, traced: Traced) -> Role:
    if not path.endswith("self_attn"):
        return "cross"
    return "causal" if ".decoder." in f".{path}" else "self"


def _mask(softmaxes: list[Call]) -> Array | None:
    """Bool (1 or heads, queries, keys); None if nothing is masked."""
    masks = []
    for call in softmaxes:
        if call.op.name != "masked_softmax":
            return None
        scores, mask = call.values[0], np.asarray(call.arrays[1])
        full = np.broadcast_to(mask.reshape((1,) * (scores.ndim - mask.ndim) + mask.shape), scores.shape)
        masks.append(Part(call, 0, False).canonical(full))
    joined = np.concatenate(masks, axis=1)
    if joined.all():
        return None
    alike = len(joined) > 1 and (joined == joined[:1]).all()
    return np.ascontiguousarray(joined[:1] if alike else joined)


def _add_outcome(traced: Traced, place: Place, users: Users, of_heads: bool) -> None:
    """What becomes of the context: joined with what else is read, or with the other heads; and the decoder's output."""
    wanted = "matmul" if of_heads else "cat"
    announced = {mark.source.call.inputs[0] for mark in traced.record.marks if mark.name == "joined"}
    joining: list[tuple[Call, int]] = []
    for part in place.quantities["context"].parts:
        waiting = [Output(part.call, 0)]
        while waiting:
            for call, position in users.get(waiting.pop(0), []):
                if call.op.name == wanted and (of_heads or Output(call, 0) in announced):
                    if (call, position) not in joining:
                        joining.append((call, position))
                    waiting = []
                    break
                if call.op.name in _MOVES:
                    waiting += [Output(call, index) for index in range(len(call.values))]
    if of_heads:
        place.quantities["joined"] = Quantity([Part(call, 0, True) for call, _ in joining], shared=False)
        place.steps["joined"] = place.quantities["joined"].calls()
        return
    place.quantities["joined"] = Quantity([Part(call, 0, False) for call, _ in joining], shared=False)
    place.steps["concatenation"] = [call for call, _ in joining]
    output = [call for call in traced.calls if call.module.endswith(".output") and call.gradients[0] is not None]
    product = next(call for call in output if call.op.name == "matmul")
    place.quantities["attentional"] = Quantity(_complete(Part(product, 0, True)), shared=False)
    place.quantities["logits"] = Quantity([Part(output[-1], 0, False)], shared=False)
    made = place.quantities["attentional"].calls()
    place.steps["attentional"], place.steps["output"] = made, output


def _complete(part: Part) -> list[Part]:
    """The outputs that an operand (batch, time, channels) is, whose gradients are complete.

    With input feeding it joins what the steps made, each of which the next step has read, too.
    """
    source = part.source
    if not isinstance(source, Output):
        return [part]
    if source.call.op.name != "cat" or source.call.options["dim"] != 1:
        return [Part(source.call, source.index, False)]
    steps = [step for step in source.call.inputs if isinstance(step, Output)]
    return [Part(step.call, step.index, False) for step in steps]
