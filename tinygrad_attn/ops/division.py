"""Division with a remainder: floor_divide, remainder; and div, which rounds as asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.pointwise import clash, quiet, true_divide
from tinygrad_attn.ops.rounding import trunc
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["div", "floor_divide", "remainder"]

Array = np.ndarray[Any, Any]


def _samples(draw: Draw) -> Sample:
    """A dividend between two multiples of the divisor, at which the quotient jumps."""
    shape = draw.shape()
    y: Any = np.asarray(draw.floats(draw.broadcastable(shape), 0.5, 2.0) * draw.choice([1.0, -1.0]))
    if draw.integer(0, 3) == 3:
        y = float(draw.floats((), 0.5, 2.0))
    x = draw.layout(np.asarray(y * (draw.integers(shape, -3, 3) + draw.floats(shape, 0.2, 0.8))))
    return Sample((x, y))


def _check(name: str, x: Any, y: Any) -> None:
    kinds = [np.asarray(operand).dtype.kind for operand in (x, y)]
    if kinds == ["b", "b"]:
        raise TypeError(f"{name}: operands must be numbers, both are bool")
    if "f" not in kinds and not np.all(y):
        raise ZeroDivisionError(f"{name}: an integer cannot be divided by zero; y has a zero")


_by_zero = ErrorSample((np.ones(2, int), np.zeros(2, int)), {}, ZeroDivisionError, "y has a zero")
_bools = ErrorSample((np.ones(2, bool), np.ones(2, bool)), {}, TypeError, "both are bool")


@public("ta", "Tensor", "Tensor.__floordiv__", "Tensor.__rfloordiv__")
@op(r"z = \lfloor x / y \rfloor", samples=_samples, errors=[clash, _by_zero, _bools])
@quiet
def floor_divide(x: Array, y: Array) -> Array:
    """The quotient rounded down, broadcast; its gradient is 0.

    Raises:
        ZeroDivisionError: an integer is divided by zero; of floats the result is inf or nan.
        TypeError: two bools.
    """
    _check("floor_divide", x, y)
    return np.floor_divide(x, y)


floor_divide.vjp("x", r"0\,\bar z", lambda g: g * 0.0, kernel=True)
floor_divide.vjp("y", r"0\,\bar z", lambda g: g * 0.0, kernel=True)


@public("ta", "Tensor", "Tensor.__mod__", "Tensor.__rmod__")
@op(r"z = x - y \lfloor x / y \rfloor", samples=_samples, errors=[clash, _by_zero, _bools])
@quiet
def remainder(x: Array, y: Array) -> Array:
    """What `floor_divide` leaves, broadcast; it has the sign of ``y``.

    Raises:
        ZeroDivisionError: an integer is divided by zero; of floats the result is nan.
        TypeError: two bools.
    """
    _check("remainder", x, y)
    return np.remainder(x, y)


remainder.vjp("x", r"\bar z", lambda g: g, kernel=True)
remainder.vjp("y", r"-\bar z \odot \lfloor x / y \rfloor", lambda g, x, y: -g * floor_divide(x, y))


@public("ta", "ta.divide", "Tensor", "Tensor.divide")
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """The quotient, broadcast: `true_divide`, or rounded to a whole number.

    Args:
        input: the dividend.
        other: the divisor.
        rounding_mode: None; "floor" for `floor_divide`; "trunc" to round towards 0, as integers are divided in C.

    Raises:
        ValueError: another mode.
        ZeroDivisionError: an integer is divided by zero and rounded.
    """
    if rounding_mode is None:
        return true_divide(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise ValueError(f"div: rounding_mode must be None, 'floor' or 'trunc', got {shown(rounding_mode)}")
    if any(as_tensor(x, "div").is_floating_point() for x in (input, other)):
        return trunc(true_divide(input, other))
    quotient = floor_divide(input, other)
    # Of integers the quotient rounded down is one too small where it is negative and something is left.
    left = as_tensor(remainder(input, other))
    return quotient + ((quotient < 0) & (left != 0))
