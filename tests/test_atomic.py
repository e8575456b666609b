"""Writing a file whole or not at all: errors, permissions, links, devices and pipes."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tinygrad_attn.atomic import atomic_path, leftovers


def write(path, content="new"):
    with atomic_path(path) as temporary:
        temporary.write_text(content)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full: there is no space left"),
        (errno.EDQUOT, "disk full: the quota"),
        (errno.EIO, "Input.output error"),
    ],
)
def test_an_error_names_the_file_that_the_user_knows(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "weights"
    for named in (False, True):
        with pytest.raises(OSError, match=words) as caught, atomic_path(path) as temporary:
            raise OSError(number, os.strerror(number), *([str(temporary)] if named else []))
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError) as other, atomic_path(path):
        (tmp_path / "a font").read_bytes()
    assert other.value.filename == str(tmp_path / "a font")


def test_what_is_missing_or_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, kind, words in (
        (tmp_path / "none" / "f", FileNotFoundError, "the folder .*none does not exist"),
        (tmp_path, IsADirectoryError, "a folder has this name"),
        (tmp_path / "file" / "f", NotADirectoryError, "Not a directory"),
    ):
        with pytest.raises(kind, match=words) as caught:
            write(path)
        assert caught.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_takes_no_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: Path, *_: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match="takes no new file: Permission denied") as caught:
        write(tmp_path / "page.html")
    assert caught.value.filename == str(tmp_path / "page.html")
    assert ".partial" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a file system without new files")
def test_a_file_system_that_takes_no_new_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder /proc takes no new file.*'/proc/x\.html'"):
        write("/proc/x.html")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read_a_new_file(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "f")
        (tmp_path / "secret").write_text("old")
        (tmp_path / "secret").chmod(0o640)
        write(tmp_path / "secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == expected
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o640  # as it was


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root every file can be written
    with pytest.raises(PermissionError, match="the file is read-only"):
        write(path)
    assert path.read_text() == "old"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "f"
    link.symlink_to("elsewhere/g")  # which does not exist yet
    for content in ("one", "two"):
        write(link, content)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / "g").read_text() == content
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["g"]


def test_the_longest_name(tmp_path: Path) -> None:
    write(tmp_path / ("가" * 85))  # 255 bytes
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a device of Linux")
def test_a_device_is_written_to_and_stays() -> None:
    with pytest.raises(OSError, match=r"disk full.*'/dev/full'"):
        write("/dev/full")
    write("/dev/null")
    assert Path("/dev/full").is_char_device() and Path("/dev/null").is_char_device()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()))
    reader.start()
    write(tmp_path / "pipe")
    reader.join(timeout=60)
    assert found == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors as files")
def test_standard_output_that_is_a_file_keeps_what_was_written_before(tmp_path: Path) -> None:
    names = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
    code = (
        "from tinygrad_attn.atomic import atomic_path\n"
        f"for name in {names}:\n    with atomic_path(name) as p: p.write_text('new ')"
    )
    with (tmp_path / "out").open("w") as out:
        out.write("before ")
        out.flush()
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
        out.write("after")  # as another command of a shell's group does
    assert (tmp_path / "out").read_text() == "before new new new after"


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits of POSIX")
def test_leftovers_of_a_process_killed_within_a_write_are_known(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\nfrom tinygrad_attn.atomic import atomic_path\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with atomic_path(sys.argv[1]) as p: p.write_bytes(bytes(5000))"
    )
    (tmp_path / "f").write_text("old")
    (tmp_path / ".f.mine").write_text("of the user")
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert (tmp_path / "f").read_text() == "old"
    (left,) = leftovers(tmp_path)
    assert left.stat().st_size == 1000
