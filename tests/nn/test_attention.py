"""Scores, attention as score, softmax and weighted sum, and multi-head attention."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.nn.attention_masks import merge_padding_mask
from tinygrad_attn.nn.kv_cache import KVCache

B, T, S, D = 2, 3, 4, 3
MASK = np.array([[True, True, False, True], [False, True, True, False]])


def draw(*shape, seed=0):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return ta.Tensor(values, requires_grad=True)


# Each score, the size of its keys, and its formula for one query and one key at place j.
SCORES = {
    "dot": (nn.DotScore, D, lambda s, q, k, j: q @ k),
    "scaled dot": (nn.ScaledDotScore, D, lambda s, q, k, j: q @ k / np.sqrt(D)),
    "general": (
        lambda: nn.GeneralScore(D, 5, dtype=np.float64),
        5,
        lambda s, q, k, j: q @ s.key.weight.array @ k,
    ),
    "concat": (
        lambda: nn.ConcatScore(D, 5, 2, dtype=np.float64),
        5,
        lambda s, q, k, j: (
            s.energy.weight.array[0]
            @ np.tanh(np.hstack([s.query.weight.array, s.key.weight.array]) @ np.concatenate([q, k]))
        ),
    ),
    "location": (
        lambda: nn.LocationScore(D, 6, dtype=np.float64),
        5,
        lambda s, q, k, j: s.query.weight.array[j] @ q,
    ),
    "additive": (
        lambda: nn.AdditiveScore(D, 5, 2, dtype=np.float64),
        5,
        lambda s, q, k, j: (
            s.energy.weight.array[0] @ np.tanh(s.query.weight.array @ q + s.key.weight.array @ k + s.key.bias.array)
        ),
    ),
}
each_score = pytest.mark.parametrize("name", SCORES)


def make(name):
    ta.manual_seed(0)
    kind, key_size, formula = SCORES[name]
    return kind(), key_size, formula


@each_score
def test_scores_are_their_formulas(name):
    score, key_size, formula = make(name)
    query, keys = draw(B, T, D), draw(B, S, key_size, seed=1)
    expected = [
        [[formula(score, query.array[b, t], keys.array[b, j], j) for j in range(S)] for t in range(T)] for b in range(B)
    ]
    np.testing.assert_allclose(score(query, keys).array, expected, rtol=1e-12)
    np.testing.assert_array_equal(score.compare(query, score.project(keys)).array, score(query, keys).array)


@each_score
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_attention_is_softmax_and_weighted_sum(name, mask):
    score, key_size, _ = make(name)
    query, keys, values = draw(B, T, D), draw(B, S, key_size, seed=1), draw(B, S, 2, seed=2)
    context, weights = nn.attention(query, keys, values, score=score, mask=mask)
    powers = np.exp(score(query, keys).array) * (1.0 if mask is None else mask[:, None])
    expected = powers / powers.sum(-1, keepdims=True)
    np.testing.assert_allclose(weights.array, expected, rtol=1e-12)
    np.testing.assert_allclose(context.array, expected @ values.array, rtol=1e-12)
    one_context, one_weights = nn.attention(query[:, 1], keys, values, score=score, mask=mask)
    np.testing.assert_allclose(one_weights.array, expected[:, 1], rtol=1e-12)
    np.testing.assert_allclose(one_context.array, context.array[:, 1], rtol=1e-12)


@each_score
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_derivatives(name, mask, of_parameters_too):
    score, key_size, _ = make(name)
    inputs = [draw(B, T, D), draw(B, S, key_size, seed=1), draw(B, S, 2, seed=2)]
    function, parameters = of_parameters_too(score, lambda *inputs: nn.attention(*inputs, score=score, mask=mask))
    gradcheck(function, [*inputs, *parameters])
    gradgradcheck(function, [*inputs, *parameters])


@each_score
def test_a_row_with_nothing_to_attend_to_is_zero_and_passes_no_gradient(name):
    score, key_size, _ = make(name)
    mask = np.array([[False] * S, [True] * S])
    query, keys, values = draw(B, T, D), draw(B, S, key_size, seed=1), draw(B, S, 2, seed=2)
    context, weights = nn.attention(query, keys, values, score=score, mask=mask)
    assert not context.array[0].any() and not weights.array[0].any()
    (context.sum() + weights.square().sum()).backward()
    for tensor in (query, values):
        assert not tensor.grad.array[0].any() and tensor.grad.array[1].any()


def test_what_is_masked_changes_nothing():
    query, keys, values = draw(B, D), draw(B, S, D, seed=1), draw(B, S, 2, seed=2)
    hidden = (
        ta.Tensor(np.where(MASK[..., None], keys.array, 1e6)),
        ta.Tensor(np.where(MASK[..., None], values.array, 7.0)),
    )
    one, other = nn.attention(query, keys, values, mask=MASK), nn.attention(query, *hidden, mask=MASK)
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(found.array, expected.array)


def test_dot_is_the_default():
    query, keys = draw(B, D), draw(B, S, D, seed=1)
    for one, other in zip(
        nn.attention(query, keys, keys), nn.attention(query, keys, keys, score=nn.DotScore()), strict=True
    ):
        np.testing.assert_array_equal(one.array, other.array)


def test_complaints_of_scores():
    with pytest.raises(ValueError, match="DotScore: query and keys must have the same size, they have 3 and 5"):
        nn.DotScore()(draw(B, D), draw(B, S, 5))
    with pytest.raises(ValueError, match=r"ScaledDotScore: .* same batch, they are \(2, 3\) and \(3, 4, 3\)"):
        nn.ScaledDotScore()(draw(B, D), draw(3, S, D))
    with pytest.raises(ValueError, match="LocationScore: there are 4 keys, max_length is 3"):
        nn.LocationScore(D, 3, dtype=np.float64)(draw(B, D), draw(B, S, D))
    with pytest.raises(ValueError, match=r"attend: scores must .* they are \(2, 4\) and \(2, 5, 3\)"):
        nn.attention(draw(B, D), draw(B, S, D), draw(B, 5, D))
    with pytest.raises(ValueError, match=r"attend: mask must have shape \(2, 4\), it has \(4, 2\)"):
        nn.attention(draw(B, D), draw(B, S, D), draw(B, S, D), mask=MASK.T)
    with pytest.raises(TypeError, match="mask must be bool"):
        nn.attention(draw(B, D), draw(B, S, D), draw(B, S, D), mask=MASK.astype(float))


# -- multi-head --------------------------------------------------------------------------------------------------------


def multihead(**options):
    ta.manual_seed(0)
    return nn.MultiheadAttention(6, 2, dtype=np.float64, batch_first=True, **options)


def test_keeping_keys_and_values_gives_the_same():
    layer, query, key, value = multihead(), draw(B, T, 6), draw(B, S, 6, seed=1), draw(B, S, 6, seed=2)
    whole = layer(query, key, value, key_padding_mask=~MASK)
    kept = layer.project_keys_values(key, value)
    mask = merge_padding_mask(~MASK, B, S, query.dtype)
    for one, other in zip(layer.attend(query, kept, mask), whole, strict=True):
        np.testing.assert_allclose(one.array, other.array, rtol=1e-12)
    plain, nothing = layer.attend(query, kept, mask, need_weights=False)
    np.testing.assert_allclose(plain.array, whole[0].array, rtol=1e-12)
    assert nothing is None


def test_keys_and_values_grow_in_place_and_apart():
    joined = [draw(B, 1, 4, seed=i) for i in range(40)]
    expected = np.concatenate([more.array for more in joined], 1)
    with ta.no_grad():
        kept = KVCache(joined[0], 1)
        memories, shared = set(), 0
        for t, more in enumerate(joined[1:], 2):
            before = kept
            kept = before.extended(more)
            shared += np.shares_memory(kept.joined.array, before.joined.array)
            memories.add(id(kept.joined))
            other = before.extended(draw(B, 1, 4, seed=100))
            assert (kept.length, other.length) == (t, t)
            np.testing.assert_array_equal(kept.all().array, expected[:, :t])
            np.testing.assert_array_equal(other.all().array[:, :-1], expected[:, : t - 1])
            assert not np.shares_memory(kept.joined.array, other.joined.array)
    assert shared >= 36 and len(memories) <= 3
    recorded = KVCache(joined[0], 1)
    joined[0].requires_grad = joined[1].requires_grad = True
    recorded.extended(joined[1]).all().sum().backward()
    assert joined[0].grad is not None and joined[1].grad is not None


def test_a_query_with_nothing_to_attend_to_gets_the_output_bias():
    layer, query, key = multihead(), draw(B, T, 6), draw(B, S, 6, seed=1)
    nn.init.uniform_(layer.out_proj.bias)
    ignore = np.array([[True] * S, [False] * S])
    for padding in (ignore, np.where(ignore, -np.inf, 0.0)):
        query.grad = key.grad = None
        output, weights = layer(query, key, key, key_padding_mask=padding)
        np.testing.assert_array_equal(output.array[0], np.broadcast_to(layer.out_proj.bias.array, (T, 6)))
        assert not weights.array[0].any()
        output.square().sum().backward()
        for tensor in (query, key):
            assert not tensor.grad.array[0].any() and np.isfinite(tensor.grad.array).all()


def test_masks_combine():
    layer, x = multihead(), draw(B, S, 6)
    ahead = np.triu(np.ones((S, S), bool), 1)
    expected = layer(x, x, x, attn_mask=ahead, key_padding_mask=~MASK)[0].array
    floats = np.where(ahead, -np.inf, 0.0)
    for options in (
        {"attn_mask": floats, "key_padding_mask": ~MASK},
        {"attn_mask": floats.astype(np.float32), "key_padding_mask": np.where(MASK, 0.0, -np.inf)},
        {"attn_mask": np.stack([ahead] * 4), "key_padding_mask": ~MASK},
        {"is_causal": True, "key_padding_mask": ~MASK},
        {"is_causal": True, "key_padding_mask": np.where(MASK, 0.0, -np.inf)},
        {"is_causal": True, "attn_mask": ahead, "key_padding_mask": ~MASK},
    ):
        np.testing.assert_allclose(layer(x, x, x, **options)[0].array, expected, rtol=1e-12, err_msg=str(options))


def test_a_mask_of_floats_may_be_learnt():
    layer, x, bias = multihead(), draw(B, S, 6), draw(S, S)
    gradcheck(lambda x, bias: layer(x, x, x, ~MASK, attn_mask=bias), [x, bias])


def test_weights_are_recorded_inside_the_context_only():
    layer, x = multihead(), draw(B, S, 6)
    with nn.record_attention_weights(layer) as weights:
        layer(x, x, x, need_weights=False)
        expected = layer(x, x, x, average_attn_weights=False)[1]
        with nn.record_attention_weights(layer) as inner:
            layer(x, x, x)
    layer(x, x, x)
    assert list(weights) == [""] and [w.shape for w in weights[""]] == [(B, 2, S, S)] * 2
    for found in weights[""]:
        np.testing.assert_array_equal(found.array, expected.array)
    assert len(inner[""]) == 1 and layer.recorded_weights is None


def test_dropout_of_weights_in_training_only():
    layer, x = multihead(dropout=0.5), draw(B, S, 6)
    assert (layer(x, x, x, average_attn_weights=False)[1].array == 0.0).any()
    np.testing.assert_allclose(layer.eval()(x, x, x)[1].array.sum(-1), 1.0)


def test_complaints_of_multihead_attention():
    layer, x = multihead(), draw(B, S, 6)
    with pytest.raises(ValueError, match="num_heads 4 does not divide embed_dim 6"):
        nn.MultiheadAttention(6, 4)
    with pytest.raises(TypeError, match="add_bias_kv"):
        nn.MultiheadAttention(6, 2, add_bias_kv=True)
    with pytest.raises(ValueError, match=r"query must be \(B, length, 6\), it has shape \(2, 4, 5\)"):
        layer(draw(B, S, 5), x, x)
    with pytest.raises(ValueError, match=r"same batch, they have 2 and 3; batch_first is True"):
        layer(x, draw(3, S, 6), draw(3, S, 6))
    with pytest.raises(ValueError, match=r"attend_to_past reads keys .* of one size with x; kdim and vdim are 5 and 6"):
        multihead(kdim=5).attend_to_past(x[:, :1], None)
    with pytest.raises(ValueError, match="same batch, they have 2 and 3"), ta.no_grad():
        layer.attend_to_past(x[:, :1], layer.attend_to_past(draw(3, 1, 6), None)[1])
    with pytest.raises(ValueError, match=r"a value for each key, their shapes are \(2, 4, 6\) and \(2, 5, 6\)"):
        layer(x, x, draw(B, 5, 6))
    with pytest.raises(ValueError, match=r"key_padding_mask must have shape \(2, 4\), it has \(4, 2\)"):
        layer(x, x, x, MASK.T)
    with pytest.raises(ValueError, match=r"attn_mask must have shape \(4, 4\) or \(4, 4, 4\), it has \(2, 4\)"):
        layer(x, x, x, attn_mask=MASK)
    with pytest.raises(TypeError, match=r"attn_mask must be bool .* it is int64"):
        layer(x, x, x, attn_mask=np.zeros((S, S), np.int64))
