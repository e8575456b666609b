"""The Transformer's stacks: causality, padding, step by step, the weights of every head."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_forward import doubled

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.ops.fused import multihead

B, S, T, D, HEADS = 3, 4, 5, 8, 2
PADDING = np.arange(S) >= np.array([[4], [2], [1]])  # True = ignore


def draw(*shape, seed=0):
    return ta.Tensor(np.random.default_rng([seed, *shape]).standard_normal(shape))


def transformer(**options):
    ta.manual_seed(0)
    options = {"dropout": 0.0, "batch_first": True, **options}
    return nn.Transformer(D, HEADS, 2, 2, 7, dtype=np.float64, **options)


NEWER = [
    {"norm": "rms", "norm_first": True, "activation": "swiglu", "num_kv_heads": 1, "qk_norm": True, "bias": False,
     "rotary": nn.RotaryPositionalEncoding(4, 100.0)},
    {"norm": "rms", "activation": "gelu", "alibi": True},
]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"norm_first": True}, *NEWER], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_give_what_the_whole_target_gives(options, batch_first):
    decoder = transformer(batch_first=batch_first, **options).decoder
    axis = 1 if batch_first else 0
    memory, target = (draw(B, length, D) if batch_first else draw(length, B, D) for length in (S, T))
    whole = decoder(target, memory, memory_key_padding_mask=PADDING, tgt_is_causal=True)
    for recorded in (True, False):
        with ta.set_grad_enabled(recorded):
            state = decoder.start(memory, PADDING)
            for t in range(T):
                place, state = decoder.step(target.narrow(axis, t, 1), state)
                np.testing.assert_allclose(place.array, whole.narrow(axis, t, 1).array, rtol=1e-10, atol=1e-12)
        assert state.layers[0].past.all().shape == (B, T, 2 * decoder.layers[0].self_attn.kv_size)


def test_a_causal_target_does_not_look_ahead():
    model, source, target = transformer(), draw(B, S, D), draw(B, T, D)
    before = model(source, target, tgt_is_causal=True).array
    target.array[:, 3:] += 1.0
    after = model(source, target, tgt_is_causal=True).array
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3:], after[:, 3:])


@given(st.integers(0, 2**32 - 1))
def test_padding_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    model, source, target = transformer(), rng.standard_normal((B, S, D)), draw(B, T, D)
    options = {"src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
    other = np.where(PADDING[..., None], rng.standard_normal(source.shape), source)
    one, two = (model(ta.Tensor(x), target, **options).array for x in (source, other))
    np.testing.assert_array_equal(one, two)
    for row, length in enumerate((~PADDING).sum(1)):
        alone = model(ta.Tensor(source[row : row + 1, :length]), target[row : row + 1]).array
        np.testing.assert_allclose(one[row], alone[0], rtol=1e-9, atol=1e-11)


def test_weights_of_every_layer_and_head():
    model, source, target = transformer(), draw(B, S, D), draw(B, T, D)
    plain = model(source, target, src_key_padding_mask=PADDING, tgt_is_causal=True)
    with nn.record_attention_weights(model) as weights:
        recorded = model(source, target, src_key_padding_mask=PADDING, tgt_is_causal=True)
    # Without weights to record, attention is one kernel, which sums in another order.
    np.testing.assert_allclose(plain.array, recorded.array, rtol=1e-9, atol=1e-11)
    shapes = {
        "encoder.layers.{}.self_attn": (B, HEADS, S, S),
        "decoder.layers.{}.self_attn": (B, HEADS, T, T),
        "decoder.layers.{}.multihead_attn": (B, HEADS, T, S),
    }
    expected = {path.format(layer): shape for path, shape in shapes.items() for layer in range(2)}
    assert {path: [w.shape for w in calls] for path, calls in weights.items()} == {
        path: [shape] for path, shape in expected.items()
    }
    for path, (found,) in weights.items():
        np.testing.assert_allclose(found.array.sum(-1), 1.0, rtol=1e-12, err_msg=path)
    ignored = np.broadcast_to(PADDING[:, None, None], (B, HEADS, S, S))
    assert not weights["encoder.layers.1.self_attn"][0].array[ignored].any()
    assert not np.triu(weights["decoder.layers.0.self_attn"][0].array, 1).any()


def test_weights_are_computed_only_if_needed(monkeypatch):
    """Without recording, every layer runs the fused kernel on the projections, and none computes its weights."""
    calls = []
    attend = multihead.multihead_attention  # the kernel
    monkeypatch.setattr(multihead, "multihead_attention", lambda *a, **o: calls.append(o) or attend(*a, **o))
    monkeypatch.setattr(multihead, "weights_and_output", None)
    transformer()(draw(B, S, D), draw(B, T, D))
    assert len(calls) == 6


def test_copies_of_a_layer_are_independent_but_start_alike():
    layer = nn.TransformerEncoderLayer(D, HEADS, 7)
    encoder = nn.TransformerEncoder(layer, 2)
    first, second = encoder.layers
    np.testing.assert_array_equal(first.linear1.weight.array, second.linear1.weight.array)
    first.linear1.weight.array[...] = 0.0
    assert second.linear1.weight.array.any() and layer.linear1.weight.array.any()
    whole = nn.Transformer(D, HEADS, 2, 2, 7)
    assert not np.allclose(whole.encoder.layers[0].linear1.weight.array, whole.encoder.layers[1].linear1.weight.array)


def test_dropout_in_training_only():
    model, source, target = transformer(dropout=0.3), draw(B, S, D), draw(B, T, D)
    assert not np.allclose(model(source, target).array, model(source, target).array)
    model.eval()
    np.testing.assert_array_equal(model(source, target).array, model(source, target).array)


def test_an_activation_may_be_a_function():
    layer = nn.TransformerEncoderLayer(D, HEADS, 7, 0.0, activation=ta.tanh, dtype=np.float64)
    named = nn.TransformerEncoderLayer(D, HEADS, 7, 0.0, dtype=np.float64)
    named.load_state_dict(layer.state_dict())
    x = draw(S, B, D)
    assert not np.allclose(layer(x).array, named(x).array)


@pytest.mark.parametrize("way", ["subclass", "assigned"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer_calls_the_modules_that_users_put_into_it(activation, way):
    encoder, x = transformer(activation=activation).encoder, draw(B, S, D)
    plain, changed = encoder.layers
    changed.load_state_dict(plain.state_dict())
    doubled(changed.norm2, way)
    np.testing.assert_allclose(changed(x).array, 2.0 * plain(x).array, rtol=1e-12)
    doubled(changed.linear1, way)
    with ta.no_grad():
        for parameter in plain.linear1.parameters():
            parameter.mul_(2.0)
    np.testing.assert_allclose(changed(x).array, 2.0 * plain(x).array, rtol=1e-12)


def test_complaints():
    with pytest.raises(ValueError, match=r"Layer: activation must be 'relu', 'gelu', 'swiglu' or .* got 'swish'"):
        nn.TransformerDecoderLayer(D, HEADS, activation="swish")
    with pytest.raises(ValueError, match=r"query must be \(B, length, 8\), it has shape \(3, 4, 5\)"):
        transformer()(draw(B, S, 5), draw(B, T, D))
    with pytest.raises(ValueError, match="same batch, they have 2 and 3"):
        transformer()(draw(B, S, D), draw(2, T, D))
    with pytest.raises(TypeError, match="custom_encoder"):
        nn.Transformer(D, HEADS, custom_encoder=None)
