"""Attention on tiles of bfloat16, on processors that have them."""

from __future__ import annotations

import numpy as np
import pytest
from attending import draw, reference, run
from bits import assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.attention import bfloat16, tiled
from tinygrad_attn.kernels.attention.tiled import Dropout
from tinygrad_attn.kernels.dropout import drop_in_numpy
from tinygrad_attn.kernels.gemm.tiles import tiles_are_there

pytestmark = pytest.mark.skipif(not tiles_are_there(), reason="the processor has no tiles of bfloat16")
lengths = st.sampled_from([1, 2, 31, 32, 33, 64, 100, 129, 257, 300])
widths = st.sampled_from([1, 16, 20, 32, 33, 64])


def _forget():
    tiled.prepare.cache_clear()
    tiled._prepared.cache_clear()


@pytest.fixture(autouse=True)
def tiles_for_every_size(monkeypatch):
    monkeypatch.setattr(bfloat16, "_LEAST", 1)
    monkeypatch.setattr(bfloat16, "_MOST_IN_VAIN", 1 << 20)
    _forget()
    yield
    _forget()


def assert_near(found, expected):
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=2e-5 * max(1.0, abs(exact).max()))


@examples
@given(st.integers(0, 1000), lengths, lengths, widths, widths, st.booleans(), st.integers(1, 2))
def test_any_sizes(seed, queries, keys, width, value_width, causal, group):
    q, _, _, g = draw(seed, 1, 2 * group, queries, keys, width, value_width, np.float32)
    _, k, v, _ = draw(seed + 1, 1, 2, queries, keys, width, value_width, np.float32)
    assert_near(run(q, k, v, g, None, causal), reference(q, k, v, g, None, causal))


@examples
@given(st.integers(0, 1000), lengths, lengths, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_masks_biases_and_dropout(seed, queries, keys, causal, masked, biased, dropped):
    q, k, v, g = draw(seed, 2, 2, queries, keys, 32, 32, np.float32)
    rng = np.random.default_rng(seed)
    mask = rng.random((2, 1, queries, keys)) < 0.6 if masked else None
    bias = rng.standard_normal((2, queries, keys), np.float32) if biased else None
    dropout = Dropout(0.3, 123456789 + seed) if dropped else None
    kept = drop_in_numpy(np.ones((2, 2, queries, keys)), *dropout) if dropout else 1.0
    expected = reference(q, k, v, g, mask, causal, kept, 0.0 if bias is None else bias)
    assert_near(run(q, k, v, g, mask, causal, dropout, bias), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_another_kernel_as_near_to_the_exact_sums(causal, monkeypatch):
    q, k, v, g = draw(0, 1, 2, 300, 520, 64, 64, np.float32)
    exact = reference(q, k, v, g, None, causal)
    on_tiles = run(q, k, v, g, None, causal)
    monkeypatch.setattr(bfloat16, "tiles_are_there", lambda: False)
    _forget()
    for ours, ordinary, right in zip(on_tiles, run(q, k, v, g, None, causal), exact, strict=True):
        assert not np.array_equal(ours, ordinary)
        assert abs(ours - right).mean() < 1.1 * abs(ordinary - right).mean()


@pytest.mark.parametrize("causal", [False, True])
def test_scores_that_grow_from_block_to_block_of_keys(causal):
    q, k, v, g = draw(3, 1, 2, 300, 600, 32, 32, np.float32)
    k = k * np.linspace(0.1, 20, 600, dtype=np.float32)[:, None]
    mask = np.random.default_rng(1).random((1, 2, 300, 600)) < 0.3
    mask[:, :, 40:80, :590], mask[:, :, 290:], mask[:, :, ::7, 5:] = False, False, False
    for seen in (None, mask):
        for ours, exact in zip(run(q, k, v, g, seen, causal), reference(q, k, v, g, seen, causal), strict=True):
            np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=2e-5 * abs(exact).max())


@pytest.mark.parametrize("operand", range(4))
@pytest.mark.parametrize("value", [1e-33, 1e19, np.inf, np.nan])
def test_what_does_not_fit_tiles_goes_to_the_ordinary_kernel(operand, value, monkeypatch):
    """One head; the others are as without it."""
    operands = draw(5, 1, 3, 70, 90, 32, 32, np.float32)
    before = run(*operands, None, False)
    operands = [x.copy() for x in operands]
    operands[operand][0, 1, 3, 4] = value
    with np.errstate(all="ignore"):
        found = run(*operands, None, False)
    monkeypatch.setattr(bfloat16, "tiles_are_there", lambda: False)
    _forget()
    with np.errstate(all="ignore"):
        ordinary = run(*operands, None, False)
    for number, (ours, other, old) in enumerate(zip(found, ordinary, before, strict=True)):
        np.testing.assert_array_equal(ours[:, [0, 2]], old[:, [0, 2]])
        if number or operand != 3:  # the output does not depend on its gradient
            largest = abs(other[:, 1][np.isfinite(other[:, 1])]).max(initial=1.0)
            np.testing.assert_allclose(ours[:, 1], other[:, 1], rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("causal", [False, True])
def test_same_bits_for_any_number_of_threads(causal):
    q, k, v, g = draw(0, 2, 3, 200, 170, 32, 64, np.float32)
    q[0, 1, 150] = 1e-35
    assert_same_bits(lambda: run(q, k, v, g, None, causal, Dropout(0.1, 77)))


def test_nothing_beside_the_results_is_written():
    q, k, v, g = draw(0, 1, 2, 70, 75, 32, 32, np.float32)
    around = [np.full((1, 2, x.shape[2] + 2, x.shape[3] + 2), 7.0, np.float32) for x in (q, k, v, g)]
    inside = [x[:, :, 1:-1, 1:-1] for x in around]
    out, gradients = inside[3], tuple(inside[:3])
    tops, factors = tiled.attention(q, k, v, out, causal=False, scale=0.3)
    tiled.attention_backward(g, (q, k, v), (out, tops, factors), gradients, causal=False, scale=0.3)
    assert_near((out, *gradients), reference(q, k, v, g, None, False))
    for x in inside:
        x[...] = 7.0
    assert all((x == 7.0).all() for x in around)
