"""Compiled kernels on disk: whatever has happened to the files, a run goes on, and says once what happened."""

import os
import random
import subprocess
import sys
import textwrap

import pytest
from bits import compiled_only

_RUN = """
import numpy as np
import tinygrad_attn
from tinygrad_attn.kernels import special as kernel

found = kernel.erf(np.full(3, np.inf, np.float32))
assert found.tolist() == [1, 1, 1], found
print(sum(kernel._erf.stats.cache_hits.values()))
"""


def run(folder, before="", **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(before) + "\n" + _RUN],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONWARNINGS": "always", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def files(folder, ending):
    return sorted(path for path in folder.rglob(f"special._erf-*{ending}"))


@compiled_only
@pytest.mark.slow
def test_damaged_files_are_compiled_anew_and_written_again(tmp_path):
    assert run(tmp_path) == (["0"], "")
    assert run(tmp_path) == (["1"], "")
    rng = random.Random(0)
    (index,), (data,) = files(tmp_path, ".nbi"), files(tmp_path, ".nbc")

    def flipped(contents):
        at = rng.randrange(len(contents))
        return contents[:at] + bytes([contents[at] ^ 1 << rng.randrange(8)]) + contents[at + 1 :]

    for path in (index, data):
        for damage in (flipped, lambda contents: contents[: len(contents) // 2], lambda contents: b""):
            path.write_bytes(damage(path.read_bytes()))
            hits, said = run(tmp_path)
            assert hits == ["0"]
            assert said.count("RuntimeWarning: compiled kernels on disk:") == 1
            assert str(path) in said and "damaged" in said and "NUMBA_CACHE_DIR" in said
            assert run(tmp_path) == (["1"], "")


_NOWHERE = """
import tempfile

def refuse(*arguments, **options):
    raise OSError(30, "Read-only file system")

tempfile.TemporaryFile = refuse
"""

_FULL = """
import numba.core.caching as caching

def refuse(self, path):
    raise OSError(28, "No space left on device")

caching.IndexDataCacheFile._open_for_write = refuse
"""


@compiled_only
@pytest.mark.parametrize(
    "before, reason",
    [
        (_FULL, "No space left on device"),
        pytest.param(_NOWHERE, "nor the user's cache can be written to", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_is_full_or_read_only(before, reason, tmp_path):
    hits, said = run(tmp_path, before)
    assert hits == ["0"]
    assert said.count("RuntimeWarning: compiled kernels on disk:") == 1
    assert reason in said and "set NUMBA_CACHE_DIR to a folder that can be written to" in said
    assert not list(tmp_path.rglob("*.nb?"))


@compiled_only
@pytest.mark.slow
def test_a_user_without_a_home(tmp_path):
    before = "import os; os.path.expanduser = lambda path: path; os.access = lambda path, mode: False; os.chdir({!r})"
    hits, said = run("", before.format(str(tmp_path)), PYTHONPATH=os.getcwd())
    assert hits == ["0"]
    assert said.count("RuntimeWarning: compiled kernels on disk:") == 1
    assert not list(tmp_path.iterdir())


@compiled_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    _, said = run(tmp_path / "below", HOME="/nonexistent")
    assert "Traceback" not in said


@compiled_only
@pytest.mark.slow
def test_files_of_another_kernel_or_state_are_not_taken(tmp_path):
    run(tmp_path, "import tinygrad_attn as ta; ta.tensor([1.0, 2.0]).softmax(-1)")
    (data,) = files(tmp_path, ".nbc")
    other = next(path for path in tmp_path.rglob("*.nbc") if path != data)
    data.write_bytes(other.read_bytes())
    assert run(tmp_path) == (["0"], "")
    assert run(tmp_path) == (["1"], "")
