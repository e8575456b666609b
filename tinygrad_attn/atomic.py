"""atomic_path: writes a file whole or not at all; a crash, a kill or a full disk leaves the old file as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tinygrad_attn.contexts import context, undone_by

__all__ = ["atomic_path", "leftovers"]

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
_FULL = {
    errno.ENOSPC: "disk full: there is no space left for the file",
    getattr(errno, "EDQUOT", -1): "disk full: the quota of this user is used up",
    errno.EFBIG: "disk full: the file is larger than the file system, or a limit of the shell (ulimit -f), allows",
}


@context
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path; if the block ends without an error, the file written there takes the place of ``path``.

    The folder of ``path`` must exist. A file that is replaced hands on its permissions; those of a new one are what the
    umask leaves. A symbolic link stays, and the file that it points to is replaced. A device or a pipe cannot be
    replaced: the content is written to it.

    Raises:
        OSError: the file cannot be written. The error names ``path``, and says so if the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None

    def remove() -> None:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    with undone_by(remove):
        try:
            if _is_stream(target):
                with tempfile.TemporaryDirectory() as folder:
                    temporary = Path(folder) / "content"
                    yield temporary
                    with temporary.open("rb") as written, _opened(target) as stream:
                        shutil.copyfileobj(written, stream)
                return
            place = Path(os.path.realpath(target))  # of what a link points to
            permissions = _permissions(place)
            temporary = _name_beside(place)
            while not _created(temporary):
                temporary = _name_beside(place)
            yield temporary
            with temporary.open("rb+") as whole:
                os.fsync(whole.fileno())
            if permissions is not None:
                temporary.chmod(permissions)
            temporary.replace(place)
        except OSError as error:
            if error.filename is None or error.filename in (target, str(target), temporary, str(temporary)):
                raise OSError(error.errno, _FULL.get(error.errno or 0, error.strerror), str(target)) from error
            raise


def leftovers(folder: Path) -> list[Path]:
    """The unfinished files in a folder that processes have left which were killed while they wrote."""
    return [path for path in folder.iterdir() if _LEFTOVER.fullmatch(path.name)]


def _name_beside(place: Path) -> Path:
    """A random name of a hidden file in the folder of ``place``, which `leftovers` knows."""
    if not place.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {place.parent} does not exist")
    # A part of the name: the whole one may be as long as names can be.
    return place.with_name(f".{place.name[:50]}.{secrets.token_hex(4)}.partial")


def _created(path: Path) -> bool:
    """Whether there was no such file and an empty one has been made."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    except OSError as error:  # which names the hidden file
        raise OSError(error.errno, f"the folder {path.parent} takes no new file: {error.strerror}") from error
    return True


def _permissions(place: Path) -> int | None:
    """Those of a file that is there already, which must not be read-only."""
    if not place.exists():
        return None
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only")
    return stat.S_IMODE(place.stat().st_mode)


def _is_stream(path: Path) -> bool:
    """Whether a file is there that is not regular, or that a process has open already, as ``/dev/stdout``."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder has this name")
    return _in_proc(path) is not None or not stat.S_ISREG(mode)


def _in_proc(path: Path) -> Path | None:
    """The name below ``/proc`` that a path leads to, by links; None for other paths."""
    link = path
    while True:
        folder = Path(os.path.realpath(link.parent))
        if folder.parts[:2] == ("/", "proc"):
            return folder / link.name
        if not link.is_symlink():
            return None
        link = folder / os.readlink(link)


def _opened(path: Path) -> BinaryIO:
    """A stream that is written to, at its end.

    One that this process has open itself is written where it stands, and moved on: what others write to it follows.
    """
    inside = _in_proc(path)
    if inside is not None and inside.parent == Path(f"/proc/{os.getpid()}/fd"):
        return os.fdopen(os.dup(int(inside.name)), "wb")
    return path.open("ab")
