"""The pool of threads: the shares of a kernel's work are taken by whoever is free.

The thread that launches a kernel works too, and it waits for shares that another thread has begun, never for a thread
that has not: other work on the machine's cores costs the help of a thread, not the time until that thread gets a core.
The bits of a result do not depend on who takes which share, since each share owns what it writes.

How a share is taken. A launch writes what is to be done and then the *ticket*, a word: the launch's number, how many
shares are left, and how many were taken from the end. Who reads a ticket with shares left, reads what is to be done,
and then succeeds in exchanging the ticket for one with a share less, has that share. What it read belongs to it, for
otherwise the ticket would have changed. The launching thread takes shares from the beginning on, the others from the
end, so that in one launch after the other a thread works on the rows that are in its core's cache: a training step of a
small Transformer takes a tenth less time. A worker that has found nothing to do for about a quarter of a millisecond
sleeps until a launch wakes it. All this is compiled, and runs without Python's lock.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time

import numba

from tinygrad_attn.kernels.runtime import atomics
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel

__all__ = ["pool", "run_alone"]

# The words of a pool's memory, as bytes from its start. Those that different threads write lie in different lines of
# the cache, and each worker has a line of its own after these.
_LINE = 64
_TICKET, _PENDING, _BUSY, _STOP, _JOB, _SYSTEM, _WORKERS = (_LINE * line for line in range(7))
# In the line of the job: the kernel and its argument, the items, the shares that they are divided into, and the number
# of threads that may work.
_KERNEL, _ARGUMENTS, _ITEMS, _SHARES, _THREADS = (_JOB + 8 * i for i in range(5))
# The addresses of functions in C: those of Python's locks that wait and wake without Python's own, and the system's
# that lets another thread have the core, or 0.
_ACQUIRE, _RELEASE, _GIVE_WAY = (_SYSTEM + 8 * i for i in range(3))
# In a worker's line: 1 while it sleeps, and the lock that it sleeps on.
_ASLEEP, _LOCK = 0, 8

# A ticket: from the lowest bits on the shares taken from the end, those left, and the launch's number.
_COUNT_BITS = 20
_COUNT = (1 << _COUNT_BITS) - 1
_ONE_LEFT, _NUMBER = 1 << _COUNT_BITS, 2 * _COUNT_BITS
_NUMBERS = (1 << 63 - _NUMBER) - 1
_IDLE_SECONDS = 250e-6  # how long a worker looks for work before it sleeps: longer than the gaps of a training step
_SOONER = 20  # of a worker that was waked and has found nothing
_TRIAL = 5000  # turns, to find out how many that are
_TURNS_BEFORE_GIVING_WAY = 256  # of a thread that waits: the one it waits for may be kept from this core


@serial_kernel
def run_alone(kernel: int, arguments: int, items: int) -> None:
    """All of a kernel's work on the calling thread."""
    call(kernel, arguments, 0, items)


@called_kernel
def _take_shares(pool: int, worker: int) -> int:
    """Do shares of the present job until none is left; how many this thread has done."""
    done = 0
    while True:
        ticket = atomics.load(pool + _TICKET)
        left, from_end = ticket >> _COUNT_BITS & _COUNT, ticket & _COUNT
        if left == 0 or worker >= atomics.load(pool + _THREADS):
            return done
        kernel, arguments = atomics.load(pool + _KERNEL), atomics.load(pool + _ARGUMENTS)
        items, shares = atomics.load(pool + _ITEMS), atomics.load(pool + _SHARES)
        first = worker == 0
        if atomics.exchange_if(pool + _TICKET, ticket, ticket - _ONE_LEFT + (0 if first else 1)):
            share = shares - left - from_end if first else shares - 1 - from_end
            call(kernel, arguments, items * share // shares, items * (share + 1) // shares)
            atomics.add(pool + _PENDING, -1)
            done += 1


@called_kernel
def _pause(pool: int, turn: int) -> None:
    """What a thread does at each turn of waiting."""
    atomics.pause()
    if turn % _TURNS_BEFORE_GIVING_WAY == 0:
        give_way = atomics.load(pool + _GIVE_WAY)
        if give_way != 0:
            call(give_way)


@serial_kernel
def _wake(pool: int, workers: int) -> None:
    """Wake the workers 1 to ``workers`` that sleep."""
    for worker in range(1, workers + 1):
        line = pool + _WORKERS + _LINE * worker
        if atomics.load(line + _ASLEEP) == 1 and atomics.exchange_if(line + _ASLEEP, 1, 0):
            call(atomics.load(pool + _RELEASE), atomics.load(line + _LOCK))


@serial_kernel
def _launch(pool: int, kernel: int, arguments: int, items: int, shares: int, threads: int) -> None:
    """Do a kernel's work with the help of the pool, or alone if another launch has the pool."""
    if not atomics.exchange_if(pool + _BUSY, 0, 1):
        call(kernel, arguments, 0, items)
        return
    shares = min(shares, _COUNT)
    atomics.store(pool + _KERNEL, kernel)
    atomics.store(pool + _ARGUMENTS, arguments)
    atomics.store(pool + _ITEMS, items)
    atomics.store(pool + _SHARES, shares)
    atomics.store(pool + _THREADS, threads)
    atomics.store(pool + _PENDING, shares)
    number = (atomics.load(pool + _TICKET) >> _NUMBER) + 1 & _NUMBERS
    atomics.store(pool + _TICKET, (number << _NUMBER) + (shares << _COUNT_BITS))
    _wake(pool, min(threads, shares) - 1)
    _take_shares(pool, 0)
    turn = 0
    while atomics.load(pool + _PENDING) != 0:
        turn += 1
        _pause(pool, turn)
    atomics.store(pool + _BUSY, 0)


@serial_kernel
def _look_for_work(pool: int, worker: int, turns: int) -> None:
    """Take shares of every job, until there has been nothing to do for so many turns.

    A worker that comes too late for the job it was waked for sleeps again sooner: it may keep the launching thread
    from its core.
    """
    idle = turns - turns // _SOONER
    while idle < turns:
        idle = 0 if _take_shares(pool, worker) else idle + 1
        _pause(pool, idle)


@serial_kernel
def _serve(pool: int, worker: int, turns: int) -> None:
    """All that a worker does."""
    line = pool + _WORKERS + _LINE * worker
    while atomics.load(pool + _STOP) == 0:
        _look_for_work(pool, worker, turns)
        atomics.store(line + _ASLEEP, 1)
        if atomics.load(pool + _STOP) == 0:  # whoever stops the pool from here on sees that this worker sleeps
            call(atomics.load(pool + _ACQUIRE), atomics.load(line + _LOCK), 1)


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _give_way() -> int:
    try:
        if sys.platform == "win32":
            return _address(ctypes.WinDLL("kernel32").SwitchToThread)
        return _address(ctypes.CDLL(None).sched_yield)
    except (OSError, AttributeError):
        return 0


class _Pool:
    """The threads, which start at the first launch, and the memory through which they hear of work."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """As if no thread had been started."""
        self._largest = numba.config.NUMBA_NUM_THREADS
        self._memory = ctypes.create_string_buffer(_WORKERS + _LINE * (self._largest + 1))
        start = ctypes.addressof(self._memory)
        self._address = start + -start % _LINE
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()

    def launch(self, kernel: int, arguments: int, items: int, shares: int, threads: int) -> None:
        """Call a kernel ``(arguments, first, last)`` on all of ``items``, in shares, on up to ``threads`` threads."""
        if not self._threads:
            self._start()
        _launch(self._address, kernel, arguments, items, shares, threads)

    def launcher(self) -> tuple[int, int]:
        """The addresses of the kernel that launches others, and of this pool, whose threads have started."""
        if not self._threads:
            self._start()
        return address_of(_launch), self._address

    def _write(self, offset: int, value: int) -> None:
        ctypes.c_int64.from_address(self._address + offset).value = value

    def _start(self) -> None:
        with self._starting:
            if self._threads:
                return
            allocate = ctypes.pythonapi.PyThread_allocate_lock
            allocate.restype = ctypes.c_void_p
            self._write(_ACQUIRE, _address(ctypes.pythonapi.PyThread_acquire_lock))
            self._write(_RELEASE, _address(ctypes.pythonapi.PyThread_release_lock))
            self._write(_GIVE_WAY, _give_way())
            _look_for_work(self._address, 0, 1)  # compiled
            begun = time.perf_counter()
            _look_for_work(self._address, 0, _TRIAL * _SOONER)
            turns = _SOONER + int(_TRIAL * _IDLE_SECONDS / (time.perf_counter() - begun))
            threads = []
            for worker in range(1, self._largest):
                lock = allocate()
                ctypes.pythonapi.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
                self._write(_WORKERS + _LINE * worker + _LOCK, lock)
                name, arguments = f"tinygrad_attn worker {worker}", (self._address, worker, turns)
                threads.append(threading.Thread(target=_serve, args=arguments, name=name, daemon=True))
                threads[-1].start()
            self._threads = threads

    def stop(self) -> None:
        """End the threads, before the interpreter ends."""
        self._write(_STOP, 1)
        if self._threads:
            _wake(self._address, len(self._threads))
        for thread in self._threads:
            thread.join(1.0)


pool = _Pool()
atexit.register(pool.stop)
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=pool.begin)  # a child has none of its parent's threads, and starts its own
