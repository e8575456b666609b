from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only
from threads import in_threads

from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.prepared import Job, Prepared
from tinygrad_attn.kernels.runtime.structs import Address, read_struct, row_at


class _Scaling(NamedTuple):
    x: Address
    y: Address
    size: int
    factor: float
    offset: int = 1


@serial_kernel
def _scale(arguments: int, first: int, last: int) -> None:
    s = read_struct(_Scaling, arguments)
    x, y = row_at(np.float64, s.x, 0, s.size), row_at(np.float64, s.y, 0, s.size)
    for i in range(first, last):
        y[i] = x[i] * s.factor + s.offset


def _job(size: int, factor: float, shares: int, **more: int) -> Job:
    return Job(address_of(_scale), _Scaling, {"size": size, "factor": factor, **more}, size, shares)


@pytest.mark.parametrize("shares", [1, 3, 7])
@pytest.mark.parametrize("alone", [False, True])
def test_one_job_many_times(shares, alone):
    prepared = Prepared(_job(7, 2.0, shares), alone=alone)
    for seed in range(3):
        x, y = np.arange(7.0) + seed, np.empty(7)
        prepared.launch((data_address(x), data_address(y)))
        assert (y == 2.0 * x + 1).all()


@pytest.mark.parametrize("alone", [False, True])
def test_several_jobs_of_different_sizes_in_one_launch(alone):
    prepared = Prepared(_job(5, 2.0, 2), _job(1, 3.0, 1, offset=4), _job(100, -1.0, 9), alone=alone)
    x, ys = np.arange(100.0), [np.empty(5), np.empty(1), np.empty(100)]
    prepared.launch(*[(data_address(x), data_address(y)) for y in ys])
    assert (ys[0] == 2.0 * x[:5] + 1).all() and ys[1] == 4.0 and (ys[2] == 1 - x).all()


@compiled_only
def test_same_bits_for_any_number_of_threads():
    prepared = Prepared(_job(50, 0.1, 4), _job(50, 0.3, 4))
    x = np.random.default_rng(0).standard_normal(50)

    def both() -> np.ndarray:
        y = np.empty((2, 50))
        prepared.launch((data_address(x), data_address(y[0])), (data_address(x), data_address(y[1])))
        return y

    assert_same_bits(both)


def test_python_threads_may_launch_at_once():
    prepared, wrong = Prepared(_job(50, 2.0, 4)), []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal(50)
        for _ in range(20):
            y = np.empty(50)
            prepared.launch((data_address(x), data_address(y)))
            if not (y == 2.0 * x + 1).all():
                wrong.append(seed)

    in_threads(work, range(4))
    assert not wrong


@pytest.mark.parametrize("firsts", [(), ((1,),), ((1, 2, 3),), ((1, 2), (1, 2))])
def test_the_wrong_number_of_addresses_is_refused(firsts):
    with pytest.raises((ValueError, struct.error)):
        Prepared(_job(50, 2.0, 4)).launch(*firsts)
