"""Layers that PyTorch has no module for, with its functions: SwiGLU, and Transformer layers with all that is newer."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
F = torch.nn.functional

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import nn  # noqa: E402
from tinygrad_attn.autograd import grad  # noqa: E402

D, HEADS, SHARED, INNER, B, S, T = 8, 4, 2, 10, 2, 5, 4
PADDING = np.arange(S) >= np.array([[5], [3]])
OPTIONS = [
    {"norm": "rms", "norm_first": True, "activation": "swiglu", "num_kv_heads": SHARED, "qk_norm": True,
     "rotary": True, "bias": False},
    {"norm": "rms", "activation": "gelu", "alibi": True},
    {"norm_first": True, "activation": "swiglu", "num_kv_heads": 1, "alibi": True},
    {"qk_norm": True, "rotary": True},
]  # fmt: skip


def hold(layer, inputs, run, theirs):
    """Outputs and the gradients of inputs and parameters, ours and PyTorch's."""
    rng = np.random.default_rng(0)
    for parameter in layer.parameters():
        parameter.array[...] += 0.2 * rng.standard_normal(parameter.shape)
    weights = {name: torch.tensor(p.numpy(), requires_grad=True) for name, p in layer.state_dict().items()}
    mine = [ta.Tensor(x.copy(), requires_grad=True) for x in inputs]
    other = [torch.tensor(x, requires_grad=True) for x in inputs]
    z, expected = run(*mine), theirs(weights, *other)
    np.testing.assert_allclose(z.array, expected.detach().numpy(), rtol=1e-9, atol=1e-10)
    seed = rng.standard_normal(z.shape)
    parameters = dict(layer.named_parameters())
    found = grad(z, [*mine, *parameters.values()], ta.Tensor(seed))
    wanted = torch.autograd.grad(expected, [*other, *(weights[name] for name in parameters)], torch.tensor(seed))
    for name, x, y in zip([*range(len(mine)), *parameters], found, wanted, strict=True):
        np.testing.assert_allclose(x.array, y.numpy(), rtol=1e-8, atol=1e-9, err_msg=str(name))


def feed_forward(w, name, x, options):
    if options.get("activation") == "swiglu":
        return swiglu({n.removeprefix(f"{name}feed_forward."): v for n, v in w.items()}, x)
    activation = F.gelu if options.get("activation") == "gelu" else F.relu
    return linear(w, f"{name}linear2", activation(linear(w, f"{name}linear1", x)))


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def swiglu(w, x):
    return linear(w, "linear2", F.silu(linear(w, "linear1", x)) * linear(w, "linear3", x))


def rotated(x):
    half = x.shape[-1] // 2
    angles = torch.outer(torch.arange(x.shape[-2]).double(), 10000.0 ** (-torch.arange(half).double() / half))
    angles = torch.cat([angles, angles], -1)
    return x * angles.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angles.sin()


def attention(w, name, query, memory, options, hidden):
    """Grouped-query attention of PyTorch's, among the query's own positions if they are the memory's."""
    shared, d = options.get("num_kv_heads", HEADS), D // HEADS
    parts = w[f"{name}.in_proj_weight"].split([D, shared * d, shared * d])
    bias = w.get(f"{name}.in_proj_bias")
    biases = (None,) * 3 if bias is None else bias.split([D, shared * d, shared * d])
    q, k, v = (
        F.linear(x, m, b).unflatten(-1, (-1, d)).transpose(1, 2)
        for x, m, b in zip((query, memory, memory), parts, biases, strict=True)
    )
    if options.get("qk_norm"):
        q = F.rms_norm(q, (d,), w[f"{name}.q_norm.weight"], 1e-6)
        k = F.rms_norm(k, (d,), w[f"{name}.k_norm.weight"], 1e-6)
    added = torch.zeros(HEADS, q.shape[2], k.shape[2], dtype=torch.float64)
    if query is memory and options.get("rotary"):
        q, k = rotated(q), rotated(k)
    if query is memory and options.get("alibi"):
        slopes = torch.tensor([2.0 ** (-8.0 * (h + 1) / HEADS) for h in range(HEADS)])
        distances = (torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])).abs()
        added = -slopes[:, None, None].double() * distances
    mask = torch.where(hidden, -math.inf, added)
    z = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    return linear(w, f"{name}.out_proj", z.transpose(1, 2).flatten(2))


def sublayer(w, name, x, run, options):
    def norm(x):
        weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
        if options.get("norm") == "rms":
            return F.rms_norm(x, (D,), weight, 1e-5)
        return F.layer_norm(x, (D,), weight, bias)

    return x + run(norm(x)) if options.get("norm_first") else norm(x + run(x))


def encoder_layer(w, x, options, name=""):
    hidden = torch.tensor(PADDING)[:, None, None]
    x = sublayer(w, f"{name}norm1", x, lambda x: attention(w, f"{name}self_attn", x, x, options, hidden), options)
    return sublayer(w, f"{name}norm2", x, lambda x: feed_forward(w, name, x, options), options)


def decoder_layer(w, x, memory, options, name=""):
    later = torch.ones(T, T).triu(1).bool()
    hidden = torch.tensor(PADDING)[:, None, None]
    x = sublayer(w, f"{name}norm1", x, lambda x: attention(w, f"{name}self_attn", x, x, options, later), options)
    x = sublayer(
        w, f"{name}norm2", x, lambda x: attention(w, f"{name}multihead_attn", x, memory, options, hidden), options
    )
    return sublayer(w, f"{name}norm3", x, lambda x: feed_forward(w, name, x, options), options)


def built(kind, options):
    ta.manual_seed(0)
    given = {**options, "rotary": nn.RotaryPositionalEncoding(D // HEADS) if options.get("rotary") else None}
    return kind(D, HEADS, INNER, 0.0, batch_first=True, dtype=np.float64, **given)


def draw(*shape):
    return np.random.default_rng(list(shape)).standard_normal(shape)


@pytest.mark.parametrize("bias", [True, False])
def test_swiglu(bias):
    hold(layer := nn.SwiGLU(D, INNER, bias, dtype=np.float64), [draw(3, D)], layer, swiglu)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_encoder_layer(options):
    layer = built(nn.TransformerEncoderLayer, options)
    hold(layer, [draw(B, S, D)], lambda x: layer(x, None, PADDING), lambda w, x: encoder_layer(w, x, options))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_decoder_layer(options):
    layer = built(nn.TransformerDecoderLayer, options)
    hold(
        layer,
        [draw(B, T, D), draw(B, S, D)],
        lambda x, memory: layer(x, memory, memory_key_padding_mask=PADDING, tgt_is_causal=True),
        lambda w, x, memory: decoder_layer(w, x, memory, options),
    )
