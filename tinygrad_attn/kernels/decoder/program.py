"""A program: kernels that work on the same rows one after the other, run in one launch.

A step of a decoder is some twenty small computations, each on one row for every hypothesis. Called from Python one by
one they cost more than they compute. No row needs another, so a thread takes its share of the rows through the whole
program, and never waits for the other threads::

    program = Program([(address_of(scale), Struct(Scaling(...))), ...])
    program.run(rows)

A kernel of a program takes ``(arguments, first, last)``: the address of its struct, and which rows to compute. With few
rows, what takes the time is to read the weights. So then one thread goes through the program, and where a kernel can
divide its columns (`Columns`), all threads take their share of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads, launcher

__all__ = ["Call", "Columns", "Program"]

_FEW = 8  # rows, with which reading a matrix takes longer than multiplying by it


class Columns(NamedTuple):
    """How the columns of a kernel's result are computed for all rows."""

    kernel: int  # the address of one that takes the same arguments, and the first and last of the parts
    parts: int


Call = tuple[int, Struct] | tuple[int, Struct, Columns]
"""The address of a kernel (see `tinygrad_attn.kernels.runtime.calls.address_of`), its arguments, and perhaps how its
columns are divided."""


class _Calls(NamedTuple):
    kernels: Address  # (length,) int64
    arguments: Address  # (length,) int64
    columns: Address  # (length,) int64, the kernel for parts of the columns, or 0
    parts: Address  # (length,) int64
    length: int
    launcher: Address  # (3,) int64: the kernel that launches others, the pool, and how many threads there are


@serial_kernel
def _run_calls(arguments: int, first: int, last: int) -> None:
    s = read_struct(_Calls, arguments)
    kernels, structs = row_at(np.int64, s.kernels, 0, s.length), row_at(np.int64, s.arguments, 0, s.length)
    for i in range(s.length):
        call(kernels[i], structs[i], first, last)


@serial_kernel
def _run_in_columns(arguments: int, first: int, last: int) -> None:
    s = read_struct(_Calls, arguments)
    kernels, structs = row_at(np.int64, s.kernels, 0, s.length), row_at(np.int64, s.arguments, 0, s.length)
    columns, parts = row_at(np.int64, s.columns, 0, s.length), row_at(np.int64, s.parts, 0, s.length)
    launcher = row_at(np.int64, s.launcher, 0, 3)
    for i in range(s.length):
        if columns[i] != 0:
            shares = min(parts[i], launcher[2])
            call(launcher[0], launcher[1], columns[i], structs[i], parts[i], shares, launcher[2])
        else:
            call(kernels[i], structs[i], first, last)


class Program:
    """Kernels and their arguments, in order; the arguments live as long as this object.

    Args:
        calls: the kernels with their arguments.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._kept = [arguments for _, arguments, *_ in calls]
        kernels = np.array([kernel for kernel, *_ in calls], np.int64)
        addresses = np.array([arguments.address for arguments in self._kept], np.int64)
        divided = [call[2] if len(call) == 3 else Columns(0, 0) for call in calls]
        columns, parts = np.array(divided, np.int64).reshape(-1, 2).T.copy()
        self._launcher = np.zeros(3, np.int64)
        self._arguments = Struct(_Calls(kernels, addresses, columns, parts, len(calls), self._launcher))
        self._kernel = address_of(_run_calls)
        self._in_columns = bool(parts.any()) and not numba.config.DISABLE_JIT

    def run(self, items: int, *, alone: bool = False) -> None:
        """Run all kernels on items 0 to ``items - 1``, divided among the threads, or ``alone`` on the calling one."""
        threads = 1 if alone else get_num_threads()
        if self._in_columns and threads > 1 and items <= _FEW:
            self._launcher[:] = *launcher(), threads
            launch(address_of(_run_in_columns), self._arguments, items, 1)
        else:
            launch(self._kernel, self._arguments, items, min(items, threads))
