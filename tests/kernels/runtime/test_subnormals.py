"""The setting that counts subnormal numbers as zero."""

from __future__ import annotations

import platform
from typing import NamedTuple

import numpy as np
import pytest
from bits import compiled_only

from tinygrad_attn.kernels.attention.tiled import attention, attention_backward
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.subnormals import flush_subnormals, restore_subnormals

known_machine = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64", "ARM64"),
    reason="this processor's setting is not known",
)
DTYPES = [np.float32, np.float64]


@serial_kernel
def multiply(x, y, out):
    for i in range(len(x)):
        out[i] = x[i] * y[i]


@serial_kernel
def multiply_flushed(x, y, out):
    state = flush_subnormals()
    multiply(x, y, out)
    restore_subnormals(state)


@serial_kernel
def multiply_after_the_inner_of_two(x, y, out):
    outer = flush_subnormals()
    inner = flush_subnormals()
    restore_subnormals(inner)
    multiply(x, y, out)
    restore_subnormals(outer)


class Rows(NamedTuple):
    x: Address
    y: Address
    flushed: Address
    plain: Address
    size: int


@serial_kernel
def multiply_share(arguments: int, first: int, last: int) -> None:
    s = read_struct(Rows, arguments)
    for row in range(first, last):
        x, y = row_at(np.float32, s.x, row, s.size), row_at(np.float32, s.y, row, s.size)
        multiply_flushed(x, y, row_at(np.float32, s.flushed, row, s.size))
        multiply(x, y, row_at(np.float32, s.plain, row, s.size))


def multiply_rows(x, y, flushed, plain):
    launch(address_of(multiply_share), Struct(Rows(x, y, flushed, plain, x.shape[1])), len(x), len(x))


def operands(dtype):
    """Factors, and their products when subnormal ones count as zero: some are a result, some a factor."""
    tiny = np.finfo(dtype).tiny
    x = np.array([tiny, -tiny, tiny / 2, -tiny / 2, tiny, -3.0], dtype)
    y = np.array([0.5, 0.5, 8.0, 8.0, 1.0, tiny], dtype)
    return x, y, np.array([0.0, 0.0, 0.0, 0.0, tiny, -3 * tiny], dtype)


@compiled_only
@known_machine
@pytest.mark.parametrize("kernel", [multiply_flushed, multiply_after_the_inner_of_two])
@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_results_and_operands_count_as_zero(dtype, kernel):
    x, y, flushed = operands(dtype)
    out = np.full(len(x), np.nan, dtype)
    kernel(x, y, out)
    np.testing.assert_array_equal(out, flushed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_afterwards_they_count_again(dtype):
    x, y, flushed = operands(dtype)
    out, again = np.full((2, len(x)), np.nan, dtype)
    multiply_flushed(x, y, out)
    multiply(x, y, again)
    np.testing.assert_array_equal(again, x * y)
    assert (again != 0.0).all() and (flushed == 0.0).any()


@compiled_only
@known_machine
def test_each_thread_of_the_pool_has_its_own():
    x, y, flushed = operands(np.float32)
    out = np.full((2, 64, len(x)), np.nan, np.float32)
    multiply_rows(np.tile(x, (64, 1)), np.tile(y, (64, 1)), *out)
    np.testing.assert_array_equal(out[0], np.tile(flushed, (64, 1)))
    np.testing.assert_array_equal(out[1], np.tile(x * y, (64, 1)))


@pytest.mark.parametrize("length", [2, pytest.param(80, marks=compiled_only)])  # on this thread, and on all of them
def test_attention_leaves_the_setting_as_it_was(length):
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.standard_normal((2, 4, length, 16)).astype(np.float32) for _ in range(4))
    out = np.empty_like(q)
    tops, factors = attention(q, k, v, out, scale=0.25)
    attention_backward(g, (q, k, v), (out, tops, factors), (q.copy(), k.copy(), v.copy()), scale=0.25)
    x, y, _ = operands(np.float32)
    after = np.full((64, len(x)), np.nan, np.float32)
    multiply_rows(np.tile(x, (64, 1)), np.tile(y, (64, 1)), np.empty_like(after), after)
    np.testing.assert_array_equal(after, np.tile(x * y, (64, 1)))
    assert (x * y != 0.0).all()
