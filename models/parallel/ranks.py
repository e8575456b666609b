"""Ranks: the processes of this run, and how they exchange what they know. A process by itself is rank 0 of 1.

Whatever is called here, every rank calls, in the same order.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ..console.counts import counted
from ..console.errors import UserError
from .launcher import launched_size

__all__ = ["INSTALL", "Ranks", "current", "join", "note_of_threads"]

INSTALL = 'pip install "tinygrad-attn[mpi]"'

T = TypeVar("T")
R = TypeVar("R")


class Ranks:
    """The processes of a run.

    Args:
        communicator: mpi4py's; None for a process by itself.

    Attributes:
        rank: the number of this one.
        size: how many there are.
        seconds: how long this one has exchanged gradients, or waited for others to.
        failures: another communicator, on which no rank waits that does not fail.
        going_on: what to do after a failure, for its message.
    """

    def __init__(self, communicator: Any = None) -> None:
        self.communicator = communicator
        self.failures: Any = communicator.Dup() if communicator else None
        self.rank: int = communicator.Get_rank() if communicator else 0
        self.size: int = communicator.Get_size() if communicator else 1
        self.seconds = 0.0
        self.going_on = ""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.rank == 0

    def gathered(self, value: T) -> list[T]:
        """The value that each rank gives, in the order of ranks."""
        return self.communicator.allgather(value) if self.communicator else [value]

    def any(self, flag: bool) -> bool:
        """Whether a rank says yes."""
        return any(self.gathered(flag))

    def agree(self, value: object, what: str) -> None:
        """Raise unless all ranks have the same value.

        Raises:
            UserError: they do not; ``what`` it is about.
        """
        found = self.gathered(value)
        others = [rank for rank, one in enumerate(found) if one != found[0]]
        if others:
            raise UserError(
                f"rank {others[0]} has other {what} than rank 0; all processes need the same command and the same files"
            )

    def wait(self) -> None:
        """Wait until all ranks are here, as for a file that rank 0 writes before."""
        if self.communicator:
            self.communicator.Barrier()

    def of_first(self, function: Callable[[], T]) -> T:
        """What a function returns on rank 0, which alone calls it. What it raises, all ranks raise."""
        if self.communicator is None:
            return function()
        found: Any = None
        if self.first:
            try:
                found = function(), None
            except (UserError, OSError) as error:
                found = None, error
        result, failure = self.communicator.bcast(found)
        if failure is not None:
            raise failure
        return result

    def shared(self, items: Iterable[T]) -> Iterator[T]:
        """The items that rank 0 iterates over, such as lines of standard input."""
        if self.communicator is None:
            yield from items
            return
        mine = iter(items)
        while one := self.of_first(lambda: list(itertools.islice(mine, 1))):
            yield one[0]

    def divided(self, items: Iterable[T], work: Callable[[T], R]) -> list[R]:
        """The result of work on each item, in order; of so many ranks each works on every so many-th."""
        mine = {number: work(one) for number, one in enumerate(items) if number % self.size == self.rank}
        found = {number: result for part in self.gathered(mine) for number, result in part.items()}
        return [found[number] for number in sorted(found)]

    def timed(self, exchange: Callable[[], T]) -> T:
        """The result of a call that exchanges gradients; ``seconds`` counts how long it takes."""
        began = time.perf_counter()
        result = exchange()
        self.seconds += time.perf_counter() - began
        return result


_ranks = Ranks()


def current() -> Ranks:
    """The processes of this run; until `join` is called this one alone."""
    return _ranks


def join() -> Ranks:
    """Join the processes that a launcher such as mpirun has started together, if it has. Without a number of threads
    from the user (``NUMBA_NUM_THREADS``) kernels run on one from now on.

    Raises:
        UserError: there is no mpi4py, or it is for another MPI than the launcher's.
    """
    global _ranks
    size = launched_size()
    if size > 1 and _ranks.size == 1:
        _ranks = Ranks(_communicator(size))
        if "NUMBA_NUM_THREADS" not in os.environ:
            import tinygrad_attn as ta  # not before it is needed: commands such as --help do without it

            ta.set_num_threads(1)
    return _ranks


def note_of_threads() -> str:
    """What to say where each process has more threads than the cores that the launcher lets it use; else nothing."""
    if launched_size() == 1 or not hasattr(os, "sched_getaffinity"):
        return ""
    import tinygrad_attn as ta

    threads, cores = ta.get_num_threads(), len(os.sched_getaffinity(0))
    if threads <= cores:
        return ""
    return (
        f"NUMBA_NUM_THREADS gives each process {counted(threads, 'thread')}, and mpirun {counted(cores, 'core')}; with "
        "mpirun --bind-to none a process may use all"
    )


def _communicator(size: int) -> Any:
    try:
        import mpi4py

        mpi4py.rc.thread_level = "funneled"  # the main thread alone calls MPI
        from mpi4py import MPI
    except ImportError as error:
        raise UserError(f"mpirun has started {size} processes, which need mpi4py ({error}): {INSTALL}") from None
    except RuntimeError as error:  # mpi4py is there, and finds no MPI
        raise UserError(f"mpi4py finds no MPI ({error}): {INSTALL}") from None
    found = MPI.COMM_WORLD.Get_size()
    if found != size:
        name = MPI.Get_library_version().partition(",")[0].splitlines()[0]
        raise UserError(
            f"mpirun has started {size} processes, and in MPI each is one of {found}: mpi4py has loaded {name}, and "
            "mpirun is that of another MPI; uninstall one of them, or call the mpirun of the other"
        )
    return MPI.COMM_WORLD
