"""Locks between processes that share compiled kernels on disk: none compiles what another is compiling.

They are one byte each of a file in the cache's folder. The system frees them when their process ends, however it ends.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from typing import Any

from numba.core import event

from tinygrad_attn.contexts import context, undone_by

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["WAIT", "is_locked", "locked"]

WAIT = "tinygrad_attn:wait"

_PATIENCE = 60.0  # seconds to wait for another process that may have been stopped
_POLL = 0.005  # seconds

_UNUSED = 1 << 32  # a byte of no kernel, to try

_files: dict[tuple[int, str], int] = {}  # the descriptors, by process and folder, which no fork may share
_held: set[tuple[int, str, int]] = set()


@context
def locked(folder: str, name: str, dispatcher: Any) -> Iterator[None]:
    """Inside, no other process holds the lock of this name; at most a minute's wait, an event `WAIT` of numba's.

    Without it where there are no such locks, no folder, or it cannot be written to. Only one thread at a time may call.
    """
    key = os.getpid(), folder, _byte(name)
    if not folder or key in _held:
        yield
        return

    def release() -> None:
        _held.discard(key)
        _release(folder, name)

    with undone_by(release):
        if _acquire(folder, name) or _wait(folder, name, dispatcher):
            _held.add(key)
        yield


def is_locked(folder: str, name: str) -> bool:
    """Whether another process holds a lock."""
    if fcntl is None or not folder or _descriptor(folder) < 0:
        return False
    if not _acquire(folder, name):
        return True
    _release(folder, name)
    return False


def _byte(name: str) -> int:
    return zlib.crc32(name.encode())


def _descriptor(folder: str) -> int:
    key = os.getpid(), folder
    if key not in _files:
        descriptor = -1
        try:
            os.makedirs(folder, exist_ok=True)
            descriptor = os.open(os.path.join(folder, "compiling.lock"), os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _UNUSED)
        except OSError:  # it cannot be written to, or its file system has no locks
            if descriptor >= 0:
                os.close(descriptor)
            descriptor = -1
        _files[key] = descriptor
    return _files[key]


def _wait(folder: str, name: str, dispatcher: Any) -> bool:
    if fcntl is None or _descriptor(folder) < 0:
        return False
    with event.trigger_event(WAIT, data={"dispatcher": dispatcher}):
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            time.sleep(_POLL)
            if _acquire(folder, name):
                return True
    return False


def _acquire(folder: str, name: str) -> bool:
    if fcntl is None or (descriptor := _descriptor(folder)) < 0:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(name))
    except OSError:
        return False
    return True


def _release(folder: str, name: str) -> None:
    if fcntl is not None and (descriptor := _descriptor(folder)) >= 0:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _byte(name))
