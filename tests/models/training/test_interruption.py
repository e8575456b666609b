"""Signals: the first asks to stop, a second Ctrl-C stops at once, and no handler prints."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from children import Child
from commands import TINY
from tinygrad_attn_models.runs.folder import LAST, Run
from tinygrad_attn_models.training.interruption import Interruption

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_the_second_ctrl_c_stops_at_once():
    interruption, before = Interruption(), signal.getsignal(signal.SIGINT)
    told = threading.Event()
    with pytest.raises(KeyboardInterrupt), interruption.awaited(told.set):
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        assert told.wait(timeout=60)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert interruption.exit_code == 130


def test_the_handler_leaves_printing_to_another_thread():
    """A print in the middle of another print is a RuntimeError, and loses the steps since the last checkpoint."""
    threads = []
    interruption = Interruption()
    with interruption.awaited(lambda: threads.append(threading.current_thread())):
        signal.raise_signal(signal.SIGINT)
    assert threads and threads[0] is not threading.main_thread()


@POSIX
@pytest.mark.parametrize("number", [1, 15])
def test_a_terminal_that_is_closed_and_kill_ask_to_stop(number):
    interruption, before = Interruption(), signal.signal(number, signal.SIG_DFL)  # whatever nohup has done for pytest
    try:
        with interruption.awaited(lambda: None):
            signal.raise_signal(number)
            signal.raise_signal(number)  # a shell may send its own beside the kernel's
            assert interruption.requested
        assert interruption.exit_code == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


@POSIX
def test_nohup_stays_in_force():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption = Interruption()
    try:
        with interruption.awaited(lambda: None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not interruption.requested


def test_without_a_signal_nothing_is_told():
    told = []
    with Interruption().awaited(lambda: told.append(1)):
        pass
    assert told == []


@POSIX
@pytest.mark.slow
def test_ctrl_c_while_tee_keeps_a_log(tmp_path):
    """The terminal sends Ctrl-C to both; tee dies first, and with it standard output."""
    run = tmp_path / "run"
    train = f"'{sys.executable}' -m models train --out '{run}' --set {' '.join(TINY)} training.epochs=5000"
    command = ["bash", "-c", f"set -o pipefail; {train} | tee '{tmp_path / 'log'}'"]
    with Child(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        while not (run / LAST).exists() or Run.open(run, LAST)[2]["step"] < 10:
            time.sleep(0.05)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        errors = process.stderr.read().decode()
        assert process.wait() == 130
    assert "Traceback" not in errors
    assert f"and saved. Continue with:\n    python -m models train --resume {run}" in errors


def test_a_system_without_hangups_and_with_ctrl_break():
    """Windows: no SIGHUP, and SIGBREAK, here played by another signal."""
    code = (
        "import signal\n"
        "del signal.SIGHUP\n"
        "signal.SIGBREAK = signal.SIGABRT\n"
        "from tinygrad_attn_models.training.interruption import Interruption\n"
        "interruption = Interruption()\n"
        "with interruption.awaited(lambda: None):\n"
        "    signal.raise_signal(signal.SIGBREAK)\n"
        "assert interruption.requested and interruption.exit_code == 128 + signal.SIGBREAK"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
