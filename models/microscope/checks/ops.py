"""Recomputes every op of the tape in plain NumPy: values, and the gradient along every edge.

Three kinds of ops are enough for the models. *Moves* (reshape, cat, gather, …) only rearrange elements: run on the
elements' indices, they show where each element came from, and the gradient goes back there. *Maps* act on each element
separately and have a derivative. For the others (products, sums, softmax) the formulas are here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_attn.record import Call

from ...console.working import worked_off
from .rounding import Rounded, relative_error, rounded, terms_of, value_of
from .softmax import softmax

__all__ = ["MOVES", "TapeCheck", "check_tape", "side_of_kink"]

Array = np.ndarray[Any, Any]

MOVES = frozenset(
    "alias broadcast_to cat chunk clone contiguous embedding expand flatten flip gather index_select movedim narrow"
    " permute reshape roll select slice_view split squeeze stack subscript swapaxes take_along_dim transpose unbind"
    " unsqueeze view".split()
)
"""The ops that only rearrange elements."""


def _logistic(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)


# By op name: the function of an element, and its derivative at x with the value z.
_MAPS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Any]]] = {
    "abs": (lambda x: np.where(x > 0.0, x, -x), lambda x, z: np.where(x > 0.0, 1.0, np.where(x < 0.0, -1.0, 0.0))),
    "cast": (lambda x: x + 0.0, lambda x, z: 1.0),
    "exp": (np.exp, lambda x, z: z),
    "log": (np.log, lambda x, z: 1.0 / x),
    "neg": (np.negative, lambda x, z: -1.0),
    "relu": (lambda x: np.where(x > 0.0, x, 0.0), lambda x, z: x > 0.0),
    "rsqrt": (lambda x: 1.0 / np.sqrt(x), lambda x, z: -0.5 * z / x),
    "sigmoid": (_logistic, lambda x, z: z * (1.0 - z)),
    "silu": (lambda x: x * _logistic(x), lambda x, z: _logistic(x) * (1.0 + x * (1.0 - _logistic(x)))),
    "sqrt": (np.sqrt, lambda x, z: 0.5 / z),
    "square": (lambda x: x * x, lambda x, z: 2.0 * x),
    "tanh": (np.tanh, lambda x, z: 1.0 - z * z),
}
# Of two numbers x and y: the function, and its derivatives by x and by y.
_PAIRS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "add": (lambda x, y: x + y, lambda x, y: 1.0, lambda x, y: 1.0),
    "sub": (lambda x, y: x - y, lambda x, y: 1.0, lambda x, y: -1.0),
    "mul": (lambda x, y: x * y, lambda x, y: y, lambda x, y: x),
    "true_divide": (lambda x, y: x / y, lambda x, y: 1.0 / y, lambda x, y: -x / y**2),
    # Where both are equal, each gets half.
    "maximum": (np.maximum, lambda x, y: (x > y) + 0.5 * (x == y), lambda x, y: (x < y) + 0.5 * (x == y)),
    "minimum": (np.minimum, lambda x, y: (x < y) + 0.5 * (x == y), lambda x, y: (x > y) + 0.5 * (x == y)),
}


# By op name: on which side of a kink each element is, for the ops whose derivative jumps there.
_SIDES: dict[str, Callable[..., Array]] = {
    "abs": lambda x: np.sign(x),
    "leaky_relu": lambda x: np.sign(x),
    "relu": lambda x: np.sign(x),
    "maximum": lambda x, y: np.sign(x - y),
    "minimum": lambda x, y: np.sign(x - y),
    "clamp": lambda x, min=None, max=None: np.stack([np.sign(x - end) for end in (min, max) if end is not None]),
    "amax": lambda x, dim=None, keepdim=False: x == x.max(axis=dim, keepdims=True),
    "amin": lambda x, dim=None, keepdim=False: x == x.min(axis=dim, keepdims=True),
}


def side_of_kink(name: str, arrays: Sequence[Any], options: Mapping[str, Any]) -> Array | None:
    """On which side of its kinks an op is, element by element; None for an op that has none."""
    known = _SIDES.get(name)
    return None if known is None else known(*arrays, **{k: v for k, v in options.items() if k != "negative_slope"})


_BENDING = frozenset(
    {"cross_entropy", "exp", "gelu", "log_softmax", "masked_softmax", "sigmoid", "silu", "softmax", "softplus", "tanh"}
)


def bends_within(name: str, arrays: Sequence[Any], moved: Sequence[Any]) -> bool:
    """Whether an op's first operand moves by more than 1 where that changes its slope by a factor of e or more."""
    if name not in _BENDING:
        return False
    here, there = np.asarray(arrays[0]), np.asarray(moved[0])
    finite = np.isfinite(here) & np.isfinite(there)
    return bool(np.max(np.abs(there[finite] - here[finite]), initial=0.0) > 1.0)


_ROUNDINGS = 4  # of one op and its operands


@dataclass
class TapeCheck:
    """The result of recomputing the tape."""

    count: int = 0
    worst: float = 0.0
    """The largest |found - expected|, in proportion to the terms that each element was computed from."""
    unknown: set[str] = field(default_factory=set)
    errors: list[tuple[Call, str, float]] = field(default_factory=list)
    """The call, "value" or the operand, and the error."""
    rounding: float = 0.0
    """How far roundings of the ops may have moved the loss: each op's, carried on by its gradient."""

    def compare(self, call: Call, what: str, found: Array, expected: Any) -> None:
        """Compare a call's array with the expected one."""
        error = float(np.max(relative_error(found, expected), initial=0.0))
        if found.dtype == np.float32:  # of a loss in float32; what that rounds is no error
            error = error if np.isnan(error) else max(0.0, error - _ROUNDINGS * float(np.finfo(np.float32).eps))
        self.errors.append((call, what, error))
        self.worst = error if np.isnan(error) else max(self.worst, error)

    def carry(self, terms: Array, gradient: Array | None) -> None:
        """Add the roundings of one op's result to those of the loss, as independent errors."""
        if gradient is not None:
            carried = np.finfo(float).eps * float(np.linalg.norm((terms * gradient).ravel()))
            if np.isfinite(carried):
                self.rounding = float(np.hypot(self.rounding, carried))

    def failures(self, tolerance: float) -> list[dict[str, Any]]:
        """The failures in the form of `models.microscope.record.schema.Check`."""
        return [
            {"kind": "replayed", "tensor": f"{call.op.name} {what}", "call": call.index, "error": error}
            for call, what, error in self.errors
            if not error <= tolerance
        ]


def check_tape(calls: Sequence[Call]) -> TapeCheck:
    """Recompute every op from its recorded operands, and its contributions from its recorded gradient.

    Ops whose operands or gradients are not finite are left out: from them on nothing has a right value.
    """
    found = TapeCheck()
    for call in worked_off(calls, "computing ops again", len(calls)):
        if call.values[0].dtype.kind != "f" or not _finite(call):  # masks and indices
            continue
        if call.op.name in MOVES:
            _check_move(found, call)
        elif call.op.name in _FORMULAS or call.op.name in _MAPS or call.op.name in _PAIRS:
            _check_formula(found, call)
        else:
            found.unknown.add(call.op.name)
            found.carry(np.abs(call.values[0]), call.gradients[0])
            continue
        found.count += 1
    return found


def _finite(call: Call) -> bool:
    given = [*call.arrays, *call.gradients]
    floats = [array for array in given if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
    return all(np.isfinite(array).all() for array in floats)


def _check_move(found: TapeCheck, call: Call) -> None:
    arrays = call.arrays
    moved = [
        position
        for position, array in enumerate(arrays)
        if isinstance(array, np.ndarray) and array.dtype == call.values[0].dtype
    ]
    numbers = np.concatenate([arrays[position].ravel() for position in moved])
    places, first = list(arrays), 0
    for position in moved:
        size = arrays[position].size
        places[position] = np.arange(first, first + size, dtype=np.float64).reshape(arrays[position].shape)
        first += size
    results = call.op.forward(*places, **call.options)
    several = call.op.outputs != 1 or call.op.saves
    gradient, terms = np.zeros(numbers.shape), np.zeros(numbers.shape)
    for index, value in enumerate(call.values):
        where = np.asarray(results[index] if several else results).astype(np.int64)
        found.compare(call, "value", value, Rounded(numbers[where]))
        arrived = call.gradients[index]
        if arrived is not None:
            np.add.at(gradient, where.ravel(), arrived.ravel())
            np.add.at(terms, where.ravel(), np.abs(arrived).ravel())
    first = 0
    for position in moved:
        size = arrays[position].size
        if position in call.contributions:
            shape, part = arrays[position].shape, slice(first, first + size)
            expected = Rounded(gradient[part].reshape(shape), terms[part].reshape(shape))
            found.compare(call, call.op.operand_name(position), call.contributions[position], expected)
        first += size


def _check_formula(found: TapeCheck, call: Call) -> None:
    arrays = [
        rounded(array) if isinstance(array, np.ndarray) and array.dtype.kind == "f" else array for array in call.arrays
    ]
    gradient = call.gradients[0]
    value, back = _formula(call.op.name, arrays, call.options)
    found.compare(call, "value", call.values[0], value)
    found.carry(terms_of(value), gradient)
    if gradient is None:
        return
    for position, contribution in call.contributions.items():
        expected = _summed(rounded(back(position, rounded(gradient))), np.shape(arrays[position]))
        found.compare(call, call.op.operand_name(position), contribution, expected)


Back = Callable[[int, Any], Any]


def _formula(name: str, arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    """The value, and the function from operand position and gradient to the operand's gradient."""
    if name in _MAPS:
        function, derivative = _MAPS[name]
        z = function(arrays[0])
        return z, lambda position, g: g * derivative(arrays[0], z)
    if name in _PAIRS:
        combine, *derivatives = _PAIRS[name]
        return combine(*arrays), lambda position, g: g * derivatives[position](*arrays)
    return _FORMULAS[name](arrays, options)


def _where(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    condition, x, y = arrays
    return np.where(
        condition, x, y
    ), lambda position, g: np.where(condition, g, 0.0) if position == 1 else np.where(condition, 0.0, g)


def _matmul(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    a, b = arrays
    left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    z = np.einsum("...ij,...jk->...ik", left, right)
    shape = z.shape
    if b.ndim == 1:
        z = z[..., 0]
    if a.ndim == 1:
        z = z[0] if b.ndim == 1 else z[..., 0, :]

    def back(position: int, g: Any) -> Any:
        whole = g.reshape(shape)
        if position == 0:
            found = _summed(np.einsum("...ik,...jk->...ij", whole, right), left.shape)
        else:
            found = _summed(np.einsum("...ij,...ik->...jk", left, whole), right.shape)
        return found.reshape(np.shape(arrays[position]))

    return z, back


def _over(array: Array, options: dict[str, Any]) -> tuple[int, ...]:
    dim = options.get("dim")
    if dim is None:
        return tuple(range(array.ndim))
    return tuple(axis % array.ndim for axis in (dim if isinstance(dim, (tuple, list)) else (dim,)))


def _sum(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    axes = _over(arrays[0], options)
    z = arrays[0].sum(axis=axes, keepdims=True)
    value = z if options.get("keepdim") else z.reshape([n for i, n in enumerate(z.shape) if i not in axes])
    return value, lambda position, g: np.broadcast_to(g.reshape(z.shape), arrays[0].shape)


def _mean(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    value, back = _sum(arrays, options)
    count = arrays[0].size // max(value.size, 1)
    return value / count, lambda position, g: back(position, g) / count


def _softmax(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    dim = options["dim"]
    mask = np.broadcast_to(arrays[1], arrays[0].shape) if len(arrays) > 1 else np.ones(arrays[0].shape, bool)
    z = np.moveaxis(softmax(np.moveaxis(arrays[0], dim, -1), np.moveaxis(mask, dim, -1)), -1, dim)
    return z, lambda position, g: z * g - z * (z * g).sum(axis=dim, keepdims=True)


def _log_softmax(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    dim = options["dim"]
    highest = value_of(arrays[0]).max(axis=dim, keepdims=True)
    z = arrays[0] - highest - np.log(np.exp(arrays[0] - highest).sum(axis=dim, keepdims=True))
    return z, lambda position, g: g - np.exp(z) * g.sum(axis=dim, keepdims=True)


def _gelu(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    x = value_of(arrays[0])
    if options["approximate"] == "tanh":
        cdf = _logistic(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
        slope = 2.0 * cdf * (1.0 - cdf) * math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * x**2)
    else:
        cdf = 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2.0))
        slope = np.exp(-(x**2) / 2.0) / math.sqrt(2.0 * math.pi)
    # Where x is far below 0, 1 + erf(x) or 1 + tanh(x) may have cancelled: the terms are as large as x.
    return Rounded(x * cdf, np.abs(x)), lambda position, g: g * Rounded(cdf + x * slope, 1.0 + np.abs(x * slope))


def _layer_norm(arrays: list[Any], options: dict[str, Any]) -> tuple[Any, Back]:
    x, weight, bias = arrays
    axes = tuple(range(-len(options["normalized_shape"]), 0))
    rate = 1.0 / np.sqrt(x.var(axis=axes, keepdims=True) + options["eps"])
    normal = (x - x.mean(axis=axes, keepdims=True)) * rate
    scale = 1.0 if weight is None else weight

    def back(position: int, g: Any) -> Any:
        if position:
            return g * normal if position == 1 else g
        h = g * scale
        centred = h - h.mean(axis=axes, keepdims=True)
        return rate * (centred - normal * (h * normal).mean(axis=axes, keepdims=True))

    return normal * scale + (0.0 if bias is None else bias), back


_FORMULAS: dict[str, Callable[[list[Any], dict[str, Any]], tuple[Array, Back]]] = {
    "where": _where,
    "matmul": _matmul,
    "sum": _sum,
    "mean": _mean,
    "softmax": _softmax,
    "masked_softmax": _softmax,
    "gelu": _gelu,
    "log_softmax": _log_softmax,
    "layer_norm": _layer_norm,
}


def _summed(gradient: Rounded, shape: tuple[int, ...]) -> Rounded:
    """Sum over the axes along which an operand was broadcast."""
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra)))
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(axis=repeated, keepdims=True)
