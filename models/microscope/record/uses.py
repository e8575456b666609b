"""Every use of a parameter, and what each sent back to its gradient, which is their sum.

A weight that every time step reads, or that two layers share, is one leaf of the graph with many edges. Backward sends
a gradient along each, and they add up. What only rearranges a weight before it is used (a transpose, a slice of its
rows) is looked through, so that a use is the op that computes with it.

Most uses are products of vectors: that of y = W x adds ȳ xᵀ, for each position and step. Such a use is kept as its
vectors, from which anyone can compute the matrix that it adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_attn.record import Call, Leaf, Output

from ..checks.ops import MOVES
from .trace import Traced

__all__ = ["LARGEST", "ParameterUses", "Use", "after_target", "find_uses"]

Array = np.ndarray[Any, Any]

LARGEST = 1_000_000
"""The most elements of a parameter whose uses are told in full; of larger ones only how much each contributes."""
_AGREE = 1e-9
"""How far vectors may be off the matrix that backward recorded, relative to its largest element."""


@dataclass
class Use:
    """One op that computes with a parameter, or with some of its rows."""

    call: Call
    position: int
    """Which operand it is."""
    contribution: Array
    """What backward sent along the edge, in the shape of the operand."""
    rearranged: list[Call] = field(default_factory=list)
    """What only rearranges the parameter before the op reads it, in order."""
    rows: tuple[int, int] | None = None
    """The rows of the parameter that it uses; None if they are not told, or are no rows one after another."""
    left: Array | None = None
    right: Array | None = None
    """(N, rows) and (N, columns): the contribution is the sum of the N products left_n right_nᵀ. None if it is none."""

    def seen(self, array: Array) -> Array:
        """An array of the parameter's shape, rearranged as the op sees the parameter."""
        for call, index in zip(self.rearranged, self._outputs(), strict=True):
            several = call.op.outputs != 1 or call.op.saves
            result = call.op.forward(array, *call.arrays[1:], **call.options)
            array = np.asarray(result[index] if several else result)
        return array

    def _outputs(self) -> Iterator[int]:
        """Which output of each rearranging op the next one reads."""
        for call, reader in zip(self.rearranged, [*self.rearranged, self.call][1:], strict=True):
            at = self.position if reader is self.call else 0
            source = reader.inputs[at]
            assert isinstance(source, Output) and source.call is call
            yield source.index


@dataclass
class ParameterUses:
    """A parameter and all its uses, in the order of the forward pass."""

    name: str
    leaf: Leaf
    uses: list[Use]

    @property
    def matrix(self) -> tuple[int, int]:
        """Its shape as a matrix: a vector is a column, further axes are columns."""
        shape = self.leaf.value.shape
        return (shape[0] if shape else 1), int(np.prod(shape[1:], dtype=np.int64))


def find_uses(traced: Traced) -> list[ParameterUses]:
    """The parameters that the pass used, in the model's order, with their uses."""
    readers: dict[Output | Leaf, list[tuple[Call, int]]] = {}
    for call in traced.forward:
        for position, source in enumerate(call.inputs):
            if source is not None:
                readers.setdefault(source, []).append((call, position))
    found = []
    for name, leaf in traced.parameters().items():
        uses = [use for use in _followed(leaf, readers, []) if use is not None]
        parameter = ParameterUses(name, leaf, sorted(uses, key=lambda use: use.call.index))
        if leaf.value.size <= LARGEST:
            for use in parameter.uses:
                _factor(use, parameter)
        found.append(parameter)
    return found


def _followed(
    source: Output | Leaf, readers: Mapping[Output | Leaf, Sequence[tuple[Call, int]]], before: list[Call]
) -> Iterator[Use]:
    """The ops that compute with a tensor, past those that rearrange it."""
    for call, position in readers.get(source, ()):
        if call.op.name in MOVES and position == 0 and not any(map(_is_float, call.arrays[1:])):
            for index in range(len(call.values)):
                yield from _followed(Output(call, index), readers, [*before, call])
        elif position in call.contributions:
            yield Use(call, position, call.contributions[position], before)


def after_target(traced: Traced) -> set[Call]:
    """The calls that depend on the symbols of the target; without a tensor of them, those behind the encoder."""
    if traced.read is None:
        encoded = [mark.source.call.index for mark in traced.record.marks if mark.name == "encoded"]
        return {call for call in traced.forward if call.index > max(encoded, default=-1)}
    found: set[Call] = set()
    for call in traced.forward:
        if any(
            source == traced.read or (isinstance(source, Output) and source.call in found) for source in call.inputs
        ):
            found.add(call)
    return found


def _is_float(operand: Any) -> bool:
    return isinstance(operand, np.ndarray) and operand.dtype.kind == "f"


def _factor(use: Use, parameter: ParameterUses) -> None:
    """Write the use's contribution as products of vectors, if it is a sum of such."""
    _rows, columns = parameter.matrix
    places = use.seen(np.arange(parameter.leaf.value.size, dtype=np.int64).reshape(parameter.leaf.value.shape))
    block, turned = _block(places, columns)
    if block is None:
        return
    vectors = _vectors(use, places.shape)
    if vectors is None:
        return
    left, right = vectors if not turned else vectors[::-1]
    product, contribution = left.T @ right, use.contribution.reshape(places.shape[0], -1)
    contribution = contribution.T if turned else contribution
    if product.shape != contribution.shape:
        return
    size = float(np.abs(contribution).max(initial=0.0))
    if not np.allclose(product, contribution, rtol=0.0, atol=_AGREE * size, equal_nan=True):
        return  # a derivative that is broken on purpose sends something else
    use.rows, use.left, use.right = block, left, right


def _block(places: Array, columns: int) -> tuple[tuple[int, int] | None, bool]:
    """The rows of a parameter whose elements' places are these, and whether they are transposed; None for others."""
    if places.ndim not in (1, 2) or places.size == 0:
        return None, False
    matrix = places.reshape(places.shape[0], -1)
    for turned in (False, True):
        straight = matrix.T if turned else matrix
        first = int(straight[0, 0])
        whole = straight.shape[1] == columns and first % columns == 0
        if whole and np.array_equal(straight.ravel(), np.arange(first, first + straight.size)):
            return (first // columns, first // columns + len(straight)), turned
    return None, False


def _vectors(use: Use, shape: tuple[int, ...]) -> tuple[Array, Array] | None:
    """(N, first axis) and (N, second axis or 1) whose products add up to the contribution, as the op's formula says."""
    call, gradient = use.call, use.call.gradients[0]
    if gradient is None or len(call.values) > 1:
        return None
    others = [array for position, array in enumerate(call.arrays) if position != use.position]
    if call.op.name == "matmul" and use.position == 1 and len(shape) == 2:
        return others[0].reshape(-1, shape[0]), gradient.reshape(-1, shape[1])
    if call.op.name == "matmul" and use.position == 1 and len(shape) == 1:
        return use.contribution.reshape(1, -1), np.ones((1, 1))  # as one: there is a term for each query and key
    if call.op.name == "embedding" and len(shape) == 2:
        one_hot = np.zeros((others[0].size, shape[0]))
        one_hot[np.arange(others[0].size), others[0].ravel()] = 1.0
        return one_hot, gradient.reshape(-1, shape[1])
    if call.op.name in ("add", "mul") and gradient.shape[-len(shape) :] == shape:
        by = 1.0 if call.op.name == "add" else np.broadcast_to(others[0], gradient.shape)
        each = (gradient * by).reshape(-1, *shape)
        if len(shape) == 1:
            return each, np.ones((len(each), 1))
        if len(shape) == 2 and len(each) == 1:
            return np.eye(shape[0]), each[0]
    return None
