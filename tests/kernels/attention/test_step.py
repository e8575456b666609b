"""The attention of one query per head: that of `attention`, whatever the layout and the mask."""

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.attention.step import single_query_attention
from tinygrad_attn.kernels.attention.tiled import attention

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}


def draw(seed, batch, heads, keys, width, value_width, dtype, room=0):
    """Parts of projections: heads side by side, with ``room`` of NaN behind the last key."""
    rng = np.random.default_rng(seed)

    def part(length, room, size):
        array = rng.standard_normal((batch, length + room, 2, heads, size)).astype(dtype)
        array[:, length:] = np.nan
        return array[:, :length, 1].transpose(0, 2, 1, 3)

    return part(1, 0, width), part(keys, room, width), part(keys, room, value_width)


def run(function, q, k, v, mask, bias=None):
    around = np.full((q.shape[0], 3, q.shape[1], v.shape[-1]), 7.0, q.dtype)
    out = around[:, 1:2].transpose(0, 2, 1, 3)
    tops, factors = function(q, k, v, out, mask, bias, scale=0.3)
    assert (around[:, ::2] == 7.0).all()
    return out, tops, factors


sizes = st.tuples(*[st.integers(1, n) for n in (3, 3, 40, 40, 40)])


@examples
@given(st.integers(0, 1000), sizes, st.sampled_from([np.float32, np.float64]), st.integers(0, 4), st.integers(0, 2))
def test_equals_the_attention_of_many(seed, size, dtype, kind, room):
    q, k, v = draw(seed, *size, dtype, room)
    batch, heads, keys = size[:3]
    shape = (None, (batch, 1, 1, keys), (1, keys), (batch, heads, 1, 1), ())[kind]
    mask = None if shape is None else np.asarray(np.random.default_rng(seed).random(shape) < 0.6)
    expected = run(attention, np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(v), mask)
    for ours, other in zip(run(single_query_attention, q, k, v, mask), expected, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, other, rtol=10 * TOLERANCE[dtype], atol=TOLERANCE[dtype])


@examples
@given(st.integers(0, 1000), sizes, st.sampled_from([np.float32, np.float64]), st.integers(1, 3), st.booleans())
def test_heads_share_keys_and_values_and_scores_have_a_bias(seed, size, dtype, group, by_head):
    batch, heads, keys, width, value_width = size
    q, _, _ = draw(seed, batch, heads * group, keys, width, value_width, dtype)
    _, k, v = draw(seed, *size, dtype)
    shape = (heads * group, 1, keys) if by_head else (batch, 1, 1, keys)
    bias = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    bias[bias > 1.0] = -np.inf
    expected = run(attention, q, k, v, None, bias)
    for ours, other in zip(run(single_query_attention, q, k, v, None, bias), expected, strict=True):
        np.testing.assert_allclose(ours, other, rtol=10 * TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_nothing_to_attend_to():
    q, k, v = draw(0, 2, 3, 4, 5, 6, np.float64)
    mask = np.array([True, False])[:, None, None, None]
    out, tops, factors = run(single_query_attention, q, k, v, mask)
    assert not out[1].any() and (tops[1] == -np.inf).all() and not factors[1].any()
    assert out[0].all()
    out, tops, factors = run(single_query_attention, q, k[:, :, :0], v[:, :, :0], None)
    assert not out.any() and (tops == -np.inf).all() and not factors.any()


@compiled_only
@pytest.mark.parametrize("masked", [False, True])
def test_the_same_bits_for_any_number_of_threads(masked):
    q, k, v = draw(1, 9, 4, 33, 32, 32, np.float32)
    mask = np.random.default_rng(0).random((9, 1, 1, 33)) < 0.7 if masked else None
    assert_same_bits(lambda: run(single_query_attention, q, k, v, mask))
