"""Products with matrices that are packed once: the same, and from what the matrices hold at the time."""

import contextlib
import threading

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.gemm import packed
from tinygrad_attn.kernels.gemm.cache import Kept, is_kept, keeping
from tinygrad_attn.kernels.gemm.product import gemm

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


@contextlib.contextmanager
def keep_packed(arrays):
    keeping.kept = Kept(arrays)
    try:
        yield
    finally:
        keeping.kept = None


@pytest.fixture
def packings(monkeypatch):
    """The matrices that were packed, in their order."""
    found, pack = [], packed._pack
    monkeypatch.setattr(packed, "_pack", lambda matrix: found.append(matrix) or pack(matrix))
    return found


@examples
@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 20),
    st.integers(1, 70),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.sampled_from([None, "relu"]),
)
def test_equals_numpy(seed, leading, depth, columns, dtype, biased, activation):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((*leading, 2 * depth)).astype(dtype)[..., ::2]
    weight = rng.standard_normal((columns + 2, depth)).astype(dtype)
    bias = rng.standard_normal(columns).astype(dtype) if biased else None
    expected = a.astype(np.float64) @ weight[1:-1].T.astype(np.float64) + (bias if biased else 0.0)
    expected = np.maximum(expected, 0.0) if activation else expected
    with keep_packed([weight]):
        for _ in range(2):
            found = gemm(a, weight[1:-1].T, bias=bias, activation=activation)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])


def test_each_matrix_is_packed_once(packings):
    rng = np.random.default_rng(0)
    weight, other = rng.standard_normal((9, 4)), rng.standard_normal((9, 4))
    a = rng.standard_normal((3, 4))
    with keep_packed([weight]):
        assert is_kept(weight) and is_kept(weight[2:].T) and not is_kept(other)
        for _ in range(3):
            whole, part, elsewhere = (gemm(a, b.T) for b in (weight, weight[2:], other))
            np.testing.assert_array_equal(part, whole[:, 2:])
            np.testing.assert_allclose(elsewhere, a @ other.T, rtol=1e-12)
    assert [matrix.shape for matrix in packings] == [(4, 9), (4, 7)]


def test_it_ends_with_the_block(packings):
    weight, a = np.ones((5, 4)), np.ones((2, 4))
    with keep_packed([weight]):
        assert is_kept(weight)
        gemm(a, weight.T)
    assert not is_kept(weight)
    weight += 1.0
    np.testing.assert_array_equal(gemm(a, weight.T), np.full((2, 5), 8.0))
    with keep_packed([weight]):
        np.testing.assert_array_equal(gemm(a, weight.T), np.full((2, 5), 8.0))
    assert len(packings) == 2


def test_it_holds_for_its_own_thread():
    weight, found = np.ones((5, 4)), []
    with keep_packed([weight]):
        other = threading.Thread(target=lambda: found.append(is_kept(weight)))
        other.start()
        other.join()
    assert found == [False]


@pytest.mark.parametrize(
    ("a", "options", "error"),
    [
        (np.ones((2, 3)), {}, ValueError),
        (np.ones((2, 4), np.float32), {}, TypeError),
        (np.ones((2, 4)), {"bias": np.ones(4)}, ValueError),
        (np.ones((2, 4)), {"activation": "tanh"}, ValueError),
    ],
)
def test_what_does_not_fit_is_refused_as_ever(a, options, error):
    weight = np.ones((5, 4))
    with keep_packed([weight]), pytest.raises(error, match="gemm: "):
        gemm(a, weight.T, **options)


@compiled_only
@pytest.mark.parametrize("rows", [1, 3, 40, 256])
def test_the_same_bits_for_any_number_of_threads_and_beside_any_rows(rows):
    rng = np.random.default_rng(rows)
    weight, a = rng.standard_normal((300, 257)).astype(np.float32), rng.standard_normal((rows, 257)).astype(np.float32)
    with keep_packed([weight]):
        assert_same_bits(lambda: [gemm(a, weight.T, activation="relu")])
        whole, last = gemm(a, weight.T), gemm(a[-1:], weight.T)
    np.testing.assert_array_equal(whole[-1:], last)


def test_packed_copies_of_what_is_kept_lie_in_few_large_blocks():
    matrices = [np.random.default_rng(i).standard_normal((20, 40 + i)).astype(np.float32) for i in range(9)]
    large = np.ones((3000, 1500), np.float32)
    with keep_packed([*matrices, large]):
        panels = [packed.pack(matrix).panels for matrix in (*matrices, large, *matrices[:1])]
    owners = {id(array.base) for array in panels[:9]}
    assert len(owners) == 1 and id(panels[9].base) not in owners
    assert all(array.ctypes.data % 64 == 0 for array in panels[:9])
    for matrix, array in zip((*matrices, large), panels, strict=False):
        rows = array.transpose(1, 0, 2).reshape(len(matrix), -1)
        np.testing.assert_array_equal(rows[:, : matrix.shape[1]], matrix)  # the rest is padding
