"""Compiled kernels on disk: numba's cache, which a damaged file, a full disk or a read-only folder must not stop.

numba takes the first folder that it can write to: ``NUMBA_CACHE_DIR``, ``__pycache__`` beside the source, the user's
cache. For each kernel that holds an index, from signatures to files, and these files. Here every file ends with its
checksum, and says itself what it was compiled from; what does not fit is compiled anew and written again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile

__all__ = ["keep_on_disk", "place_on_disk"]

_CHECKSUM_SIZE = 16  # bytes

_FOLDER = Path(__file__).parents[2]
_said: set[str] = set()


def keep_on_disk(dispatcher: Any, stamp: tuple[Any, ...], use: str) -> None:
    """Keep what a kernel is compiled to for a ``use`` on disk, until its file or the ``stamp`` changes."""
    try:
        if not (numba.config.CACHE_DIR or os.path.isabs(os.path.expanduser("~")) or os.access(_FOLDER, os.W_OK)):
            raise OSError("a user without a home, for whom numba would make a folder named ~ here")
        dispatcher.enable_caching()
    except (RuntimeError, OSError):
        _say("unwritable", f"neither {_FOLDER} nor the user's cache can be written to, so every run compiles them anew")
        return
    asked, given = numba.config.CACHE_DIR, dispatcher._cache.cache_path
    if asked and not str(given).startswith(str(asked)):
        _say("elsewhere", f"{asked} cannot be written to, so they are kept in {given}")
    files = getattr(dispatcher._cache, "_cache_file", None)
    if isinstance(files, IndexDataCacheFile):
        dispatcher._cache._cache_file = _Files(files, stamp, use)


def place_on_disk(dispatcher: Any) -> tuple[str, str]:
    """The folder where a kernel is kept, and its name there; empty if it is not kept."""
    files = getattr(dispatcher._cache, "_cache_file", None)
    return (files._cache_path, files._index_name) if isinstance(files, _Files) else ("", "")


def _say(kind: str, problem: str) -> None:
    """Say once in a process why kernels are compiled that may have been before."""
    if kind not in _said:
        _said.add(kind)
        warnings.warn(
            f"compiled kernels on disk: {problem}. All else goes on; set NUMBA_CACHE_DIR to a folder that can be "
            "written to",
            RuntimeWarning,
            stacklevel=2,
        )


class _Damaged(Exception):
    pass


class _Files(IndexDataCacheFile):
    """The files of one kernel. The pickled contents of each are followed by their checksum."""

    def __init__(self, files: Any, stamp: tuple[Any, ...], use: str) -> None:
        name = f"{files._index_name.removesuffix('.nbi')}.{use}"
        super().__init__(files._cache_path, name, (files._source_stamp, *stamp))

    def load(self, key: Any) -> Any:
        """What was compiled for ``key``, or None."""
        name = self._load_index().get(key)
        if name is None:
            return None
        path = self._data_path(name)
        try:
            stamp, of, data = self._read(path)
        except FileNotFoundError:
            return None
        except Exception as error:
            _say("damaged", f"{path} is damaged or cannot be read ({error}), and is made anew")
            return None
        # Another process may have written it at the same time, for another signature.
        return data if stamp == self._source_stamp and of == key else None

    def save(self, key: Any, data: Any) -> None:
        """Keep ``data`` for ``key``: first the data, then the index, which makes it known."""
        overloads = self._load_index()
        taken = set(overloads.values())
        free = (self._data_name(number) for number in itertools.count(1))
        name = overloads.get(key) or next(name for name in free if name not in taken)
        try:
            self._write(self._data_path(name), (self._source_stamp, key, data))
            if overloads.get(key) is None:
                self._save_index({**overloads, key: name})
        except OSError as error:
            _say(
                "full",
                f"{self._cache_path} cannot be written to ({error.strerror or error}), so the next run compiles again",
            )

    def _load_index(self) -> dict[Any, str]:
        try:
            version, stamp, overloads = self._read(self._index_path)
        except FileNotFoundError:
            return {}
        except Exception as error:
            _say(
                "damaged", f"{self._index_path} is damaged or cannot be read ({error}), so its kernel is compiled anew"
            )
            return {}
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _read(self, path: str) -> Any:
        with open(path, "rb") as file:
            contents = file.read()
        body, checksum = contents[:-_CHECKSUM_SIZE], contents[-_CHECKSUM_SIZE:]
        if _checksum(body) != checksum:
            raise _Damaged("its checksum is wrong")
        return pickle.loads(body)

    def _write(self, path: str, contents: Any) -> None:
        body = self._dump(contents)
        with self._open_for_write(path) as file:
            file.write(body + _checksum(body))


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_SIZE).digest()
