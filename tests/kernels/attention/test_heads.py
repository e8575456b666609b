"""Attention of projections, held bit by bit to that of their heads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.attention import tiled
from tinygrad_attn.kernels.attention.heads import (
    Heads,
    heads_of,
    projected_attention,
    projected_attention_backward,
    queries_keys_values,
)


@examples
@given(st.data())
def test_the_bits_are_those_of_the_heads(data):
    batch, queries, keys, shared, width = (data.draw(st.integers(1, n)) for n in (3, 9, 20, 2, 5))
    kind = Heads(shared * data.draw(st.sampled_from([1, 2])), 1, data.draw(st.booleans()))
    kind = kind._replace(groups=kind.heads // shared)
    crossed, causal = data.draw(st.booleans()), data.draw(st.booleans())
    keys = keys if crossed and not causal else queries
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    scale = data.draw(st.sampled_from([1.0, 1e-30, 1e15]))

    def drawn(length, heads):
        shape = (batch, length) if kind.batch_first else (length, batch)
        return (scale * rng.standard_normal((*shape, heads * width))).astype(dtype)

    projected = drawn(queries, kind.heads + (0 if crossed else 2 * kind.shared))
    memory = drawn(keys, 2 * kind.shared) if crossed else None
    mask = rng.random((batch, 1, 1, keys)) < 0.7 if data.draw(st.booleans()) else None
    bias = rng.standard_normal((queries, keys)).astype(dtype) if data.draw(st.booleans()) else None
    dropout = tiled.Dropout(data.draw(st.sampled_from([0.0, 0.4])), 7)

    with np.errstate(all="ignore"):
        found = projected_attention(projected, memory, (mask, bias), kind, causal, dropout)
        q, k, v = queries_keys_values(projected, memory, kind)
        z = np.empty((*projected.shape[:2], kind.heads * width), dtype)
        options = {"causal": causal, "scale": 1 / math.sqrt(width), "dropout": dropout}
        out = heads_of(z, kind.heads, kind.batch_first)
        scales = tiled.attention(q, k, v, out, mask, bias, **options)
        for ours, expected in zip(found, (z, *scales), strict=True):
            np.testing.assert_array_equal(ours, expected)

        g = rng.standard_normal(z.shape).astype(dtype)
        gradients = projected_attention_backward(g, (projected, memory), found, (mask, bias), kind, causal, dropout)
        expected = np.empty_like(projected), None if memory is None else np.empty_like(memory)
        parts = queries_keys_values(*expected, kind)
        of_heads = heads_of(g, kind.heads, kind.batch_first)
        tiled.attention_backward(of_heads, (q, k, v), (out, *scales), parts, mask, bias, **options)
    for ours, one in zip(gradients, expected, strict=True):
        assert (ours is None) == (one is None)
        if one is not None:
            np.testing.assert_array_equal(ours, one)


@pytest.mark.parametrize("shape", [(0, 3, 12), (2, 0, 12), (2, 3, 0)])
def test_nothing_to_attend_with_is_left_to_others(shape):
    assert (
        projected_attention(np.ones(shape), None, (None, None), Heads(2, 1, True), False, tiled.Dropout(0, 0)) is None
    )


def test_operands_that_do_not_lie_in_order_are_left_to_others():
    operands = np.ones((2, 12, 3)).transpose(0, 2, 1)
    kind, none = Heads(2, 1, True), tiled.Dropout(0, 0)
    assert projected_attention(operands, None, (None, None), kind, False, none) is None
