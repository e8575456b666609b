"""The matrix product, against float64 NumPy and the bound that rounding allows."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st
from threads import in_threads

from tinygrad_attn.kernels.gemm import product as gemm_module
from tinygrad_attn.kernels.gemm import tile as gemm_tile
from tinygrad_attn.kernels.gemm.blocks import multiply_in_numpy
from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.tensor import Tensor

DTYPES = (np.float32, np.float64)
IN_PYTHON = bool(numba.config.DISABLE_JIT)
LONGEST_AXIS = 12 if IN_PYTHON else 80  # that hypothesis tries


@pytest.fixture(autouse=True)
def kernel_for_every_size(monkeypatch):
    """Tiny products go through the kernel too, on all threads, so that hypothesis reaches it; tests undo it by name."""
    monkeypatch.setattr(gemm_module, "_NUMPY_WORK", 0)
    monkeypatch.setattr(gemm_module, "_SERIAL_WORK", 0)


def assert_product(result, a, b, start=None, bias=None, activation=None):
    """However it is summed, a dot product of length K errs by at most about K eps sum |a||b| (Higham 2002, 3.1)."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    expected, magnitude = np.matmul(a64, b64), np.matmul(abs(a64), abs(b64))
    for term in (start, bias):
        if term is not None:
            expected, magnitude = expected + term, magnitude + abs(term)
    if activation == "relu":
        expected = np.maximum(expected, 0)
    bound = (a.shape[-1] + 3) * np.finfo(a.dtype).eps * magnitude
    assert result.dtype == a.dtype
    assert result.shape == expected.shape
    assert (abs(result - expected) <= bound).all(), f"{a.shape} @ {b.shape}: off by {abs(result - expected).max()}"


def random_layout(draw, shape, dtype):
    """Normal numbers of that shape in a layout that views can have: permuted axes, steps, reversed, broadcast."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -3])) for _ in shape]
    stored = [shape[axis] * abs(steps[axis]) for axis in order]
    values = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(stored).astype(dtype)
    view = values.transpose(np.argsort(order))[tuple(slice(None, None, step) for step in steps)]
    if draw(st.integers(0, 4)) == 0:
        axis = draw(st.integers(0, len(shape) - 1))
        if shape[axis] > 0:
            view = np.broadcast_to(view.take([0], axis=axis), shape)
    assert view.shape == tuple(shape)
    return view


@st.composite
def products(draw):
    dtype = draw(st.sampled_from(DTYPES))
    rows, depth, columns = (draw(st.integers(0, LONGEST_AXIS)) for _ in range(3))
    batch = draw(st.lists(st.integers(0, 3), max_size=3))
    leading = []
    for _ in range(2):
        kept = batch[draw(st.integers(0, len(batch))) :]
        leading.append([draw(st.sampled_from([length, length, 1])) for length in kept])
    a = random_layout(draw, (*leading[0], rows, depth), dtype)
    b = random_layout(draw, (*leading[1], depth, columns), dtype)
    bias = random_layout(draw, (columns,), dtype) if draw(st.booleans()) else None
    return a, b, bias, draw(st.sampled_from([None, "relu"]))


@examples
@given(products())
def test_equals_numpy_for_any_shapes_and_layouts(product):
    a, b, bias, activation = product
    assert_product(gemm(a, b, bias=bias, activation=activation), a, b, bias=bias, activation=activation)


@examples
@given(products(), st.booleans(), st.data())
def test_writes_or_adds_into_any_out(product, accumulate, data):
    a, b, bias, activation = product
    shape = np.matmul(a, b).shape
    surrounding = np.random.default_rng(0).standard_normal([length + 2 for length in shape]).astype(a.dtype)
    order = data.draw(st.permutations(range(len(shape))))
    surrounding = surrounding.transpose(order).copy().transpose(np.argsort(order))
    before = surrounding.copy()
    inside = (slice(1, -1),) * len(shape)
    out = surrounding[inside]
    result = gemm(a, b, out, bias=bias, activation=activation, accumulate=accumulate)
    assert result is out
    assert_product(out, a, b, before[inside] if accumulate else None, bias, activation)
    before[inside] = out
    np.testing.assert_array_equal(surrounding, before, "wrote outside of out")


@examples
@given(products())
def test_inputs_stay_as_they_were(product):
    a, b, bias, _ = product
    before = [array.copy() for array in (a, b)]
    gemm(a, b, bias=bias)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


# Sizes around the edges of tiles and blocks, and past every block size.
SIZES = (
    [(3, 5, 7), (9, 12, 11)]
    if IN_PYTHON
    else [(1, 700, 33), (97, 1, 130), (350, 530, 70), (29, 260, 2100), (1801, 20, 270)]
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", ["neither", "a", "b", "both"])
@pytest.mark.parametrize("size", SIZES)
def test_large_products_and_transposed_views(size, transposed, dtype):
    rng = np.random.default_rng(1)
    rows, depth, columns = size
    a = rng.standard_normal((rows, depth)).astype(dtype)
    b = rng.standard_normal((depth, columns)).astype(dtype)
    if transposed in ("a", "both"):
        a = np.asfortranarray(a)
    if transposed in ("b", "both"):
        b = np.asfortranarray(b)
    start = rng.standard_normal((rows, columns)).astype(dtype)
    bias = rng.standard_normal(columns).astype(dtype)
    out = start.copy()
    gemm(a, b, out, bias=bias, activation="relu", accumulate=True)
    assert_product(out, a, b, start, bias, "relu")


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_on_heads_that_are_views(dtype):
    batch, heads, length, width = (2, 2, 3, 4) if IN_PYTHON else (3, 8, 25, 64)
    rng = np.random.default_rng(2)
    queries, keys, values = (
        rng.standard_normal((batch, length, heads * width)).astype(dtype).reshape(batch, length, heads, width)
        for _ in range(3)
    )
    q, k, v = (array.transpose(0, 2, 1, 3) for array in (queries, keys, values))
    scores = gemm(q, k.swapaxes(-1, -2))
    assert_product(scores, q, k.swapaxes(-1, -2))
    joined = np.full((batch, length, heads, width), np.nan, dtype)
    gemm(scores, v, joined.transpose(0, 2, 1, 3))
    assert_product(joined.transpose(0, 2, 1, 3), scores, v)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_depth_is_summed_block_by_block(dtype):
    rows, depth, columns = (3, 5, 7) if IN_PYTHON else (17, 1200, 40)
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    bias = rng.standard_normal(columns).astype(dtype)
    blocked = multiply_in_numpy(a, b, bias, "relu")
    assert_product(blocked, a, b, bias=bias, activation="relu")
    assert_product(gemm(a, b, bias=bias, activation="relu"), a, b, bias=bias, activation="relu")


@pytest.mark.skipif(get_num_threads() < 2, reason="needs two threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "a_shape, b_shape",
    [((5, 7), (7, 33))]
    if IN_PYTHON
    else [
        ((333, 700), (700, 95)),
        ((40, 300), (300, 900)),
        ((3, 5, 25, 64), (3, 5, 64, 25)),
        ((7, 33, 600), (600, 50)),
    ],
)
def test_same_bits_for_any_number_of_threads(a_shape, b_shape, dtype):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(a_shape).astype(dtype), rng.standard_normal(b_shape).astype(dtype)
    bias = rng.standard_normal(b_shape[-1]).astype(dtype)
    assert_same_bits(lambda: gemm(a, b, bias=bias, activation="relu"))


@pytest.mark.parametrize("rows, columns", [(0, 3), (3, 0), (0, 0), (2, 3)])
def test_empty_axes(rows, columns):
    bias = np.arange(columns, dtype=np.float32) - 1
    a, b = np.ones((rows, 0), np.float32), np.ones((0, columns), np.float32)
    np.testing.assert_array_equal(gemm(a, b), np.zeros((rows, columns)))
    np.testing.assert_array_equal(
        gemm(a, b, bias=bias, activation="relu"), np.broadcast_to(np.maximum(bias, 0), (rows, columns))
    )
    out = np.full((rows, columns), 2, np.float32)
    np.testing.assert_array_equal(gemm(a, b, out, accumulate=True), np.full((rows, columns), 2))
    assert gemm(np.ones((0, 4, 5)), np.ones((5, 6))).shape == (0, 4, 6)


@pytest.mark.parametrize("through_kernel", [True, False])
def test_infinities_and_nans_arrive(through_kernel, monkeypatch):
    if not through_kernel:
        monkeypatch.undo()
    a = np.ones((3, 2), np.float32)
    a[0, 0], a[1, 1] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        result = gemm(a, np.ones((2, 20), np.float32), activation="relu")
    assert np.isnan(result[0]).all() and np.isposinf(result[1]).all() and (result[2] == 2).all()


@pytest.mark.parametrize("name", gemm_tile.ACTIVATIONS)
@examples
@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_activation_equals_its_twin_in_numpy(name, values):
    x = np.array([values], np.float32)
    a, b = np.zeros((3, 1), np.float32), np.zeros((1, x.size), np.float32)
    expected = np.broadcast_to(gemm_tile.ACTIVATIONS[name][1](x), (3, x.size))
    np.testing.assert_array_equal(gemm(a, b, bias=x[0], activation=name), expected)


def test_small_products_of_numpy_and_the_kernel_agree(monkeypatch):
    rng = np.random.default_rng(4)
    a, b, bias = rng.standard_normal((3, 5)), rng.standard_normal((5, 6)), rng.standard_normal(6)
    start = rng.standard_normal((3, 6))
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(gemm_module, "multiply", None)  # NumPy's turn: the kernel must not be called
        out = gemm(a, b, start.copy(), bias=bias, activation="relu", accumulate=True)
    assert_product(out, a, b, start, bias, "relu")


def test_products_of_several_python_threads():
    rng = np.random.default_rng(5)
    size = (4, 5) if IN_PYTHON else (120, 130)
    operands = [(rng.standard_normal(size), rng.standard_normal(size[::-1])) for _ in range(4)]
    results = [None] * len(operands)

    def multiply(index):
        for _ in range(20):
            results[index] = gemm(*operands[index])

    in_threads(multiply, range(len(operands)))
    for (a, b), result in zip(operands, results, strict=True):
        assert_product(result, a, b)


F32 = np.ones((2, 3), np.float32)
W32 = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    "arguments, keywords, error, words",
    [
        (([[1.0]], W32), {}, TypeError, "a must be a numpy.ndarray, got list"),
        ((F32, Tensor(W32)), {}, TypeError, "b must be a numpy.ndarray, got Tensor"),
        ((F32, W32.astype(int)), {}, TypeError, "b must be float32 or float64, got int64"),
        ((F32, W32.astype(np.float64)), {}, TypeError, "got float32 and float64"),
        ((F32[0], W32), {}, ValueError, r"a must have at least 2 dimensions, got shape \(3,\)"),
        ((F32, F32), {}, ValueError, r"got 3 and 2 \(a has shape \(2, 3\), b \(2, 3\)\)"),
        ((np.ones((2, 2, 3)), np.ones((5, 3, 4))), {}, ValueError, r"do not broadcast: \(2,\) and \(5,\)"),
        ((F32, W32), {"bias": np.ones(3, np.float32)}, ValueError, r"bias must have shape \(4,\)"),
        ((F32, W32), {"bias": np.ones(4)}, TypeError, "bias must be an array of float32"),
        ((F32, W32), {"activation": "swish"}, ValueError, "activation must be None or one of relu, got 'swish'"),
        ((F32, W32), {"accumulate": True}, ValueError, "out is None"),
        ((F32, W32, np.ones((2, 3), np.float32)), {}, ValueError, r"out must have shape \(2, 4\)"),
        ((F32, W32, np.ones((2, 4))), {}, TypeError, "out must be an array of float32"),
        ((F32, W32, np.broadcast_to(np.float32(0), (2, 4))), {}, ValueError, "read-only"),
    ],
)
def test_errors_name_what_is_wrong(arguments, keywords, error, words):
    with pytest.raises(error, match=words):
        gemm(*arguments, **keywords)


def test_out_may_lie_between_inputs_but_not_on_them():
    buffer = np.ones((4, 3, 4), np.float32)
    a, b, out = buffer[:, 0], buffer[:, 1], buffer[:, 2]  # interleaved in memory, none overlaps another
    gemm(a, b, out)
    np.testing.assert_array_equal(out, np.full((4, 4), 4))
    with pytest.raises(ValueError, match="must not share memory with b"):
        gemm(np.ones((4, 4), np.float32), b, b)


CACHED = """
import numpy as np
from tinygrad_attn.kernels.gemm import blocks
from tinygrad_attn.kernels.gemm.product import gemm
a = np.ones((81, 81), np.float32)
gemm(a, a)
print(sum(blocks._multiply_single.stats.cache_hits.values()), sum(blocks._multiply_single.stats.cache_misses.values()))
"""


@pytest.mark.slow
@compiled_only
def test_a_second_process_finds_the_compiled_product_on_disk(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run():
        command = [sys.executable, "-c", CACHED]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    assert run() == ["0", "1"]
    assert run() == ["1", "0"]
