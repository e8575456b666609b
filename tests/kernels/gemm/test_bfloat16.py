"""Products by parts of bfloat16, on processors with tiles for them."""

from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.gemm import product as gemm_module
from tinygrad_attn.kernels.gemm import shares
from tinygrad_attn.kernels.gemm.bfloat16 import multiply_in_numpy
from tinygrad_attn.kernels.gemm.parts import split_in_numpy
from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.kernels.gemm.tiles import tiles_are_there
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import registers

with_tiles = pytest.mark.skipif(not tiles_are_there(), reason="the processor has no tiles of bfloat16")


@pytest.fixture(autouse=True)
def parts_for_every_size(monkeypatch):
    """Every product whose rows or columns adjoin goes by parts."""
    monkeypatch.setattr(gemm_module, "_NUMPY_WORK", 0)
    monkeypatch.setattr(gemm_module, "_SERIAL_WORK", 0)
    monkeypatch.setattr(shares, "_PARTS_WORK", 0)
    monkeypatch.setattr(shares, "_PARTS_DEPTH", 0)
    monkeypatch.setattr(shares, "_MOST_IN_VAIN", 1 << 20)
    shares._prepared.cache_clear()
    yield
    shares._prepared.cache_clear()


def errors(result, a, b):
    """Of each element, in units of the last place of a sum of the sizes of its terms."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return abs(result - a @ b) / (abs(a) @ abs(b)) / np.finfo(np.float32).eps


@examples
@given(st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=20))
def test_three_parts_are_the_number(values):
    x = np.array(values, np.float32)
    x = np.where(abs(x) < 2.0**-100, np.float32(0.0), x)
    parts = split_in_numpy(x)
    np.testing.assert_array_equal(sum(part.astype(np.float64) for part in parts), x.astype(np.float64))
    for part in parts:
        assert not (part.view(np.uint32) & 0xFFFF).any()  # the upper half is all of it


def test_the_twin_in_numpy_is_as_exact_as_float32():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 300), np.float32), rng.standard_normal((300, 30), np.float32)
    assert errors(multiply_in_numpy(a, b), a, b).max() < 4


def test_tiles_are_those_that_numba_compiles_for(monkeypatch):
    cpu, _, triple = registers.target()
    monkeypatch.setattr(registers, "target", lambda: (cpu, "+amx-tile,-amx-bf16", triple))
    assert not registers.has_tiles.__wrapped__()
    monkeypatch.setattr(registers, "target", lambda: (cpu, "+amx-tile,+amx-bf16", triple))
    assert registers.has_tiles.__wrapped__() == (registers.registers().kind == "AVX-512")


@with_tiles
@examples
@given(st.data())
def test_any_shapes_and_layouts(data):
    rows, depth, columns = (data.draw(st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 64, 70])) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))

    def matrix(rows, columns):
        order = data.draw(st.sampled_from("CF"))
        wide = rng.standard_normal((rows + 2, columns + 3), np.float32).copy(order)
        return wide[1:-1, 2:-1]

    a, b = matrix(rows, depth), matrix(depth, columns)
    bias = rng.standard_normal(columns, np.float32) if data.draw(st.booleans()) else None
    out = rng.standard_normal((rows + 2, columns + 2), np.float32)
    accumulate, before = data.draw(st.booleans()), out.copy()
    gemm(a, b, out[1:-1, 1:-1], bias=bias, activation="relu", accumulate=accumulate)
    expected = a.astype(np.float64) @ b + (0 if bias is None else bias) + (before[1:-1, 1:-1] if accumulate else 0)
    np.testing.assert_allclose(out[1:-1, 1:-1], np.maximum(expected, 0), atol=3e-5, rtol=1e-5)
    before[1:-1, 1:-1] = out[1:-1, 1:-1]
    np.testing.assert_array_equal(out, before, "wrote outside of out")


@with_tiles
@pytest.mark.parametrize("depth", [40, 256, 257, 1500])
def test_sums_are_nearer_to_the_exact_ones_than_those_of_float32(depth, monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((200, depth), np.float32), rng.standard_normal((depth, 150), np.float32)
    by_parts = errors(gemm(a, b), a, b)
    monkeypatch.setattr(shares, "tiles_are_there", lambda: False)
    shares._prepared.cache_clear()
    in_registers = errors(gemm(a, b), a, b)
    assert not np.array_equal(by_parts, in_registers)  # another kernel
    assert np.sqrt((by_parts**2).mean()) < np.sqrt((in_registers**2).mean())
    assert by_parts.max() < 1.5 * in_registers.max()


@with_tiles
@pytest.mark.skipif(get_num_threads() < 2, reason="needs two threads")
@pytest.mark.parametrize("shapes", [((333, 700), (700, 95)), ((40, 300), (300, 900)), ((7, 33, 600), (600, 50))])
def test_same_bits_for_any_number_of_threads(shapes):
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(shape, np.float32) for shape in shapes)
    a[..., 5, 7] = np.inf
    with np.errstate(all="ignore"):
        assert_same_bits(lambda: gemm(a, b))


@with_tiles
@pytest.mark.skipif(get_num_threads() < 2, reason="needs two threads")
def test_which_elements_are_exchanged_does_not_depend_on_the_number_of_threads():
    """Threads begin panels at other rows: what a panel holds besides must not decide on an element."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((333, 200), np.float32), rng.standard_normal((200, 150), np.float32)
    a[::7, 3], a[5], a[::40] = 1e-35, a[5] * np.float32(1e-25), a[::40] * np.float32(1e-30)
    a[::3, 100:], b[100:] = -a[::3, :100], b[:100]  # sums that are zero, or as small as their rounding
    a[::11] = 0.0
    b[:, 9] *= np.float32(1e-28)
    assert_same_bits(lambda: gemm(a, b))


@with_tiles
def test_what_is_not_finite_or_nearly_subnormal_arrives():
    a, b = np.ones((70, 70), np.float32), np.ones((70, 70), np.float32)
    a[0, 0], a[1, 1], a[2] = np.nan, np.inf, 3.3e38  # nearer to infinity than the largest bfloat16
    a[3], a[4] = 1.2345678e-36, 0.0
    b[:, 3] = np.finfo(np.float32).max
    with np.errstate(all="ignore"):
        result, expected = gemm(a, b), a @ b
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert result[1, 0] == np.inf and (result[4] == 0.0).all()
    np.testing.assert_allclose(result[3, 0], 70 * 1.2345678e-36, rtol=1e-5)


@with_tiles
@examples
@given(st.data())
def test_any_scales_are_as_exact_as_float32(data):
    """One scale a matrix, one tiny row, one tiny element; both sides anywhere that float32 has numbers."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    rows, depth, columns = data.draw(st.sampled_from([(40, 70, 33), (64, 400, 70)]))
    sides = []
    for shape in ((rows, depth), (depth, columns)):
        x = rng.standard_normal(shape) * 10.0 ** data.draw(st.integers(-40, 35))
        if data.draw(st.booleans()):
            x[3] *= 1e-20
        if data.draw(st.booleans()):
            x[5, 7] = 3e-38
        sides.append(x.astype(np.float32).copy(data.draw(st.sampled_from("CF"))))
    a, b = sides
    expected, sizes = a.astype(np.float64) @ b, abs(a.astype(np.float64)) @ abs(b.astype(np.float64))
    with np.errstate(all="ignore"):
        result = gemm(a, b)
    fits = sizes < 1e38
    bound = depth * np.finfo(np.float32).eps * sizes + depth * 2.0**-149
    assert (abs(result - expected)[fits] <= bound[fits]).all()


@with_tiles
def test_numbers_next_to_infinity():
    a, b = np.zeros((40, 70), np.float32), np.zeros((70, 40), np.float32)
    a[0, 0], b[0, 0], b[0, 1] = np.finfo(np.float32).max, 0.5, 1.0
    result = gemm(a, b)
    assert result[0, 0] == a[0, 0] / 2 and result[0, 1] == a[0, 0] and (result[1:] == 0).all()
