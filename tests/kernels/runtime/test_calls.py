"""Kernels called by address."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import NamedTuple

import numpy as np
import pytest
from bits import compiled_only

from tinygrad_attn.kernels.runtime.addresses import elements_at
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, launch, read_struct


@serial_kernel
def note(target, position, value):
    elements_at(np.empty(0, np.int64), target, 8)[position] = value


@serial_kernel
def square(target, value):
    elements_at(np.empty(0, np.int64), target, 1)[0] = value * value


@serial_kernel
def note_two(function, target, flag):
    call(function, target.ctypes.data, 1, 7)
    call(function, target.ctypes.data, 5, flag)


@serial_kernel
def call_once(function, target, value):
    call(function, target.ctypes.data, value)


class Position(NamedTuple):
    first: int
    step: int


@serial_kernel
def note_at(target, position: Position, value):
    elements_at(np.empty(0, np.int64), target, 8)[position.first + 2 * position.step] = value


@serial_kernel
def call_with_a_struct(function, target, first):
    call(function, target.ctypes.data, Position(first, 3), 9)


class Noting(NamedTuple):
    function: int
    target: Address


@serial_kernel
def note_share(arguments: int, first: int, last: int) -> None:
    s = read_struct(Noting, arguments)
    for position in range(first, last):
        call(s.function, s.target, position, -position - 1)


def test_a_kernel_reaches_another_with_its_integers():
    target = np.zeros(8, np.int64)
    note_two(address_of(note), target, True)
    np.testing.assert_array_equal(target, [0, 7, 0, 0, 0, 1, 0, 0])


def test_integers_come_in_structs_too():
    target = np.zeros(8, np.int64)
    call_with_a_struct(address_of(note_at), target, 1)
    np.testing.assert_array_equal(target, [0, 0, 0, 0, 0, 0, 0, 9])


def test_the_address_decides_what_is_called():
    target = np.zeros(1, np.int64)
    call_once(address_of(square), target, -5)
    assert target[0] == 25
    assert address_of(square) != address_of(note)


def test_from_every_thread_of_the_pool():
    target = np.zeros(8, np.int64)
    launch(address_of(note_share), Struct(Noting(address_of(note), target)), 8, 8)
    np.testing.assert_array_equal(target, -np.arange(1, 9))


@compiled_only
def test_what_only_kernels_call_by_name_has_no_address():
    with pytest.raises(TypeError, match="twice has no address; make it a serial_kernel"):
        address_of(twice)


@called_kernel
def twice(value: int, target: int) -> None:
    elements_at(np.empty(0, np.int64), target, 1)[0] = 2 * value


def test_several_python_threads_get_one_address():
    @serial_kernel
    def nothing(value):
        pass

    found, barrier = [], threading.Barrier(4)

    def ask():
        barrier.wait()
        found.append(address_of(nothing))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and set(found) == {address_of(nothing)}


CACHED = """
import numpy as np
from tinygrad_attn.kernels.runtime.addresses import elements_at
from tinygrad_attn.kernels.runtime.calls import address_of, call
from tinygrad_attn.kernels.runtime.jit import called_kernel, serial_kernel

@serial_kernel
def write(target, value):
    elements_at(np.empty(0, np.int64), target, 1)[0] = value

@serial_kernel
def caller(function, target, value):
    call(function, target.ctypes.data, value)

if __name__ == "__main__":
    target = np.zeros(1, np.int64)
    caller(address_of(write), target, 42)
    assert target[0] == 42
    print(sum(caller.stats.cache_hits.values()), sum(write.stats.cache_hits.values()))
"""


@compiled_only
@pytest.mark.slow
def test_what_is_cached_on_disk_holds_no_address(tmp_path):
    script = tmp_path / "cached.py"
    script.write_text(CACHED)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run():
        command = [sys.executable, str(script)]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    assert run() == ["0", "0"]
    assert run() == ["1", "1"]
