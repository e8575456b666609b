"""Locks of kernels between processes."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from children import Child
from numba.core import event

from tinygrad_attn.kernels.runtime import locks
from tinygrad_attn.kernels.runtime.locks import WAIT, is_locked, locked

pytestmark = pytest.mark.skipif(locks.fcntl is None, reason="the system has no locks of bytes")

KERNEL = SimpleNamespace(py_func=os.getpid)
"""What whoever tells of compilation is given: something with a function that has a name."""

_HOLD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("locks", sys.argv[1])
locks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locks)
with locks.locked(sys.argv[2], "kernel", None):
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which holds the lock of ``kernel``."""
    command = [sys.executable, "-c", _HOLD, locks.__file__, str(tmp_path)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_process_at_a_time(other, tmp_path, monkeypatch):
    folder = str(tmp_path)
    assert is_locked(folder, "kernel") and not is_locked(folder, "another kernel")
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "free\n"
    assert not is_locked(folder, "kernel")
    with locked(folder, "kernel", KERNEL), locked(folder, "kernel", KERNEL):
        assert (os.getpid(), folder, locks._byte("kernel")) in locks._held
    assert not locks._held


def test_a_lock_is_waited_for_which_is_told(other, tmp_path, monkeypatch):
    class Kill(event.Listener):
        def on_start(self, event):
            assert event.data["dispatcher"] is KERNEL
            other.send_signal(signal.SIGKILL)

        def on_end(self, event):
            pass

    with event.install_listener(WAIT, Kill()), locked(str(tmp_path), "kernel", KERNEL):
        assert other.wait() == -signal.SIGKILL
        assert len(locks._held) == 1


def test_a_process_that_has_stopped_is_not_waited_for(other, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0.05)
    with locked(str(tmp_path), "kernel", KERNEL):
        assert not locks._held


def test_without_a_folder_there_is_no_lock(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in ("", str(file / "below")):
        assert not is_locked(folder, "kernel")
        with locked(folder, "kernel", KERNEL):
            assert not locks._held


def test_a_file_system_without_locks_keeps_no_file_open(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("no locks here")

    opened = []
    open_file = os.open
    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    monkeypatch.setattr(locks.os, "open", lambda *arguments: opened.append(open_file(*arguments)) or opened[-1])
    with locked(str(tmp_path), "kernel", KERNEL):
        assert not locks._held and len(opened) == 1
    with pytest.raises(OSError):
        os.fstat(opened[0])
