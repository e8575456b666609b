"""Philox4x32-10, held to published values, and the masks that kernels make of it, held to NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.philox import kept, kept_in_numpy, philox_in_numpy, threshold_of, write_kept
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.simd import vectors as simd

# From Random123 (Salmon et al.), tests/kat_vectors, "philox4x32 10": counter, key, block.
ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "block"), ANSWERS)
def test_published_answers(counter, key, block):
    np.testing.assert_array_equal(philox_in_numpy(words(counter), (*map(int, words(key)),)), words(block))
    both = np.stack([words(counter), words(counter)])
    np.testing.assert_array_equal(philox_in_numpy(both, (*map(int, words(key)),))[1], words(block))


@serial_kernel
def _select(x, z, first, key, threshold):
    low, high = kept(x, first, key, threshold)
    simd.store(z, 0, simd.select(low, simd.load(x, 0), 0.0))
    simd.store(z, simd.lanes(x), simd.select(high, simd.load(x, simd.lanes(x)), 0.0))


def masks(dtype: type, first: int, key: int, threshold: int) -> np.ndarray:
    x = np.ones(128 // np.dtype(dtype).itemsize, dtype)
    z = np.empty_like(x)
    _select(x, z, np.int64(first), np.int64(key), np.int64(threshold))
    return z != 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("first", "key"), [(0, 0), (4, 1), (2**34 - 12, 0x299F31D0A4093822), (2**40 + 4, 2**63 - 1)])
def test_the_words_of_the_kernel(dtype, first, key):
    """Every word lies between the largest threshold that keeps its element and the next."""
    count = 128 // np.dtype(dtype).itemsize
    counter = np.zeros((count // 4, 4), np.uint32)
    blocks = np.arange(first // 4, first // 4 + count // 4, dtype=np.uint64)
    counter[:, 0], counter[:, 1] = blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32)
    expected = philox_in_numpy(counter, (key & 0xFFFFFFFF, key >> 32)).reshape(-1)
    for element, word in enumerate(expected.tolist()):
        assert masks(dtype, first, key, word)[element]
        assert not masks(dtype, first, key, word + 1)[element]


@examples
@given(
    first=st.one_of(st.integers(0, 200), st.integers(2**33, 2**45)),
    count=st.integers(0, 150),
    start=st.integers(0, 9),
    key=st.integers(0, 2**63 - 1),
    p=st.floats(0.0, 0.99),
)
def test_any_elements_are_written_and_no_others(first, count, start, key, p):
    before = np.arange(start + count + 5) % 3 == 0
    out = before.copy()
    write_kept(out, start, first, count, key, threshold_of(p))
    np.testing.assert_array_equal(out[start : start + count], kept_in_numpy(first, count, key, threshold_of(p)))
    out[start : start + count] = before[start : start + count]
    np.testing.assert_array_equal(out, before)


def test_how_many_are_dropped():
    """Within five standard deviations, for each p and for each word of a block; keys and neighbours are unrelated."""
    count = 1 << 18
    for p in (0.0, 0.001, 0.1, 0.5, 0.999):
        kept_ = kept_in_numpy(0, count, 12345, threshold_of(p))
        bound = 5 * np.sqrt(p * (1 - p) / (count / 4)) + 1e-12
        assert np.all(np.abs(1 - kept_.reshape(-1, 4).mean(0) - p) <= bound)
    half = [2.0 * kept_in_numpy(0, count, key, threshold_of(0.5)) - 1 for key in (0, 1, 2**32)]
    for lag in (1, 2, 4, 32, 64):
        assert abs(np.mean(half[0][lag:] * half[0][:-lag])) <= 5 / np.sqrt(count - lag)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.mean(half[one] * half[other])) <= 5 / np.sqrt(count)


@pytest.mark.parametrize(("p", "threshold"), [(0.0, 0), (0.5, 2**31), (0.1, 429496730), (1 - 2**-40, 2**32 - 1)])
def test_thresholds(p, threshold):
    assert threshold_of(p) == threshold
