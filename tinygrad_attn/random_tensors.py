"""Random tensors, from the package's generator: rand, randn, randint, randperm, normal, bernoulli, multinomial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import shown
from tinygrad_attn.creation import dtype_of, leaf, shape_of, template
from tinygrad_attn.dtypes import check_fits, default_dtype, promote
from tinygrad_attn.public import public
from tinygrad_attn.random import generator
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array, as_number, check_device, flag, whole_number

__all__ = [
    "bernoulli", "multinomial", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
    "randperm",
]  # fmt: skip


@public("ta")
def randn(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Normal numbers of mean 0 and variance 1 from the package's generator (see `manual_seed`).

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    shape, wanted = shape_of(size, "randn"), _float_dtype("randn", dtype, device)
    return leaf("randn", shape, lambda: generator().standard_normal(shape, wanted), requires_grad, wanted)


@public("ta")
def rand(*size: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Uniform numbers in [0, 1) from the package's generator.

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    shape, wanted = shape_of(size, "rand"), _float_dtype("rand", dtype, device)
    return leaf("rand", shape, lambda: generator().random(shape, wanted), requires_grad, wanted)


def _float_dtype(name: str, dtype: Any, device: Any, otherwise: Any = default_dtype) -> Any:
    wanted = dtype_of(name, dtype, device, otherwise)
    if wanted.kind != "f":
        raise TypeError(f"{name}: dtype must be float32 or float64, got {wanted}; see randint()")
    return wanted


@public("ta")
def randint(low: Any = 0, high: Any = None, size: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Numbers from ``low`` up to but not including ``high``, int64 unless ``dtype`` says otherwise.

    ``randint(low, high, size)``, or ``randint(high, size)`` from 0 on; ``size`` is a sequence of integers.

    Raises:
        TypeError: a bound is not an integer, or the size is missing.
        ValueError: there is no number between the bounds.
        OverflowError: the dtype cannot hold the numbers.
    """
    wanted = dtype_of("randint", dtype, device, np.int64)
    if size is None and isinstance(high, Sequence):
        high, size = None, high
    if high is None:
        low, high = 0, low
    if not isinstance(size, Sequence):
        raise TypeError(
            "randint: expected (low, high, size) or (high, size), with a size such as (2, 3), "
            f"got low {shown(low)}, high {shown(high)}, size {shown(size)}"
        )
    shape = shape_of((size,), "randint")
    first, last = whole_number("randint", "low", low), whole_number("randint", "high", high)
    if first >= last:
        raise ValueError(f"randint: low must be less than high, got {first} and {last}")
    for within in (np.dtype(np.int64), wanted):
        check_fits("randint", np.asarray([first, last - 1], object), within)
    return leaf("randint", shape, lambda: generator().integers(first, last, shape), False, wanted)


@public("ta")
def randperm(n: int, device: Any = None) -> Tensor:
    """The int64 numbers 0 to n - 1 in random order."""
    check_device("randperm", device)
    (count,) = shape_of((whole_number("randperm", "n", n),), "randperm")
    return leaf("randperm", (count,), lambda: generator().permutation(count), False)


@public("ta")
def randn_like(input: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`randn` in the shape and dtype of ``input``.

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    other = template("randn_like", input)
    wanted = _float_dtype("randn_like", dtype, device, other.dtype)
    return randn(*other.shape, dtype=wanted, requires_grad=requires_grad)


@public("ta")
def rand_like(input: Any, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`rand` in the shape and dtype of ``input``.

    Raises:
        TypeError: a dtype that is not float32 or float64.
    """
    other = template("rand_like", input)
    wanted = _float_dtype("rand_like", dtype, device, other.dtype)
    return rand(*other.shape, dtype=wanted, requires_grad=requires_grad)


@public("ta")
def randint_like(input: Any, low: Any = 0, high: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """`randint` in the shape and dtype of ``input``: up to ``low`` if there is no ``high``."""
    other = template("randint_like", input)
    first, last = (0, low) if high is None else (low, high)
    return randint(first, last, other.shape, dtype=dtype_of("randint_like", dtype, device, other.dtype))


# -- of given distributions --------------------------------------------------------------------------------------------


@public("ta")
def normal(mean: Any, std: Any = 1.0, size: Any = None, dtype: Any = None, device: Any = None) -> Tensor:
    """Normal numbers of the given means and standard deviations; no gradient flows to these.

    Args:
        mean: a number or a tensor.
        std: a number or a tensor, of at least 0; broadcasts with ``mean``.
        size: the shape, if neither has axes.
        dtype: of the result; otherwise the common one of the tensors, float32 for integers.
        device: "cpu" or None.

    Raises:
        ValueError: a negative ``std``, or shapes that do not broadcast.
        TypeError: neither a tensor nor a ``size``, or a ``size`` and a tensor with axes; or a dtype that is not float32
            or float64.
    """
    given = [_number_or_tensor("normal", x) for x in (mean, std)]
    tensors = [x for x in given if isinstance(x, Tensor)]
    if not tensors and size is None:
        raise TypeError("normal: expected a size, such as (2, 3), or else a mean or std that is a tensor")
    if size is not None and any(x.ndim for x in tensors):
        raise TypeError("normal: expected a size, or a mean or std with axes, which have a size of their own; not both")
    wanted = _float_dtype("normal", dtype, device, promote(given, floating=True) if tensors else default_dtype)
    centre, spread = (np.asarray(x._read() if isinstance(x, Tensor) else x, wanted) for x in given)
    if not (spread >= 0.0).all():
        raise ValueError(f"normal: std must be at least 0, the least is {spread.min()}")
    try:
        shape = np.broadcast_shapes(centre.shape, spread.shape) if size is None else shape_of((size,), "normal")
    except ValueError:
        raise ValueError(f"normal: mean {centre.shape} and std {spread.shape} do not broadcast") from None
    return leaf("normal", shape, lambda: generator().standard_normal(shape, wanted) * spread + centre, False, wanted)


def _number_or_tensor(name: str, value: Any) -> Any:
    """A number as Python's, and anything else as a tensor without a gradient."""
    if isinstance(value, Tensor):
        return value.detach()
    number = as_number(name, value) if isinstance(value, np.generic) else value
    return number if isinstance(number, (int, float)) else Tensor(as_array(number, name=name))


@public("ta", "Tensor")
def bernoulli(input: Any) -> Tensor:
    """1 with the probability that ``input`` holds, else 0, each element by itself; in its shape and dtype.

    Raises:
        TypeError: ``input`` does not hold floats.
        ValueError: a probability outside [0, 1].
    """
    chances = _chances("bernoulli", input)
    if chances.size and not (chances.min() >= 0.0 and chances.max() <= 1.0):
        raise ValueError("bernoulli: input must hold probabilities from 0 to 1")
    drawn = generator().random(chances.shape) < chances
    return Tensor(np.asarray(drawn, chances.dtype))


@public("ta", "Tensor")
def multinomial(input: Any, num_samples: int, replacement: bool = False) -> Tensor:
    """Positions drawn from each row, with probabilities in proportion to its elements; no gradient flows to these.

    Args:
        input: ``(n,)`` or ``(B, n)``, at least 0; a row need not sum to 1.
        num_samples: how many of each row.
        replacement: whether a position may be drawn again.

    Returns:
        int64, ``(num_samples,)`` or ``(B, num_samples)``.

    Raises:
        TypeError: ``input`` does not hold floats.
        ValueError: another shape; an element that is negative or not finite; a row of zeros; or more samples than
            there are elements above 0 in a row, without replacement.
    """
    weights, again = _chances("multinomial", input), flag("multinomial", "replacement", replacement)
    count = whole_number("multinomial", "num_samples", num_samples)
    if weights.ndim not in (1, 2) or not weights.size:
        raise ValueError(f"multinomial: input must be (n,) or (B, n) with n above 0, its shape is {weights.shape}")
    rows = np.atleast_2d(weights).astype(np.float64)
    if not (np.isfinite(rows).all() and rows.min() >= 0.0):
        raise ValueError("multinomial: input must hold finite numbers of at least 0")
    possible = int((rows > 0.0).sum(1).min())
    if count < 1 or possible < (1 if again else count):
        raise ValueError(
            f"multinomial: cannot draw {count} of a row with {possible} elements above 0"
            + ("" if again else "; with replacement=True one may be drawn again")
        )
    if again:
        totals = np.cumsum(rows, axis=1)
        heights = generator().random((len(rows), count)) * totals[:, -1:]
        drawn = np.stack(
            [np.searchsorted(total, height, "right") for total, height in zip(totals, heights, strict=True)]
        )
        last = rows.shape[1] - 1 - np.argmax(rows[:, ::-1] > 0.0, axis=1)  # rounding may reach beyond it
        drawn = np.minimum(drawn, last[:, None])
    else:
        # Of exponential waiting times at rates w the first is i with probability w_i / Σ w, then of the others, ….
        with np.errstate(divide="ignore"):
            waits = generator().standard_exponential(rows.shape) / rows
        drawn = np.argsort(waits, axis=1)[:, :count]
    return Tensor(np.asarray(drawn.reshape((*weights.shape[:-1], count)), np.int64))


def _chances(name: str, input: Any) -> np.ndarray[Any, Any]:
    """The array of ``input``, which must hold floats."""
    x = template(name, input)
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: input must hold floats, it is {x.dtype}")
    return x._read() if isinstance(x, Tensor) else x
