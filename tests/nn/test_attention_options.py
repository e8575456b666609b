"""Attention since 2017: heads that share keys, normalised queries and keys, rotary positions, linear biases."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.attention_masks import merge_padding_mask

B, L, E, HEADS = 2, 5, 16, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "gqa": {"num_kv_heads": 2},
    "mqa": {"num_kv_heads": 1},
    "qk_norm": {"qk_norm": True},
    "rotary": {"rotary": nn.RotaryPositionalEncoding(E // HEADS)},
    "alibi": {"alibi": True},
    "all": {
        "num_kv_heads": 2, "qk_norm": True, "rotary": nn.RotaryPositionalEncoding(E // HEADS, 100.0), "alibi": True,
        "bias": False,
    },
}  # fmt: skip


def draw(*shape, seed=0):
    return ta.Tensor(np.random.default_rng([seed, *shape]).standard_normal(shape), requires_grad=True)


def layer_of(name, batch_first=True):
    ta.manual_seed(0)
    layer = nn.MultiheadAttention(E, HEADS, batch_first=batch_first, dtype=np.float64, **OPTIONS[name])
    rng = np.random.default_rng(1)
    for parameter in layer.parameters():  # norms and biases start as ones and zeros, which hide mistakes
        parameter.array[...] += 0.2 * rng.standard_normal(parameter.shape)
    return layer


def by_hand(layer, query, memory, seen, causal):
    """The layer's formula with one tensor for each step."""
    d, shared = layer.head_dim, layer.num_kv_heads
    sizes = [E, shared * d, shared * d]
    weights = ta.split(layer.in_proj_weight, sizes)
    biases = [None] * 3 if layer.in_proj_bias is None else ta.split(layer.in_proj_bias, sizes)
    q, k, v = (
        F.linear(x, weight, bias).reshape(*x.shape[:2], -1, d).transpose(1, 2)
        for x, weight, bias in zip((query, memory, memory), weights, biases, strict=True)
    )
    if layer.q_norm is not None:
        q, k = layer.q_norm(q), layer.k_norm(k)
    if layer.rotary is not None:
        q, k = layer.rotary(q), layer.rotary(k)
    k, v = (ta.stack([x[:, i * shared // HEADS] for i in range(HEADS)], 1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) / math.sqrt(d)
    if layer.alibi:
        scores = scores + nn.alibi_bias(HEADS, q.shape[2], k.shape[2], dtype=np.float64)
    hidden = np.broadcast_to(~seen[:, None, None], scores.shape)
    if causal:
        hidden = hidden | ~np.tri(*scores.shape[-2:], dtype=bool)
    p = ta.softmax(ta.masked_fill(scores, hidden, -np.inf), -1)
    return layer.out_proj((p @ v).transpose(1, 2).flatten(2)), p


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["self", "causal", "cross"])
@pytest.mark.parametrize("name", OPTIONS)
def test_forward_and_gradients_are_those_of_the_formula(name, kind, batch_first):
    layer, query = layer_of(name, batch_first), draw(B, L, E)
    memory = draw(B, 7, E, seed=1) if kind == "cross" else query
    seen = np.arange(memory.shape[1]) < np.array([[memory.shape[1]], [3]])
    wanted, weights = by_hand(layer, query, memory, seen, kind == "causal")
    leaves = [query, *([memory] if kind == "cross" else []), *layer.parameters()]
    g = np.random.default_rng(2).standard_normal(wanted.shape)
    expected = [wanted, *grad(wanted, leaves, g)]

    def exchanged(x):
        return x if batch_first else x.transpose(0, 1)

    def run(need_weights=False):
        x = exchanged(query)
        other = exchanged(memory) if kind == "cross" else x
        z, p = layer(x, other, other, ~seen, need_weights, average_attn_weights=False, is_causal=kind == "causal")
        if p is not None:
            np.testing.assert_allclose(p.array, weights.array, rtol=1e-9, atol=1e-12)
        return [exchanged(z), *grad(exchanged(z), leaves, g)]

    with ta.unfused():
        reference = run()
    for found in (run(), run(need_weights=True), reference):
        for ours, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.array, exact.array, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_cache_gives_the_same_at_once_one_by_one_and_in_parts(name, batch_first):
    layer, x = layer_of(name, batch_first), draw(B, 9, E) if batch_first else draw(9, B, E)
    axis = 1 if batch_first else 0
    whole = layer(x, x, x, need_weights=False, is_causal=True)[0].array
    for recorded, sizes in itertools.product((True, False), ([1] * 9, [4, 1, 3, 1], [9], [1, 8])):
        with ta.enable_grad() if recorded else ta.no_grad():
            past, parts, start = None, [], 0
            for size in sizes:
                z, past = layer.attend_to_past(ta.narrow(x, axis, start, size), past)
                parts.append(z.array)
                start += size
        assert past.length == 9 and past.all().shape == (B, 9, 2 * layer.kv_size)
        np.testing.assert_allclose(np.concatenate(parts, axis), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", OPTIONS)
def test_keys_projected_once_give_the_same(name):
    layer, query, memory = layer_of(name), draw(B, L, E), draw(B, 7, E, seed=1)
    ignored = np.arange(7) >= np.array([[7], [3]])
    whole, weights = layer(query, memory, memory, ignored)
    kept, mask = layer.project_keys_values(memory, memory), merge_padding_mask(ignored, B, 7, np.float64)
    for one, other in zip(layer.attend(query, kept, mask), (whole, weights), strict=True):
        np.testing.assert_allclose(one.array, other.array, rtol=1e-10, atol=1e-12)
    later = layer.attend(query[:, 3:], kept, mask, start=3)[0]
    np.testing.assert_allclose(later.array, whole.array[:, 3:], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["gqa", "all"])
def test_double_gradients(name):
    layer, x = layer_of(name), draw(1, 3, E)
    gradcheck(lambda x: layer(x, x, x, need_weights=False, is_causal=True)[0], [x])
    gradgradcheck(lambda x: layer(x, x, x, need_weights=False, is_causal=True)[0], [x])


def test_sizes_of_shared_heads():
    layer = layer_of("all")
    assert {name: p.shape for name, p in layer.state_dict().items()} == {
        "in_proj_weight": (E + 2 * 2 * 4, E), "out_proj.weight": (E, E), "q_norm.weight": (4,), "k_norm.weight": (4,),
    }  # fmt: skip
    other = nn.MultiheadAttention(E, HEADS, kdim=3, num_kv_heads=2)
    assert (other.q_proj_weight.shape, other.k_proj_weight.shape, other.v_proj_weight.shape) == ((E, E), (8, 3), (8, E))
    x, key = draw(1, 2, E).float(), draw(1, 2, 3).float()
    assert other(x, key, x)[0].shape == (1, 2, E)
    assert "num_kv_heads=2" in repr(layer) and "alibi=True" in repr(layer)


def test_complaints():
    with pytest.raises(ValueError, match="MultiheadAttention: num_kv_heads 3 does not divide num_heads 4"):
        nn.MultiheadAttention(E, HEADS, num_kv_heads=3)
    with pytest.raises(ValueError, match="rotary must be for heads of size 4, it is for 6"):
        nn.MultiheadAttention(E, HEADS, rotary=nn.RotaryPositionalEncoding(6))
    with pytest.raises(TypeError, match="rotary must be a RotaryPositionalEncoding, got True"):
        nn.MultiheadAttention(E, HEADS, rotary=True)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (1, [2.0**-8]),
        (4, [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]),
        (8, [2.0**-k for k in range(1, 9)]),
        (3, [2.0**-4, 2.0**-8, 2.0**-2]),
        (12, [*(2.0**-k for k in range(1, 9)), *(2.0 ** -(k / 2) for k in (1, 3, 5, 7))]),
    ],
)
def test_slopes_are_the_authors(heads, expected):
    np.testing.assert_allclose(nn.alibi_slopes(heads), expected, rtol=1e-12)


def test_the_bias_is_the_distance_times_the_slope():
    bias = nn.alibi_bias(3, 2, 4, start=1)
    assert bias.shape == (3, 2, 4) and bias.dtype == np.float32 and not bias.requires_grad
    distances = np.abs(np.array([[1], [2]]) - np.arange(4))
    np.testing.assert_allclose(bias.array, -nn.alibi_slopes(3)[:, None, None] * distances, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "heads"),
    [
        (nn.MultiheadAttention, "num_heads"),
        (nn.TransformerEncoderLayer, "nhead"),
        (nn.TransformerDecoderLayer, "nhead"),
        (nn.Transformer, "nhead"),
    ],
)
def test_errors_name_the_layer_that_was_given_the_heads(kind, heads):
    with pytest.raises(ValueError, match=f"^{kind.__name__}: num_kv_heads 3 does not divide {heads} 4"):
        kind(8, 4, num_kv_heads=3)
    with pytest.raises(ValueError, match=f"^{kind.__name__}: {heads} 3 does not divide "):
        kind(8, 3)
    with pytest.raises(ValueError, match=f"^{kind.__name__}: rotary must be for heads of size 2, it is for 4"):
        kind(8, 4, rotary=nn.RotaryPositionalEncoding(4))
