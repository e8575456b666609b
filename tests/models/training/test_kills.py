"""A drawn share of tests/fuzz/kills.py: killed at random, or as a checkpoint is written, a run ends with its bits."""

import random
import sys

import pytest
from from_file import FUZZ, module_from

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the kernel of Windows has no SIGKILL and no RLIMIT_FSIZE"),
]


@pytest.fixture(scope="module")
def kills():
    return module_from(FUZZ / "kills.py")


def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(kills, tmp_path):
    seed = random.randrange(2**32)
    print(f"to see this again: python tests/fuzz/kills.py --kills 3 --writing 2 --full 1 --seed {seed}")
    done, within, _, filled = kills.run(tmp_path, kills=3, writing=2, full=1, seed=seed, small_disks=(), report=print)
    assert (done, within, filled) == (3, 2, 1)
