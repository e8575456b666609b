"""Comparisons and logic: bool results, through which no gradient flows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.dtypes import converted, default_dtype, promote
from tinygrad_attn.op import op
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, Sample, broadcast_pairs, floats
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array, as_number, flag, real_number

__all__ = [
    "allclose", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "eq", "equal", "ge", "gt", "isclose",
    "isfinite", "isinf", "isnan", "le", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "ne",
]  # fmt: skip

Array = np.ndarray[Any, Any]


def _masks(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.mask(shape), draw.mask(draw.broadcastable(shape))))


def _alike(name: str, x: Any, y: Any) -> tuple[Any, Any]:
    """Two arrays in their common dtype, as `promote` has it; numbers, and integers to be compared, as they are."""
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)) or x.dtype == y.dtype:
        return x, y
    common = promote([x, y])
    if common is None or (common.kind != "f" and not name.startswith("bitwise")):
        return x, y  # NumPy compares integers of any two dtypes exactly
    return converted(name, x, common), converted(name, y, common)


@public("ta", "Tensor", "Tensor.__eq__")
@op(r"z = [x = y]", samples=broadcast_pairs)
def eq(x: Array, y: Array) -> Array:
    """Whether elements are equal."""
    return np.equal(*_alike("eq", x, y))


@public("ta", "ta.not_equal", "Tensor", "Tensor.not_equal", "Tensor.__ne__")
@op(r"z = [x \ne y]", samples=broadcast_pairs)
def ne(x: Array, y: Array) -> Array:
    """Whether elements differ."""
    return np.not_equal(*_alike("ne", x, y))


@public("ta", "ta.less", "Tensor", "Tensor.less", "Tensor.__lt__")
@op(r"z = [x < y]", samples=broadcast_pairs)
def lt(x: Array, y: Array) -> Array:
    """Whether ``x`` is less."""
    return np.less(*_alike("lt", x, y))


@public("ta", "ta.less_equal", "Tensor", "Tensor.less_equal", "Tensor.__le__")
@op(r"z = [x \le y]", samples=broadcast_pairs)
def le(x: Array, y: Array) -> Array:
    """Whether ``x`` is less or equal."""
    return np.less_equal(*_alike("le", x, y))


@public("ta", "ta.greater", "Tensor", "Tensor.greater", "Tensor.__gt__")
@op(r"z = [x > y]", samples=broadcast_pairs)
def gt(x: Array, y: Array) -> Array:
    """Whether ``x`` is greater."""
    return np.greater(*_alike("gt", x, y))


@public("ta", "ta.greater_equal", "Tensor", "Tensor.greater_equal", "Tensor.__ge__")
@op(r"z = [x \ge y]", samples=broadcast_pairs)
def ge(x: Array, y: Array) -> Array:
    """Whether ``x`` is greater or equal."""
    return np.greater_equal(*_alike("ge", x, y))


@public("ta", "Tensor")
@op(r"z = x \wedge y", samples=_masks)
def logical_and(x: Array, y: Array) -> Array:
    """Whether both are true."""
    return np.logical_and(x, y)


@public("ta", "Tensor")
@op(r"z = x \vee y", samples=_masks)
def logical_or(x: Array, y: Array) -> Array:
    """Whether either is true."""
    return np.logical_or(x, y)


@public("ta", "Tensor")
@op(r"z = x \oplus y", samples=_masks)
def logical_xor(x: Array, y: Array) -> Array:
    """Whether exactly one is true."""
    return np.logical_xor(x, y)


@public("ta", "Tensor")
@op(r"z = \neg x", samples=lambda draw: Sample((draw.mask(draw.shape()),)))
def logical_not(x: Array) -> Array:
    """Whether it is false."""
    return np.logical_not(x)


@public("ta", "Tensor")
@op(r"z = [x \text{ is nan}]", samples=floats())
def isnan(x: Array) -> Array:
    """Whether an element is not a number."""
    return np.isnan(x)


@public("ta", "Tensor")
@op(r"z = [|x| = \infty]", samples=floats())
def isinf(x: Array) -> Array:
    """Whether an element is infinite."""
    return np.isinf(x)


@public("ta", "Tensor")
@op(r"z = [|x| < \infty]", samples=floats())
def isfinite(x: Array) -> Array:
    """Whether an element is a finite number."""
    return np.isfinite(x)


def _bits(name: str, *operands: Any) -> None:
    """Raise a TypeError unless all operands are bool or integers."""
    for operand in operands:
        kind = np.asarray(operand).dtype
        if kind.kind not in "biu":
            raise TypeError(f"{name}: operands must be bool or integers, got {kind}")


@public("ta", "Tensor", "Tensor.__and__", "Tensor.__rand__")
@op(r"z = x \mathbin{\&} y", samples=_masks)
def bitwise_and(x: Array, y: Array) -> Array:
    """Bit by bit whether both are set; of bools whether both are true."""
    _bits("bitwise_and", x, y)
    return np.bitwise_and(*_alike("bitwise_and", x, y))


@public("ta", "Tensor", "Tensor.__or__", "Tensor.__ror__")
@op(r"z = x \mathbin{|} y", samples=_masks)
def bitwise_or(x: Array, y: Array) -> Array:
    """Bit by bit whether either is set; of bools whether either is true."""
    _bits("bitwise_or", x, y)
    return np.bitwise_or(*_alike("bitwise_or", x, y))


@public("ta", "Tensor", "Tensor.__xor__", "Tensor.__rxor__")
@op(r"z = x \oplus y", samples=_masks)
def bitwise_xor(x: Array, y: Array) -> Array:
    """Bit by bit whether exactly one is set; of bools whether exactly one is true."""
    _bits("bitwise_xor", x, y)
    return np.bitwise_xor(*_alike("bitwise_xor", x, y))


@public("ta", "Tensor", "Tensor.__invert__")
@op(r"z = \mathord{\sim} x", samples=lambda draw: Sample((draw.mask(draw.shape()),)))
def bitwise_not(x: Array) -> Array:
    """Every bit inverted; of bools whether false."""
    _bits("bitwise_not", x)
    return np.invert(x)


# -- nearly equal, and as a whole --------------------------------------------------------------------------------------


def _pair(name: str, x: Any, y: Any) -> tuple[Array, Array]:
    """Both as arrays in the dtype in which the operators compare them: a number never changes that of a tensor."""
    given = [
        v.detach() if isinstance(v, Tensor) else as_number(name, v) if isinstance(v, np.generic) else v for v in (x, y)
    ]
    arrays = []
    for value, beside in (given, given[::-1]):
        dtype = getattr(beside, "dtype", default_dtype)
        floats = default_dtype if dtype == default_dtype else np.dtype(np.float64)
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite there
            arrays.append(as_array(value, name=name, floats=floats))
    return _alike(name, *arrays)


@public("ta", "Tensor")
def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |input - other| ≤ atol + rtol·|other|, element by element, broadcast.

    Raises:
        ValueError: shapes that do not broadcast.
    """
    first, second = _pair("isclose", input, other)
    relative, absolute = real_number("isclose", "rtol", rtol), real_number("isclose", "atol", atol)
    try:
        close = np.isclose(first, second, relative, absolute, flag("isclose", "equal_nan", equal_nan))
    except ValueError:
        raise ValueError(f"isclose: shapes {first.shape} and {second.shape} do not broadcast") from None
    return Tensor(np.asarray(close))


@public("ta", "Tensor")
def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds for all elements."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._read().all())


@public("ta", "Tensor")
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have one shape and equal elements."""
    first, second = _pair("equal", input, other)
    return first.shape == second.shape and bool(np.equal(first, second).all())
