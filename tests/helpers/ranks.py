"""Starts commands, or functions of `tests/helpers/rank_jobs.py`, on several processes with mpirun."""

import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tinygrad_attn_models.runs.folder import LAST, Run

__all__ = ["MPIRUN", "ROOT", "SETTINGS", "environment", "is_open_mpi", "job", "needs_mpi", "run", "start", "state"]

ROOT = Path(__file__).parents[2]
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
_MISSING = [
    name for name, found in (("mpi4py", importlib.util.find_spec("mpi4py")), ("mpirun", MPIRUN)) if not found
]  # fmt: skip
needs_mpi = pytest.mark.skipif(bool(_MISSING), reason=f'no {" and no ".join(_MISSING)}: pip install -e ".[mpi]"')
_SECONDS = 120.0
SETTINGS = [
    "data.kind=copy", "data.shortest=1", "data.longest=4", "data.longest_test=4",
    "data.train_size=40", "data.valid_size=6", "data.test_size=7", "training.batch_size=9", "training.epochs=2",
    "model.embedding_size=3", "model.hidden_size=4", "decoding.max_length=6", "decoding.batch_size=2",
]  # fmt: skip
"""Of a run that takes a second."""


@functools.cache
def is_open_mpi():
    """Whether mpirun is that of Open MPI."""
    return "Open MPI" in subprocess.run([MPIRUN, "--version"], capture_output=True, text=True).stdout


def environment(**more):
    """The environment of ranks: as many as are asked for on any machine and for any user; kernels are plain Python, so
    that nothing is compiled."""
    open_mpi = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_mpi_yield_when_idle": "1",
    }  # fmt: skip
    return {**os.environ, **open_mpi, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT), **more}


def start(ranks, *arguments, **more):
    """A process of ``mpirun -n RANKS python ARGUMENTS``, in a group of its own."""
    command = [MPIRUN, "-n", str(ranks), sys.executable, *map(str, arguments)]
    if ranks == 1:
        command = command[3:]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", cwd=more.pop("cwd", ROOT),
        env=environment(**more), start_new_session=True,
    )  # fmt: skip


def run(ranks, *arguments, **more):
    """Its exit code, what it printed, and what it said on stderr."""
    process = start(ranks, *arguments, **more)
    try:
        out, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, errors = process.communicate()
        raise AssertionError(f"the ranks did not end:\n{out}\n{errors}") from None
    return process.returncode, out, errors


@functools.cache
def job(name, ranks, *arguments):
    """What a function of ``rank_jobs`` returns on rank 0 of so many."""
    code, out, errors = run(ranks, Path(__file__).with_name("rank_jobs.py"), name, *arguments)
    assert code == 0, errors
    return json.loads(out.splitlines()[-1])


def state(folder):
    """The weights and the optimiser's state of a run."""
    return Run.open(folder, LAST)[1]
