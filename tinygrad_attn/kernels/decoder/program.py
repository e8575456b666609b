"""A program: kernels that work on the same rows one after the other, run in one launch.

A step of a decoder is some twenty small computations, each on one row for every hypothesis. Called from Python one by
one they cost more than they compute. No row needs another, so a thread takes its share of the rows through the whole
program, and never waits for the other threads::

    program = Program([(address_of(scale), Struct(Scaling(...))), ...])
    program.run(rows)

A kernel of a program takes ``(arguments, first, last)``: the address of its struct, and which rows to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads

__all__ = ["Call", "Program"]

Call = tuple[int, Struct]
"""The address of a kernel (`tinygrad_attn.kernels.runtime.calls.address_of`), and its arguments."""


class _Calls(NamedTuple):
    kernels: Address  # (length,) int64
    arguments: Address  # (length,) int64
    length: int


@serial_kernel
def _run_calls(arguments: int, first: int, last: int) -> None:
    s = read_struct(_Calls, arguments)
    kernels, structs = row_at(np.int64, s.kernels, 0, s.length), row_at(np.int64, s.arguments, 0, s.length)
    for i in range(s.length):
        call(kernels[i], structs[i], first, last)


class Program:
    """Kernels and their arguments, in order; the arguments live as long as this object.

    Args:
        calls: the kernels with their arguments.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._kept = [arguments for _, arguments in calls]
        kernels = np.array([kernel for kernel, _ in calls], np.int64)
        addresses = np.array([arguments.address for _, arguments in calls], np.int64)
        self._arguments = Struct(_Calls(kernels, addresses, len(calls)))
        self._kernel = address_of(_run_calls)

    def run(self, items: int, *, alone: bool = False) -> None:
        """Run all kernels on items 0 to ``items - 1``, divided among the threads, or ``alone`` on the calling one."""
        launch(self._kernel, self._arguments, items, 1 if alone else min(items, get_num_threads()))
