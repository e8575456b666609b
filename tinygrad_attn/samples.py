"""Random operands and options of an op, on which check_op and the tests run it.

A *sampler* is a function of a `Draw` that returns a `Sample`. A `Draw` takes its decisions from a stream of integers:
from a seeded generator in `check_op`, from hypothesis in the tests, which then shrinks a failure to its simplest form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

__all__ = ["Draw", "ErrorSample", "Sample", "Samples", "broadcast_pairs", "floats", "shape_error"]

T = TypeVar("T")
Array = np.ndarray[Any, Any]


@dataclass
class Sample:
    """Operands and options that an op accepts. Differentiable operands are float64 arrays."""

    operands: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = [f"{o.dtype}{o.shape}" if isinstance(o, np.ndarray) else repr(o) for o in self.operands]
        return ", ".join(shown + [f"{name}={value!r}" for name, value in self.options.items()])


@dataclass
class ErrorSample:
    """A call that must raise ``exception`` with a message that matches the regular expression ``match``."""

    operands: tuple[Any, ...]
    options: dict[str, Any]
    exception: type[Exception]
    match: str


def shape_error(*shapes: tuple[int, ...], match: str) -> ErrorSample:
    """Operands of ones whose shapes must raise a ValueError."""
    return ErrorSample(tuple(np.ones(shape) for shape in shapes), {}, ValueError, match)


class Draw:
    """Decisions for a sampler, each taken from ``integer(low, high)``, both ends included."""

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.integer = integer
        self._arrays = 0

    @classmethod
    def seeded(cls, seed: int) -> Draw:
        """Decisions from a seeded generator."""
        generator = np.random.default_rng(seed)
        return cls(lambda low, high: int(generator.integers(low, high + 1)))

    def _generator(self) -> np.random.Generator:
        # Numbered, so that two arrays drawn from the same integer differ: maximum has a kink at equal operands.
        self._arrays += 1
        return np.random.default_rng([self.integer(0, 2**32 - 1), self._arrays])

    def boolean(self) -> bool:
        """True or False."""
        return bool(self.integer(0, 1))

    def choice(self, values: Sequence[T]) -> T:
        """One of ``values``; the first is the simplest."""
        return values[self.integer(0, len(values) - 1)]

    def shape(self, ndim: tuple[int, int] = (0, 3), side: tuple[int, int] = (0, 4)) -> tuple[int, ...]:
        """A shape with a number of axes and sizes within the bounds; empty and 0-d shapes are among them by default."""
        return tuple(self.integer(*side) for _ in range(self.integer(*ndim)))

    def floats(self, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> Array:
        """A float64 array, uniform in [low, high), of any memory layout."""
        values = np.asarray(self._generator().uniform(low, high, shape))
        return self.layout(values)

    def integers(self, shape: tuple[int, ...], low: int, high: int) -> Array:
        """An int64 array with values from ``low`` to ``high``, both included."""
        return np.asarray(self._generator().integers(low, high + 1, shape))

    def mask(self, shape: tuple[int, ...]) -> Array:
        """A bool array with random elements."""
        return np.asarray(self._generator().random(shape) < 0.6)

    def layout(self, values: Array) -> Array:
        """The same values as they are, or as a view of something larger: transposed, strided or reversed."""
        kind = self.integer(0, 3) if values.ndim and values.size else 0
        if kind == 1:
            return np.asfortranarray(values)
        if kind == 2:
            wide = np.zeros((*values.shape[:-1], values.shape[-1] * 2))
            wide[..., ::2] = values
            return wide[..., ::2]
        if kind == 3:
            return np.ascontiguousarray(values[::-1])[::-1]
        return values

    def broadcastable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``: leading axes dropped, some sizes 1."""
        kept = shape[self.integer(0, len(shape)) :]
        return tuple(1 if self.integer(0, 3) == 3 else size for size in kept)


Samples = Callable[[Draw], Sample]


def floats(low: float = -2.0, high: float = 2.0) -> Samples:
    """A sampler of one float operand of any shape, with values in [low, high)."""
    return lambda draw: Sample((draw.floats(draw.shape(), low, high),))


def broadcast_pairs(draw: Draw, low: float = -2.0, high: float = 2.0) -> Sample:
    """Two float operands whose shapes broadcast against each other, or one of them a Python number."""
    shape = draw.shape()
    first, second = draw.floats(shape, low, high), draw.floats(draw.broadcastable(shape), low, high)
    if draw.integer(0, 5) == 5:
        return Sample((first, float(draw.floats((), low, high))))
    return Sample((second, first) if draw.boolean() else (first, second))
