"""A failure of one rank, or of all: told once, and the end of all."""

from __future__ import annotations

import time
from typing import TextIO

from .launcher import launched_rank
from .ranks import Ranks, current

__all__ = ["fail"]

_GRACE = 2.0
"""Seconds for which a rank that fails waits for the others to fail as well."""


def fail(message: str, code: int, errors: TextIO) -> int:
    """Print why this process fails, as one line, and return the exit code.

    Of several ranks that all fail rank 0 prints, what they have in common once. A rank that fails alone prints, names
    itself and what to do, and ends the others, which would wait for it for ever.
    """
    ranks = current()
    if ranks.size == 1:  # alone, or there is no MPI
        if not launched_rank():
            print("error:", message, file=errors, flush=True)
        return code
    if _all_fail(ranks):
        found = ranks.failures.allgather(message)
        same = len(set(found)) == 1
        if ranks.first:
            lines = [f"error: {message}"] if same else [f"error: rank {r}: {text}" for r, text in enumerate(found)]
            print(*lines, sep="\n", file=errors, flush=True)
        return code
    going_on = f"; {ranks.going_on}" if ranks.going_on else ""
    print(f"error: rank {ranks.rank} of {ranks.size}: {message}{going_on}", file=errors, flush=True)
    ranks.communicator.Abort(code)
    return code


def _all_fail(ranks: Ranks) -> bool:
    """Whether the other ranks come here as well, within a grace that each rank has a little more of than the one
    before."""
    request = ranks.failures.Ibarrier()
    until = time.monotonic() + _GRACE * (1.0 + 0.1 * ranks.rank)
    while not request.Test():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
