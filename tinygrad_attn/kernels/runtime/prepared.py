"""Prepared launches: what the calls of a kernel on arrays of the same sizes have in common, done once.

A training step launches a hundred kernels, most of them on arrays of the sizes that they had in the step before. To
name and pack their arguments takes longer than a small kernel runs. All but the arrays' addresses can be packed once,
and kernels that do not wait for each other can share one launch::

    @functools.lru_cache(maxsize=MOST_PREPARED)
    def _prepared(rows: int, size: int, dtype: Any) -> Prepared:
        return Prepared(Job(kernel_for(make, dtype), Rows, {"rows": rows, "size": size}, items=rows, shares=4))

    _prepared(*x.shape, x.dtype.type).launch((data_address(x), data_address(y)))
"""

from __future__ import annotations

import ctypes
import itertools
import struct
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Struct, row_at
from tinygrad_attn.kernels.runtime.threads import launch_at

__all__ = ["MOST_PREPARED", "Job", "Prepared"]

MOST_PREPARED = 1024  # of one function, of the sizes that were used last


class Job(NamedTuple):
    """A kernel and what it works on, but for addresses."""

    kernel: int  # its address
    kind: Any  # the NamedTuple of its arguments
    last: dict[str, Any]  # all fields but the first ones, which are given at each launch; those with defaults may miss
    items: int
    shares: int


class Prepared:
    """One launch of one or more kernels that do not depend on each other.

    Args:
        jobs: the kernels.
        alone: the calling thread does all: waking the others would cost more.
    """

    __slots__ = ("_free", "_image", "_items", "_kept", "_kernel", "_packers", "_shares", "_start")

    def __init__(self, *jobs: Job, alone: bool = False) -> None:
        self._kept = [_packed(job) for job in jobs]  # with the arrays among the last fields
        packed = [whole._memory.raw for whole in self._kept]
        starts = [sum(map(len, packed[:number])) for number in range(len(jobs) + 1)]
        self._kernel, self._start, self._items, self._shares = jobs[0].kernel, 0, jobs[0].items, jobs[0].shares
        table = b""
        if len(jobs) > 1:
            shares = [
                (number / job.shares, share)
                for job, start in zip(jobs, starts, strict=False)
                for number, share in enumerate(_shares(job, start - starts[-1]))
            ]
            # The first parts of all jobs come first: a thread then works on the same rows in all (`runtime.pool`).
            shares.sort(key=lambda each: each[0])
            table = b"".join(struct.pack("4q", *share) for _, share in shares)
            self._kernel, self._start, self._items = address_of(_do_shares), starts[-1], len(shares)
            self._shares = len(shares)
        if alone:
            self._shares = 1
        # How the first fields of each job are written, and where.
        self._packers = [
            (struct.Struct(f"{min(map(job.kind._fields.index, job.last))}q").pack_into, start)
            for job, start in zip(jobs, starts, strict=False)
        ]
        self._image = b"".join([*packed, table])
        # Memory for launches that are not under way, with the address that a kernel is given: several Python threads
        # may launch at once, and a list's pop and append are atomic.
        self._free: list[tuple[Any, int]] = []

    def launch(self, *firsts: tuple[int, ...]) -> None:
        """Run the kernels; of each its first fields, addresses of what lives until this returns."""
        try:
            memory, address = lent = self._free.pop()
        except IndexError:
            memory, address = lent = self._memory()
        for (pack_into, start), first in zip(self._packers, firsts, strict=True):
            pack_into(memory, start, *first)
        launch_at(self._kernel, address, self._items, self._shares)
        self._free.append(lent)

    def _memory(self) -> tuple[Any, int]:
        memory = ctypes.create_string_buffer(self._image, len(self._image))
        return memory, ctypes.addressof(memory) + self._start


def _packed(job: Job) -> Struct:
    """The arguments, with zeros for the first fields."""
    return Struct(job.kind(**{name: 0 for name in job.kind._fields if name not in job.kind._field_defaults} | job.last))


def _shares(job: Job, start: int) -> list[tuple[int, int, int, int]]:
    """Of each share its kernel, where the arguments lie from the table of shares on, the first item and the last."""
    cuts = [job.items * share // job.shares for share in range(job.shares + 1)]
    return [(job.kernel, start, *pair) for pair in itertools.pairwise(cuts)]


@serial_kernel
def _do_shares(table: int, first: int, last: int) -> None:
    """Some shares of the jobs of one launch."""
    for share in range(first, last):
        job = row_at(np.int64, table, share, 4)
        call(job[0], table + job[1], job[2], job[3])
