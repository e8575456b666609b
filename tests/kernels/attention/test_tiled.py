"""The attention kernel against its formulas in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from attending import SCALE, draw, reference, run
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.attention.tiled import Dropout, attention, attention_backward
from tinygrad_attn.kernels.dropout import drop_in_numpy

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}

sizes = st.tuples(*[st.integers(1, n) for n in (2, 3, 9, 20, 5, 5)])


@examples
@given(st.integers(0, 1000), sizes, st.sampled_from(DTYPES), st.booleans(), st.integers(0, 4))
def test_equals_its_formulas(seed, size, dtype, causal, kind):
    q, k, v, g = draw(seed, *size, dtype)
    batch, heads, queries, keys = size[:4]
    shape = (None, (batch, 1, 1, keys), (queries, keys), (batch, heads, queries, 1), ())[kind]
    mask = None if shape is None else np.random.default_rng(seed).random(shape) < 0.6
    mask = mask if mask is None else np.asarray(mask)
    for ours, expected in zip(run(q, k, v, g, mask, causal), reference(q, k, v, g, mask, causal), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@examples
@given(st.integers(0, 1000), sizes, st.sampled_from(DTYPES), st.booleans(), st.booleans())
def test_drops_the_weights_that_dropout_of_all_of_them_would(seed, size, dtype, causal, masked):
    q, k, v, g = draw(seed, *size, dtype)
    mask = np.random.default_rng(seed).random(size[2:4]) < 0.8 if masked else None
    dropout = Dropout(0.3, 12345678901234567 + seed)
    kept = drop_in_numpy(np.ones(size[:4]), *dropout)
    found, expected = run(q, k, v, g, mask, causal, dropout), reference(q, k, v, g, mask, causal, kept)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@examples
@given(
    st.integers(0, 1000), sizes, st.sampled_from(DTYPES), st.booleans(), st.integers(1, 3), st.integers(0, 4),
    st.booleans(),
)  # fmt: skip
def test_heads_share_keys_and_values_and_scores_have_a_bias(seed, size, dtype, causal, group, kind, masked):
    batch, heads, queries, keys = size[:4]
    q, k, v, g = draw(seed, *size, dtype)
    q, g = (np.repeat(x, group, axis=1) + dtype(0.1) for x in (q, g))
    q, g = (x * np.linspace(0.5, 1.0, x.shape[1], dtype=dtype)[:, None, None] for x in (q, g))
    rng = np.random.default_rng(seed)
    shape = ((), (heads * group, queries, keys), (batch, 1, 1, keys), (1, heads * group, 1, keys), (queries, keys))[
        kind
    ]
    bias = np.asarray(rng.standard_normal(shape)).astype(dtype)
    bias[rng.random(shape) < 0.2] = -np.inf
    mask = rng.random((queries, keys)) < 0.8 if masked else None
    found = run(q, k, v, g, mask, causal, bias=bias)
    for ours, expected in zip(found, reference(q, k, v, g, mask, causal, bias=bias), strict=True):
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])


@compiled_only
@pytest.mark.parametrize("causal", [False, True])
def test_shared_keys_and_a_bias_in_many_blocks_with_the_same_bits_for_any_number_of_threads(causal):
    q, _, _, g = draw(0, 2, 6, 150, 290, 16, 32, np.float32)
    _, k, v, _ = draw(1, 2, 2, 150, 290, 16, 32, np.float32)
    bias = np.random.default_rng(0).standard_normal((6, 150, 290)).astype(np.float32)
    found, expected = run(q, k, v, g, None, causal, bias=bias), reference(q, k, v, g, None, causal, bias=bias)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=4e-4)
    assert_same_bits(lambda: run(q, k, v, g, None, causal, bias=bias))


@compiled_only
@pytest.mark.parametrize("causal", [False, True])
def test_drops_weights_in_many_blocks_with_the_same_bits_for_any_number_of_threads(causal):
    q, k, v, g = draw(0, 2, 2, 150, 290, 16, 32, np.float32)
    dropout = Dropout(0.1, 98765432109876543)
    kept = drop_in_numpy(np.ones((2, 2, 150, 290)), *dropout)
    found, expected = run(q, k, v, g, None, causal, dropout), reference(q, k, v, g, None, causal, kept)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=4e-4)
    assert_same_bits(lambda: run(q, k, v, g, None, causal, dropout))


def parts_of_a_projection(values, heads):
    """Queries, keys and values (B, H, L, d) where they lie in (B, L, 3 · H · d)."""
    batch, length, size = values.shape
    return tuple(values.reshape(batch, length, 3, heads, size // (3 * heads)).transpose(2, 0, 3, 1, 4))


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_heads_are_read_and_written_where_they_lie(dtype, causal):
    """Into part of a larger array, with the same bits as from copies, and nothing beside them is touched."""
    batch, heads, length, width = 2, 3, 61, 5
    rng = np.random.default_rng(0)
    q, k, v = parts_of_a_projection(rng.standard_normal((batch, length, 3 * heads * width)).astype(dtype), heads)
    g = rng.standard_normal((batch, heads, length, 2 * width)).astype(dtype)[..., ::2]  # its last axis does not adjoin
    mask = (rng.random((length, batch)) < 0.7).T[:, None, None, :]
    copies = [np.ascontiguousarray(x) for x in (q, k, v, g, mask)]
    out_around = np.full((batch, length + 2, heads, width + 3), 7.0, dtype)
    out = out_around[:, 1:-1, :, 2:-1].transpose(0, 2, 1, 3)
    around = np.full((batch, length + 2, 3 * heads * width), 7.0, dtype)
    gradients = parts_of_a_projection(around[:, 1:-1], heads)
    assert all(np.shares_memory(gradient, around) for gradient in gradients)

    tops, factors = attention(q, k, v, out, mask, causal=causal, scale=SCALE)
    attention_backward(g, (q, k, v), (out, tops, factors), gradients, mask, causal=causal, scale=SCALE)
    for found, expected in zip((out, *gradients), run(*copies, causal), strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip((out, *gradients), reference(q, k, v, g, mask, causal), strict=True):
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])
    out[...] = 7.0
    for gradient in gradients:
        gradient[...] = 7.0
    assert (out_around == 7.0).all() and (around == 7.0).all()


@compiled_only
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "size", [(1, 2, 130, 70, 20, 33), (2, 1, 70, 300, 64, 16), (1, 1, 57, 57, 32, 32), (1, 2, 270, 550, 64, 32)]
)
def test_more_queries_or_keys_than_a_block(size, causal):
    for dtype in DTYPES:
        q, k, v, g = draw(0, *size, dtype)
        for ours, expected in zip(run(q, k, v, g, None, causal), reference(q, k, v, g, None, causal), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])


@compiled_only
@pytest.mark.parametrize("causal", [False, True])
def test_same_bits_for_any_number_of_threads(causal):
    q, k, v, g = draw(0, 3, 3, 70, 65, 16, 16, np.float32)
    mask = np.random.default_rng(1).random((3, 1, 1, 65)) < 0.7
    assert_same_bits(lambda: run(q, k, v, g, mask, causal))


@compiled_only
@pytest.mark.parametrize("causal", [False, True])
def test_scores_that_grow_from_block_to_block_of_keys(causal):
    """Or that none but the last, or no query's, may attend to."""
    for dtype in DTYPES:
        q, k, v, g = draw(3, 1, 2, 300, 400, 8, 24, dtype)
        k = k * np.linspace(0.1, 20, 400, dtype=dtype)[:, None]
        mask = np.random.default_rng(1).random((1, 2, 300, 400)) < 0.3
        mask[:, :, 40:80, :390], mask[:, :, 290:], mask[:, :, ::7, 5:] = False, False, False
        for seen in (None, mask):
            for ours, exact in zip(run(q, k, v, g, seen, causal), reference(q, k, v, g, seen, causal), strict=True):
                np.testing.assert_allclose(ours, exact, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * abs(exact).max())


@compiled_only
def test_memory_grows_with_the_length_and_not_with_its_square():
    def peak(length):
        q, k, v, g = draw(0, 1, 2, length, length, 32, 32, np.float32)
        run(q, k, v, g, None, True)
        tracemalloc.start()
        run(q, k, v, g, None, True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    short, long = peak(512), peak(4096)
    assert long < 8 * short
    assert long < 2 * 4096 * 4096 * 4 / 8  # an eighth of one matrix of all weights


def test_what_is_masked_has_no_part_even_if_it_is_huge():
    q, k, v, g = draw(0, 1, 1, 3, 4, 2, 2, np.float32)
    mask = np.array([[True, True, False, False], [False] * 4, [True] * 4])
    expected = run(q[:, :, :2], k[:, :, :2], v[:, :, :2], g[:, :, :2], mask[:2, :2], False)
    k[:, :, 2:], v[:, :, 2:] = 3e38, 1e30
    found = run(q[:, :, :2], k, v, g[:, :, :2], mask[:2], False)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)
    assert (found[0][:, :, 1] == 0.0).all() and (found[1][:, :, 1] == 0.0).all()  # it attends to nothing
    assert (found[2][:, :, 2:] == 0.0).all() and (found[3][:, :, 2:] == 0.0).all()


def test_large_scores_do_not_overflow():
    q, k, v, g = draw(0, 1, 1, 2, 3, 4, 2, np.float32)
    found, expected = run(q * 1e3, k * 1e3, v, g, None, False), reference(q * 1e3, k * 1e3, v, g, None, False)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert all(np.isfinite(x).all() for x in found)


@pytest.mark.parametrize("size", [(0, 2, 3, 3, 2, 2), (1, 2, 0, 3, 2, 2), (1, 2, 3, 0, 2, 2), (1, 1, 2, 3, 2, 0)])
def test_empty(size):
    found = run(*draw(0, *size, np.float32), None, False)
    assert all((x == 0.0).all() for x in found)
