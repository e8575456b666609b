"""Rounded: an array that knows, for every element, the size of the terms it was computed from.

Two right computations of one number, with their operations in another order, differ by a few roundings of the *terms*,
not of the result: 1 − z² of a z near 1 keeps few of its digits, whoever computes it. A witness that runs on `Rounded`
arrays computes its numbers and, operation by operation, the size of what may have cancelled in them (running error
analysis: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.3). So the error of a number is told
in proportion to its terms, and what is left are wrong numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Rounded", "relative_error", "rounded", "terms_of", "value_of"]

Array = np.ndarray[Any, Any]

_LEAST = 1e-290
"""The smallest size of terms: products of subnormal numbers have no digits to compare."""


class Rounded(np.lib.mixins.NDArrayOperatorsMixin):
    """An array and the terms of each element, for NumPy's functions that witnesses use.

    Attributes:
        value: the array.
        terms: of the same shape; an element's rounding error is at most a few units in the last place of this.
    """

    def __init__(self, value: Any, terms: Any = None) -> None:
        self.value: Array = np.asarray(value)
        self.terms: Array = np.abs(self.value) if terms is None else np.asarray(terms)

    def __repr__(self) -> str:
        return f"Rounded({self.value!r}, {self.terms!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    @property
    def T(self) -> Rounded:
        return self.transpose()

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, place: Any) -> Rounded:
        return Rounded(self.value[place], self.terms[place])

    def transpose(self, *axes: Any) -> Rounded:
        return Rounded(self.value.transpose(*axes), self.terms.transpose(*axes))

    def reshape(self, *shape: Any) -> Rounded:
        return Rounded(self.value.reshape(*shape), self.terms.reshape(*shape))

    def swapaxes(self, first: int, second: int) -> Rounded:
        return Rounded(self.value.swapaxes(first, second), self.terms.swapaxes(first, second))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        return Rounded(self.value.sum(axis=axis, keepdims=keepdims), self.terms.sum(axis=axis, keepdims=keepdims))

    def mean(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        return Rounded(self.value.mean(axis=axis, keepdims=keepdims), self.terms.mean(axis=axis, keepdims=keepdims))

    def var(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        return ((self - self.mean(axis, True)) ** 2).mean(axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Rounded:
        return Rounded(self.value.max(axis=axis, keepdims=keepdims), self.terms.max(axis=axis, keepdims=keepdims))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        values = [value_of(each) for each in inputs]
        if method == "reduce" and ufunc is np.add:
            return rounded(inputs[0]).sum(**options)
        if method != "__call__" or options:
            return NotImplemented
        value = ufunc(*values)
        if value.dtype.kind == "b":
            return value
        if ufunc not in _TERMS:
            return NotImplemented
        return Rounded(value, _TERMS[ufunc](np.asarray(value), *values, *(terms_of(each) for each in inputs)))

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function in _PLAIN:
            return function(*map(value_of, arguments), **options)
        if function in _ARRANGING:
            parts = [[pick(each) for each in arguments] for pick in (_values_in, _terms_in)]
            return Rounded(function(*parts[0], **options), function(*parts[1], **options))
        if function is np.einsum:
            return _einsum(*arguments, **options)
        if function in _METHODS:
            return getattr(rounded(arguments[0]), function.__name__)(*arguments[1:], **options)
        return NotImplemented


def rounded(array: Any) -> Rounded:
    """The array as a `Rounded`; numbers that are given count as exact."""
    return array if isinstance(array, Rounded) else Rounded(array)


def value_of(array: Any) -> Any:
    """The numbers of a `Rounded`; anything else as it is."""
    return array.value if isinstance(array, Rounded) else array


def terms_of(array: Any) -> Any:
    """The sizes of the terms; of exact numbers their own."""
    return array.terms if isinstance(array, Rounded) else np.abs(array)


def relative_error(found: Array, expected: Any) -> Array:
    """For each element |found − expected| in proportion to the terms of ``expected``; nan if just one is finite.

    ``expected`` without terms of its own has an error in proportion to its largest element.
    """
    value = value_of(expected)
    largest = np.abs(value).max(initial=0.0)
    terms = expected.terms if isinstance(expected, Rounded) else largest
    with np.errstate(all="ignore"):
        terms = np.where(np.isfinite(terms), terms, largest)
        errors = np.abs(found - value) / np.maximum(terms, _LEAST)
    return np.where((found == value) | (np.isnan(found) & np.isnan(value)), 0.0, errors)


# For each operation the terms of its result z, from its operands x, y and their terms p, q.
_TERMS: dict[Any, Callable[..., Any]] = {
    np.add: lambda z, x, y, p, q: p + q,
    np.subtract: lambda z, x, y, p, q: p + q,
    np.multiply: lambda z, x, y, p, q: np.abs(x) * q + p * np.abs(y),
    np.divide: lambda z, x, y, p, q: (p + np.abs(z) * q) / np.abs(y),
    np.matmul: lambda z, x, y, p, q: np.abs(x) @ q + p @ np.abs(y),
    np.power: lambda z, x, n, p, q: np.abs(n * x ** (n - 1)) * p + np.abs(z),
    np.negative: lambda z, x, p: p,
    np.absolute: lambda z, x, p: p,
    np.square: lambda z, x, p: 2.0 * np.abs(x) * p,
    np.sqrt: lambda z, x, p: 0.5 * p / np.maximum(z, _LEAST) + z,
    np.exp: lambda z, x, p: np.where(z > 0.0, z * (1.0 + p), 0.0),
    np.log: lambda z, x, p: p / np.abs(x) + np.abs(z),
    np.tanh: lambda z, x, p: (1.0 - z * z) * p + np.abs(z),
    np.maximum: lambda z, x, y, p, q: np.maximum(p, q),
    np.minimum: lambda z, x, y, p, q: np.maximum(p, q),
}
# Functions that arrange elements and compute none, those that only look, and those that are methods too.
_ARRANGING = (
    np.where, np.concatenate, np.stack, np.broadcast_to, np.moveaxis, np.expand_dims, np.squeeze, np.swapaxes,
    np.transpose, np.reshape, np.take_along_axis,
)  # fmt: skip
_PLAIN = (np.shape, np.ndim, np.size)
_METHODS = (np.sum, np.mean, np.var, np.max)


def _values_in(argument: Any) -> Any:
    return [value_of(each) for each in argument] if isinstance(argument, (list, tuple)) else value_of(argument)


def _terms_in(argument: Any) -> Any:
    """The terms in an argument; what is no float, such as a condition or an axis, as it is."""
    if isinstance(argument, (list, tuple)):
        return [_terms_in(each) for each in argument]
    if isinstance(argument, Rounded):
        return argument.terms
    floats = isinstance(argument, float) or (isinstance(argument, np.ndarray) and argument.dtype.kind == "f")
    return np.abs(argument) if floats else argument


def _einsum(subscripts: str, *operands: Any, **options: Any) -> Rounded:
    sizes = [np.abs(value_of(each)) for each in operands]
    value = np.einsum(subscripts, *(value_of(each) for each in operands), **options)
    terms = np.zeros_like(value)
    for place, operand in enumerate(operands):
        one = [*sizes[:place], terms_of(operand), *sizes[place + 1 :]]
        terms = terms + np.einsum(subscripts, *one, **options)
    return Rounded(value, terms)
