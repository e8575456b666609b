"""Arguments of kernels as structs in memory, and the launcher."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct, row_at


class Inner(NamedTuple):
    shift: float


class Scaling(NamedTuple):
    x: Address
    width: int
    factor: float
    inner: Address
    nothing: Address = None


@serial_kernel
def scale(scaling: int, first: int, last: int) -> None:
    """x = factor * x + shift, for some rows."""
    s = read_struct(Scaling, scaling)
    for row in range(first, last):
        x = row_at(np.float32, s.x, row, s.width)
        for i in range(x.size):
            x[i] = s.factor * x[i] + read_struct(Inner, s.inner).shift + s.nothing


@pytest.mark.parametrize("shares", [1, 2, 5])
def test_a_kernel_reads_the_fields_and_writes_the_rows(shares):
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    expected = -0.5 * x + 0.25
    struct = Struct(Scaling(x, 3, -0.5, Struct(Inner(0.25))))
    launch(address_of(scale), struct, items=5, shares=shares)
    np.testing.assert_array_equal(x, expected)


def test_a_struct_becomes_another_at_the_same_address():
    first, second = np.ones(6, np.float32), np.ones(6, np.float32)
    struct = Struct(Scaling(first, 3, 2.0, Struct(Inner(0.0))))
    address = struct.address
    struct.become(Scaling(second, 3, 4.0, Struct(Inner(1.0))))
    launch(address_of(scale), struct, items=2, shares=1)
    assert struct.address == address and first.tolist() == [1.0] * 6 and second.tolist() == [5.0] * 6


def test_what_is_read_only_or_not_contiguous_is_copied_and_kept():
    @serial_kernel
    def total(sums: int, first: int, last: int) -> None:
        s = read_struct(Sums, sums)
        row_at(np.float64, s.sum, 0, 1)[0] = row_at(np.float64, s.x, 0, 6).sum()

    found = np.zeros(1)
    struct = Struct(Sums(np.broadcast_to(np.array([1.0, 2.0]), (3, 2)), found))
    launch(address_of(total), struct, items=1, shares=1)
    assert found[0] == 9.0


class Sums(NamedTuple):
    x: Address
    sum: Address


def test_no_rows():
    launch(address_of(scale), Struct(Scaling(np.empty((0, 3), np.float32), 3, 1.0, Struct(Inner(0.0)))), 0, 1)
