"""Words that several threads read and write."""

from __future__ import annotations

import numpy as np

from tinygrad_attn.kernels.runtime import atomics
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.jit import serial_kernel


@serial_kernel
def use_all(word: int):
    atomics.store(word, 5)
    before = atomics.add(word, 2)
    wrong = atomics.exchange_if(word, 5, 1)
    right = atomics.exchange_if(word, 7, -(1 << 40))
    atomics.pause()
    return before, wrong, right, atomics.load(word)


def test_each_reads_and_writes_the_word():
    words = np.array([11, 12, 13], np.int64)
    assert use_all(data_address(words) + 8) == (5, False, True, -(1 << 40))
    np.testing.assert_array_equal(words, [11, -(1 << 40), 13])
