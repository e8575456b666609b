"""A forked child computes what its parent does."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

_WORK = """
import multiprocessing, os, threading
import numpy as np
import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.kernels.column_sums import column_sums

x = np.random.default_rng(0).standard_normal((300, 257)).astype(np.float32)

def work(seed=0):
    a = ta.Tensor(x.copy(), requires_grad=True)
    y = ta.softmax(a @ a.T, -1) @ a
    y.sum().backward()
    return a.grad.array.tobytes(), column_sums(x).tobytes()

def child(run):
    # The exit code of a forked process that runs this.
    number = os.fork()
    if number == 0:
        try:
            run()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

def check(expected):
    assert work() == expected
"""


def run(body):
    code = _WORK + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_children_of_a_process_that_has_used_the_pool():
    run("""
    expected = work()
    def in_child():
        check(expected)
        assert child(lambda: check(expected)) == 0  # and a child of the child
    assert child(in_child) == 0
    assert work() == expected
    # A fork while another thread is in a kernel.
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            work()
    thread = threading.Thread(target=busy)
    thread.start()
    codes = [child(lambda: check(expected)) for _ in range(5)]
    stop.set(), thread.join()
    assert codes == [0] * 5
    """)


@pytest.mark.slow
def test_a_child_of_a_process_that_has_not():
    run("""
    def in_child():
        work()
    assert child(in_child) == 0
    work()
    """)


@pytest.mark.slow
def test_multiprocessing_as_data_loaders_use_it():
    run("""
    if __name__ == "__main__":
        expected = work()
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(work, range(6)) == [expected] * 6
        assert work() == expected
    """)


@pytest.mark.slow
def test_a_child_compiles_a_kernel_that_its_parent_has_not():
    run("""
    column_sums(np.ones((400, 400), np.float32))
    def in_child():
        work()
        layer = nn.LayerNorm(512)
        layer(ta.randn(200, 512)).sum().backward()
    assert child(in_child) == 0
    """)
