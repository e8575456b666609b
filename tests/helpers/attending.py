"""What the tests of attention's kernels share: operands, the kernel, and the formulas in float64."""

from __future__ import annotations

import numpy as np

from tinygrad_attn.kernels.attention.tiled import attention, attention_backward, attention_in_numpy

SCALE = 0.3


def reference(q, k, v, g, mask, causal, kept=1.0, bias=0.0):
    """The same by the formulas, in float64."""
    operands = (x.astype(np.float64) for x in (q, k, v, g))
    return attention_in_numpy(*operands, mask, causal=causal, scale=SCALE, kept=kept, bias=bias)


def run(q, k, v, g, mask, causal, dropout=None, bias=None):
    """The output and the gradients of q, k and v by the kernel, with an output that lies as heads side by side do."""
    batch, heads, queries, _ = q.shape
    out = np.empty((batch, queries, heads, v.shape[-1]), q.dtype).transpose(0, 2, 1, 3)
    tops, factors = attention(q, k, v, out, mask, bias, causal=causal, scale=SCALE, dropout=dropout)
    gradients = tuple(np.full(x.shape, np.nan, x.dtype) for x in (q, k, v))
    attended, options = (out, tops, factors), {"causal": causal, "scale": SCALE, "dropout": dropout}
    attention_backward(g, (q, k, v), attended, gradients, mask, bias, **options)
    return out, *gradients


def draw(seed, batch, heads, queries, keys, width, value_width, dtype):
    """Views of larger arrays, as the parts of a projection are."""
    rng = np.random.default_rng(seed)
    sides = [(queries, width), (keys, width), (keys, value_width), (queries, value_width)]
    return [
        rng.standard_normal((batch, length, 2, heads, size)).astype(dtype)[:, :, 1].transpose(0, 2, 1, 3)
        for length, size in sides
    ]
