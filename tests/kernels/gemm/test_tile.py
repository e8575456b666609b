"""The micro-kernel and the packing, against their twins in NumPy."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.gemm import pack, tile
from tinygrad_attn.kernels.gemm.operands import Extent, Matrix
from tinygrad_attn.kernels.gemm.plan import CUTS, tile_shape
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.simd.registers import KINDS, registers

DTYPES = [np.float32, np.float64]


@serial_kernel
def multiply(dtype, extent, a, b, c, bias, accumulate):
    tile.multiply_tile(dtype, extent, a, b, c, bias, accumulate)


@serial_kernel
def activate(dtype, code, c, rows, columns):
    tile.activate_tile(dtype, code, c, rows, columns)


@serial_kernel
def pack_a(dtype, panel, source, items, depth):
    pack.pack_a(dtype, panel, source, items, depth)


@serial_kernel
def pack_b(dtype, panel, source, items, depth):
    pack.pack_b(dtype, panel, source, items, depth)


def matrix(array):
    return Matrix(array.ctypes.data, *array.strides)


def draw_tile(data, dtype):
    shape = tile_shape(np.dtype(dtype).itemsize)
    return data.draw(st.integers(1, shape.rows)), data.draw(st.integers(1, shape.columns)), data.draw(st.integers(1, 9))


@examples
@given(st.data(), st.sampled_from(DTYPES), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_a_tile_is_its_twins(data, dtype, biased, accumulate, seed):
    rows, columns, depth = draw_tile(data, dtype)
    lanes = tile_shape(np.dtype(dtype).itemsize).lanes
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, depth)).astype(dtype)
    b = rng.standard_normal((depth, -(-columns // lanes) * lanes)).astype(dtype)  # the micro-kernel reads whole vectors
    bias, c = rng.standard_normal(columns).astype(dtype), rng.standard_normal((rows, columns + 1)).astype(dtype)
    expected = c.copy()
    for function, target in ((multiply, c), (tile.multiply_tile_in_numpy, expected)):
        extent, at = Extent(rows, columns, depth), bias.ctypes.data if biased else 0
        function(dtype, extent, matrix(a), matrix(b), matrix(target), at, int(accumulate))
    bound = (depth + 3) * np.finfo(dtype).eps * (1 + abs(a) @ abs(b[:, :columns]) + abs(bias) + abs(expected[:, :-1]))
    assert (abs(c - expected)[:, :-1] <= bound).all()
    np.testing.assert_array_equal(c[:, -1], expected[:, -1])  # nothing beside the tile is written


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activated_tile_is_its_twins(dtype):
    shape = tile_shape(np.dtype(dtype).itemsize)
    for code in range(len(tile.ACTIVATIONS)):
        c = np.random.default_rng(0).standard_normal((shape.rows, shape.columns)).astype(dtype)
        c[0, :2] = np.nan, -0.0
        expected = c.copy()
        activate(dtype, code, matrix(c), shape.rows, shape.columns - 1)
        tile.activate_tile_in_numpy(dtype, code, matrix(expected), shape.rows, shape.columns - 1)
        np.testing.assert_array_equal(c, expected)


@examples
@given(
    st.data(),
    st.sampled_from(DTYPES),
    st.integers(1, 40),
    st.sampled_from(["items", "depth", "neither"]),
    st.booleans(),
)
def test_a_packed_panel_has_the_elements_of_its_source(data, dtype, depth, adjoining, of_a):
    shape = tile_shape(np.dtype(dtype).itemsize)
    width = shape.a_width if of_a else shape.columns
    items = data.draw(st.integers(1, shape.rows if of_a else shape.columns))
    values = np.random.default_rng(depth).standard_normal((items, depth, 2)).astype(dtype)
    source = values[..., 0]  # elements adjoin along neither axis
    if adjoining != "neither":
        source = np.asarray(source, order="F" if adjoining == "items" else "C")
    panel = np.full((depth, width), 7.0, dtype)
    (pack_a if of_a else pack_b)(dtype, panel.ctypes.data, matrix(source), items, depth)
    np.testing.assert_array_equal(panel[:, :items], source.T)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_tile_of_each_kind_fits_its_registers(kind):
    rows, vectors = CUTS[kind.kind][:2]
    assert rows * vectors + vectors + 1 <= kind.number
    assert rows * vectors >= 8  # hides the latency of a multiply-add


def test_this_machine_has_one_of_the_kinds():
    assert registers() in KINDS
    assert tile_shape(4).lanes == 2 * tile_shape(8).lanes == registers().bytes // 4


_PRODUCT = """
import numpy as np
from numba.core import event
from tinygrad_attn.kernels.gemm.product import gemm
compiled = []
class Listener(event.Listener):
    def on_start(self, event): compiled.append(event)
    def on_end(self, event): pass
event.register("numba:compile", Listener())
a, b = np.random.default_rng(0).standard_normal((2, 90, 90))
assert abs(gemm(a, b) - a @ b).max() < 1e-12
print(len(compiled))
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_code_that_is_read_from_disk_finds_the_tiles(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    counts = [
        int(subprocess.run([sys.executable, "-c", _PRODUCT], env=environment, check=True, capture_output=True).stdout)
        for _ in range(2)
    ]
    assert counts[0] > 0
    assert counts[1] == 0
