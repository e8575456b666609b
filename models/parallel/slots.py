"""Slots: the gradients of several parameters side by side in one buffer, to be sent as one message.

Behind the gradients stands a number for each parameter, 1 if it has a gradient and 0 if it has none: in the sum over
ranks it is above 0 if any of them has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn import Tensor

__all__ = ["Slots", "grouped"]

Array = np.ndarray[Any, np.dtype[Any]]


class Slots:
    """A buffer with a slot for the gradient of each of some parameters of one dtype.

    Attributes:
        buffer: all of it, one axis.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        sizes = [parameter.numel() for parameter in self.parameters]
        ends = np.cumsum(sizes).tolist()
        self.buffer: Array = np.zeros(ends[-1] + len(sizes), parameters[0].array.dtype)
        self._flags = self.buffer[ends[-1] :]
        self._slots = [
            self.buffer[end - size : end].reshape(parameter.shape)
            for parameter, size, end in zip(self.parameters, sizes, ends, strict=True)
        ]

    def take(self, position: int) -> None:
        """Move a parameter's gradient, or that it has none, into its slot."""
        parameter = self.parameters[position]
        gradient = parameter.grad
        self._slots[position][...] = 0.0 if gradient is None else gradient.array
        self._flags[position] = gradient is not None
        parameter.grad = None

    def take_all(self) -> None:
        """Move the gradients of all parameters."""
        for position in range(len(self.parameters)):
            self.take(position)

    def give(self) -> None:
        """Let each parameter that has a gradient have it, in the buffer's memory, which the next `take` writes to."""
        for parameter, slot, flag in zip(self.parameters, self._slots, self._flags, strict=True):
            parameter.grad = Tensor(slot) if flag > 0.0 else None


def grouped(parameters: Sequence[Tensor], most: float) -> list[list[Tensor]]:
    """The parameters in their order, cut into groups of one dtype and, if it has more than one, of at most ``most``
    bytes."""
    groups: list[list[Tensor]] = []
    size = 0
    for parameter in parameters:
        new = parameter.array.nbytes
        if not groups or size + new > most or groups[-1][0].array.dtype != parameter.array.dtype:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += new
    return groups
