"""Commands under mpirun: what they print and write, a process that dies, errors, and going on with other numbers."""

import contextlib
import csv
import os
import shutil
import signal
import sys
import time

import filelock
import pytest
from ranks import ROOT, SETTINGS, is_open_mpi, needs_mpi, run, start, state
from tinygrad_attn_models.runs.folder import LAST, Run
from weights import assert_same

pytestmark = [needs_mpi, pytest.mark.slow]


def train(ranks, folder, *more, **options):
    """A process that trains in a folder."""
    return run(ranks, "-m", "models", "train", "--out", folder, "--set", *SETTINGS, *more, cwd=ROOT, **options)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process, with parts that any number of processes adds in the same order."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    code, _, errors = train(1, folder, "training.shards=4")
    assert code == 0, errors
    return folder


def test_a_run_of_several_processes_is_written_and_told_once(alone, tmp_path):
    folder = tmp_path / "run"
    code, out, errors = train(3, folder, "training.shards=4", "training.divided_moments=true")
    assert (code, errors) == (0, "")
    assert out.count("epoch 1/2") == out.count("epoch 2/2") == out.count("Exact match") == 1
    assert_same(state(folder), state(alone))
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
    for name in ("steps.csv", "attention.png"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes()


def test_errors_appear_once(alone, tmp_path):
    held = tmp_path / "held"
    shutil.copytree(alone, held)
    another = filelock.FileLock(held / ".lock")
    another.acquire()
    for words, arguments in (
        ("another process is training in", ["train", "--resume", held, "--set", "training.epochs=9"]),
        ("is not empty", ["train", "--out", alone]),
        ("there is no setting", ["train", "--set", "training.epoch=1"]),
        ("unrecognized arguments", ["train", "--epochs"]),
        ("runs in one process", ["bench", "bahdanau-small"]),
        ("there is no run folder", ["train", "--resume", tmp_path / "none"]),
        *([("with --file FILE", ["translate", alone])] if is_open_mpi() else []),
    ):
        code, _, errors = run(2, "-m", "models", *arguments)
        assert code != 0
        assert errors.count("error:") == 1, errors
        assert words in errors
        assert "MPI_ABORT" not in errors  # all processes fail, so none has to end the others


def test_an_error_of_one_rank_names_it_and_ends_the_others(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("import os\nif '1' in map(os.environ.get, ('OMPI_COMM_WORLD_RANK', 'PMI_RANK')): 1 / 0\n", "utf-8")
    code, _, errors = train(2, tmp_path / "run", "--import", own)
    assert code != 0
    assert errors.count("error:") == 1, errors
    assert "error: rank 1 of 2: " in errors and str(own) in errors


def test_sentences_are_divided_and_their_order_kept(alone, tmp_path):
    lines = ["abc", "d", "", "efgh", "xyz", "ab", "k", "lmno", "p", "qr", "stu", "vw"]
    (tmp_path / "lines").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for options in ([], ["--beam", "2", "--n-best", "2"], ["--alignments", tmp_path / "alignments"]):
        arguments = ["-m", "models", "translate", "-q", alone, "--file", tmp_path / "lines", "--batch-size", "3"]
        outputs = []
        for ranks in (1, 3):
            code, out, errors = run(ranks, *arguments, *options)
            assert (code, errors) == (0, "")
            outputs.append([out, *[path.read_text() for path in tmp_path.glob("alignments")]])
        assert outputs[0] == outputs[1]
        assert outputs[0][0].count("\n") >= len(lines)
    figures = [run(ranks, "-m", "models", "evaluate", alone, "--json", "-q")[1] for ranks in (1, 2)]
    assert figures[0] == figures[1]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="which processes the ranks are is read in /proc")
@pytest.mark.parametrize("victim", ["rank", "mpirun"])
def test_a_death_ends_all_and_the_run_goes_on_with_other_processes(victim, tmp_path):
    if victim == "rank" and not is_open_mpi():
        pytest.skip("MPICH kills the other ranks at once: they can say and save nothing")
    endless = ["training.shards=4", "training.epochs=300", "training.schedule=constant"]
    for attempt in range(3):  # Open MPI leaves a quarter of a second to save in, which a busy machine may not give
        folder = tmp_path / f"run-{attempt}"
        before, errors = _dies(victim, folder, endless)
        # When mpirun is stopped, it passes nothing on.
        told = victim == "mpirun" or (errors.count("error:") == 1 and f"train --resume {folder}" in errors)
        if told and _comes_true(lambda folder=folder, before=before: Run.open(folder, LAST)[2]["step"] > before):
            break
    else:
        pytest.fail(f"nothing was saved, three times; the last time: {errors}")
    stopped = Run.open(folder, LAST)[2]
    more = stopped["epoch"] + 2
    code, out, errors = run(3, "-m", "models", "train", "--resume", folder, "--set", f"training.epochs={more}")
    assert (code, errors) == (0, "")
    assert f"continuing at step {stopped['step']}" in out
    whole = tmp_path / "whole"
    assert train(1, whole, *endless[:1], endless[2], f"training.epochs={more}")[0] == 0
    assert_same(state(folder), state(whole))
    with (folder / "steps.csv").open() as lines:
        assert [int(row["step"]) for row in csv.DictReader(lines)] == list(range(1, 5 * more + 1))


def _dies(victim, folder, settings):
    """Begin a run of two ranks, and end one of them, or mpirun; the step of its checkpoint before, and its errors."""
    process = start(2, "-m", "models", "train", "--out", folder, "--set", *SETTINGS, *settings, cwd=ROOT)
    try:
        ranks = _ranks_that_train(process, folder)
        before = Run.open(folder, LAST)[2]["step"]
        if victim == "rank":
            os.kill(ranks[-1], signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT)  # as Ctrl-C
        _, errors = process.communicate(timeout=30.0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    return before, errors


def _ranks_that_train(process, folder):
    """The ids of the ranks' processes, once a checkpoint is there and steps are being taken."""
    assert _comes_true(lambda: (folder / LAST).exists() or process.poll() is not None, seconds=60.0)
    assert process.poll() is None, process.communicate()
    time.sleep(1.0)
    ranks = [each for each in _descendants(process.pid) if sys.executable.encode() in _command(each)]
    assert len(ranks) == 2
    return ranks


def _descendants(process):
    """The ids of a process's children and of theirs; MPICH's mpirun starts ranks by a process between."""
    parents = {each: _parent(each) for each in map(int, filter(str.isdecimal, os.listdir("/proc")))}
    found = [process]
    for each in found:
        found += sorted(child for child, parent in parents.items() if parent == each)
    return found[1:]


def _parent(process):
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def _command(process):
    with contextlib.suppress(OSError), open(f"/proc/{process}/cmdline", "rb") as file:
        return file.read().split(b"\0")[0]
    return b""


def _comes_true(condition, seconds=15.0):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
