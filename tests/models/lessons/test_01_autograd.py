"""The engine of lesson 1: at most 100 lines, and the gradients of the real one, for any program."""

import contextlib
import io
import runpy

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.lessons.cells import cells_of, lessons

LESSON = lessons()[1]
with contextlib.redirect_stdout(io.StringIO()):
    NAMES = runpy.run_path(str(LESSON))

STEPS = st.sampled_from(sorted(NAMES["OURS"])).flatmap(
    lambda name: st.tuples(st.just(name), st.lists(st.integers(0, 30), min_size=(n := _operands(name)), max_size=n))
)


def _operands(name):
    return 2 if name in NAMES["BINARY"] else 1


@given(st.lists(STEPS, min_size=1, max_size=20), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_any_program_has_the_gradients_of_the_real_engine(program, seed, size):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in ((size, size), (1, size), (size, 1), (1, 1))]
    for ours, real in zip(*NAMES["gradients"](program, arrays), strict=True):
        np.testing.assert_allclose(ours, real, rtol=1e-9, atol=1e-11)


def test_it_has_at_most_100_lines():
    code = [line for cell in cells_of(LESSON) if cell.title == "engine" for line in cell.text.splitlines()]
    assert 30 < len([line for line in code if line.strip()]) <= 100
