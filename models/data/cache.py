"""The cache: what is made once from a large text, in files for all later runs and for all processes at once.

The files are named by what they are made from (the SHA-256 of the text, the tokenizers), so none is ever out of date,
and any may be removed. They stand where ``TINYGRAD_ATTN_CACHE_DIR`` says, or else in the user's cache. What has not
been used for long goes when something is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tinygrad_attn.atomic import atomic_path, leftovers
from tinygrad_attn.contexts import context, undone_by

from ..console.working import working

__all__ = ["FOLDER", "LONGEST", "MOST", "Damaged", "cache_folder", "kept", "key_of"]

FOLDER = "TINYGRAD_ATTN_CACHE_DIR"
"""The variable of the environment that names the folder."""

MOST = 10 * 10**9
"""Bytes of all files beside a new one, beyond which those go that have not been used for longest; one always stays."""
LONGEST = 90 * 86_400.0
"""Seconds after which a file goes that nobody has used."""

T = TypeVar("T")

_ENTRY = re.compile(r"[a-z]+-[0-9a-f]{32}\.safetensors")
_STALE = 86_400.0  # seconds after which nobody writes an unfinished file any more
_said: set[str] = set()


class Damaged(ValueError):
    """A file that is not the one that was written."""


def cache_folder() -> Path:
    """The folder of the cache, which need not exist.

    Raises:
        OSError: none is named, and the user has no home.
    """
    if named := os.environ.get(FOLDER):
        return Path(os.path.abspath(os.path.expanduser(named)))
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(place)) / "tinygrad_attn"
    if not folder.is_absolute():
        raise OSError("a user without a home")
    return folder


def key_of(*made_from: Any) -> str:
    """A name for what is made from these values, which JSON can write; other values have another name."""
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def kept(name: str, write: Callable[[Path], None], read: Callable[[Path], T]) -> T | None:
    """What ``read`` finds in the cache's file ``name``, which ``write`` makes if it is missing or damaged.

    Of several processes that ask for the same file one makes it. A process that is stopped leaves no part of it.

    Args:
        write: writes a file at a path.
        read: reads it, or raises `Damaged`.

    Returns:
        None if nothing can be kept, which is told once: no permission, no space.
    """
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        found = _read(path, read)
        if found is None:
            with _alone(path):
                found = _read(path, read)
                if found is None:
                    _make_room(folder, path)
                    with atomic_path(path) as temporary:
                        write(temporary)
                    found = read(path)
        with contextlib.suppress(OSError):  # a folder that only others may write to
            os.utime(path)  # it is used now
        return found
    except (OSError, Damaged) as error:
        what = str(error)
        if isinstance(error, OSError) and error.filename:
            what = f"{error.filename}: {error.strerror}"
        _say(
            f"what is made from large text cannot be kept, so each run makes it anew ({what}); {FOLDER} names a folder"
        )
        return None


def _read(path: Path, read: Callable[[Path], T]) -> T | None:
    """What is in a file; None if there is none, or it is damaged, which is told."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except Damaged as error:
        _say(f"{path} is damaged ({error}), so it is made anew")
        return None


def _make_room(folder: Path, path: Path) -> None:
    """Remove what nobody has used for long, and what processes that were killed have left, but never ``path``."""
    now = time.time()
    for unfinished in leftovers(folder):
        # Nobody else makes this one now; others' are written to, or left.
        own = path.name.startswith(unfinished.name.removeprefix(".").rsplit(".", 2)[0])
        if own or _last_used(unfinished) < now - _STALE:
            _remove(unfinished)
    entries = [entry for entry in folder.iterdir() if _ENTRY.fullmatch(entry.name) and entry != path]
    before = 0  # bytes of those used later
    for entry in sorted(entries, key=_last_used, reverse=True):
        size = _size(entry)
        if (before and before + size > MOST) or _last_used(entry) < now - LONGEST:
            _remove(entry)
            _remove(_lock_of(entry))
        before += size


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _last_used(path: Path) -> float:
    with contextlib.suppress(OSError):  # another process has removed it
        return path.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # on Windows while a process has it mapped into memory
        path.unlink(missing_ok=True)


@context
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process that asks for the same makes it."""
    import filelock

    lock = filelock.FileLock(_lock_of(path))
    with undone_by(lock.release):
        try:
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                with working("waiting for another process that cuts the same text into symbols"):
                    lock.acquire()
        except (OSError, NotImplementedError):
            pass  # a file system without locks: each process makes the file, and one of them stays
        yield


def _say(text: str) -> None:
    """Tell something once."""
    if text not in _said:
        _said.add(text)
        warnings.warn(text, stacklevel=2)
