"""The function in PyTorch of each op: the one of its name, or a composition that says what the op computes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

import tinygrad_attn as ta

__all__ = ["mask_rows", "peer_of"]

Tensor = torch.Tensor


def _masked_softmax(x: Tensor, mask: Tensor | None, dim: int = -1) -> Tensor:
    """Softmax over what the mask leaves; zeros where it leaves nothing."""
    if mask is None:
        return torch.softmax(x, dim)
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    assert shape == x.shape and mask.dtype == torch.bool, "the mask must broadcast to the scores"
    mask = mask.expand(shape)
    some = mask.any(dim, keepdim=True)
    weights = torch.softmax(torch.where(some, torch.where(mask, x, -torch.inf), 0.0), dim)
    return torch.where(mask & some, weights, 0.0)


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    scores = q @ k.mT * scale
    if is_causal:
        earlier = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None and mask.dtype != torch.bool:
            mask = torch.where(earlier, mask, -torch.inf)
        else:
            mask = earlier if mask is None else mask & earlier
    if mask is not None and mask.dtype != torch.bool:
        assert torch.broadcast_shapes(mask.shape, scores.shape) == scores.shape
        scores, mask = scores + mask, (mask > -torch.inf).expand(scores.shape)
    weights = _masked_softmax(scores, mask)
    return weights @ v, weights


def _scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False, scale: float,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    assert groups >= 1 and (groups == 1 or q.shape[-3] == groups * k.shape[-3] == groups * v.shape[-3])
    if groups > 1:
        k, v = (x.repeat_interleave(groups, -3) for x in (k, v))
    return _attention(q, k, v, mask, is_causal, scale)[0]


def _multihead_attention(
    projected: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, *, heads: int,
    is_causal: bool = False, batch_first: bool = True, groups: int = 1,
) -> Tensor:  # fmt: skip
    assert groups >= 1 and heads % groups == 0
    shared = heads // groups
    width = projected.shape[-1] // (heads + (2 * shared if memory is None else 0))
    sizes = [heads * width, shared * width, shared * width]
    parts = projected.split(sizes, -1) if memory is None else (projected, *memory.split(sizes[1:], -1))
    if not batch_first:
        parts = [part.transpose(0, 1) for part in parts]
    q, k, v = (part.unflatten(-1, (part.shape[-1] // width, width)).transpose(1, 2) for part in parts)
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    z = _attention(q, k, v, mask, is_causal, q.shape[-1] ** -0.5)[0].transpose(1, 2).flatten(2)
    return z if batch_first else z.transpose(0, 1)


def _additive_score(query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
    return torch.tanh(query.unsqueeze(2) + keys.unsqueeze(1)) @ energy


# -- recurrent layers, one step and many -------------------------------------------------------------------------------


def _checked_step(gates: int, gx: Tensor, h: Tensor, w_hh: Tensor) -> None:
    """No broadcasting in place of a wrong size."""
    assert h.ndim == 2 and gx.shape == (len(h), gates * h.shape[1]) and w_hh.shape == (gates * h.shape[1], h.shape[1])


def _rnn_step(gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None = None, *, nonlinearity: str = "tanh") -> Tensor:
    _checked_step(1, gx, h, w_hh)
    return {"tanh": torch.tanh, "relu": torch.relu}[nonlinearity](gx + F.linear(h, w_hh, b_hh))


def _gru_step(gx: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None = None) -> Tensor:
    _checked_step(3, gx, h, w_hh)
    (xr, xu, xn), (hr, hu, hn) = gx.chunk(3, -1), F.linear(h, w_hh, b_hh).chunk(3, -1)
    r, u = torch.sigmoid(xr + hr), torch.sigmoid(xu + hu)
    return (1 - u) * torch.tanh(xn + r * hn) + u * h


def _lstm_step(gx: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor | None = None) -> tuple[Tensor, Tensor]:
    _checked_step(4, gx, h, w_hh)
    i, f, g, o = (gx + F.linear(h, w_hh, b_hh)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _sequence(step: Callable[..., Any], states: int) -> Callable[..., tuple[Tensor, ...]]:
    """The loop of a step over axis 0; a masked step leaves the states as they are."""

    def run(gx: Tensor, *rest: Any, reverse: bool = False, **options: Any) -> tuple[Tensor, ...]:
        now, weights, mask = rest[:states], rest[states : states + 2], (*rest, None, None)[states + 2]
        if len(rest) < states + 3:
            mask = None
        assert mask is None or (mask.dtype == torch.bool and mask.shape == gx.shape[:2])
        found: list[Tensor] = [now[0]] * len(gx)
        for t in reversed(range(len(gx))) if reverse else range(len(gx)):
            new = step(gx[t], *now, *weights, **options)
            new = new if isinstance(new, tuple) else (new,)
            now = new if mask is None else tuple(
                torch.where(mask[t][:, None], x, y) for x, y in zip(new, now, strict=True)
            )  # fmt: skip
            found[t] = now[0]
        return torch.stack(found), *now

    return run


def _attention_gru_step(
    gx: Tensor, h: Tensor, values: Tensor, keys: Tensor, w_query: Tensor, energy: Tensor, w_context: Tensor,
    w_hh: Tensor, b_hh: Tensor | None = None, mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    assert energy.shape == keys.shape[2:] == w_query.shape[:1] and values.shape[:2] == keys.shape[:2]
    scores = _additive_score(F.linear(h, w_query)[:, None], keys, energy)
    weights = _masked_softmax(scores, None if mask is None else mask[:, None])
    context = (weights @ values)[:, 0]
    return _gru_step(gx + F.linear(context, w_context), h, w_hh, b_hh), context, weights[:, 0]


def _attention_gru(
    x: Tensor, h: Tensor, values: Tensor, keys: Tensor, w_query: Tensor, energy: Tensor, w_ih: Tensor, w_hh: Tensor,
    b_ih: Tensor | None = None, b_hh: Tensor | None = None, mask: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    w_x, w_context = w_ih[:, : x.shape[2]], w_ih[:, x.shape[2] :]
    steps = []
    for t in range(x.shape[1]):
        gx = F.linear(x[:, t], w_x, b_ih)
        steps.append(_attention_gru_step(gx, h, values, keys, w_query, energy, w_context, w_hh, b_hh, mask))
        h = steps[-1][0]
    return tuple(torch.stack(parts, 1) for parts in zip(*steps, strict=True))


# -- the others --------------------------------------------------------------------------------------------------------


def _paired_linear(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None = None, *, rows: int
) -> tuple[Tensor, Tensor]:
    first, second = (None, None) if bias is None else (bias[:rows], bias[rows:])
    return F.linear(x, weight[:rows], first), F.linear(y, weight[rows:], second)


def _placed_embedding(
    input: Tensor, weight: Tensor, positions: Tensor, *, scale: float, padding_idx: int | None = None
) -> Tensor:
    found = F.embedding(input, weight.to(torch.result_type(weight, positions)), padding_idx) * scale
    assert torch.broadcast_shapes(found.shape, positions.shape) == found.shape
    return found + positions


def _add_layer_norm(
    input: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    assert input.shape == residual.shape
    return F.layer_norm(input + residual, normalized_shape, weight, bias, eps)


def _rotary(x: Tensor, *, start: int = 0, base: float = 10000.0, dim: int = -2, heads: int | None = None) -> Tensor:
    if heads is not None:
        assert dim % x.ndim == x.ndim - 3 and 0 <= heads <= x.shape[-2]
        turned = _rotary(x[..., :heads, :], start=start, base=base, dim=dim)
        return torch.cat([turned, x[..., heads:, :]], -2)
    assert start >= 0 and 0.0 < base < math.inf and x.shape[-1] % 2 == 0 and dim % x.ndim != x.ndim - 1
    x = x.movedim(dim, -2)
    frequencies = base ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / max(x.shape[-1], 1))
    positions = torch.arange(start, start + x.shape[-2], dtype=torch.float64)
    angles = torch.cat([positions[:, None] * frequencies] * 2, -1)
    first, second = x.chunk(2, -1)
    turned = x * angles.cos().to(x.dtype) + torch.cat([-second, first], -1) * angles.sin().to(x.dtype)
    return turned.movedim(-2, dim)


def _dropout(x: Tensor, *, p: float, key: int) -> Tensor:
    """What is kept is drawn by a generator of our own."""
    kept = ta.registered_ops()["dropout"](ta.ones(*x.shape, dtype=ta.float64), p=p, key=key).array != 0.0
    return x * torch.tensor(kept, dtype=x.dtype) / (1 - p)


def _constant_in(x: Tensor, y: Tensor) -> Tensor:
    return x.to(torch.result_type(x, y)) + torch.where(torch.tensor(False), y, 0).sum().to(torch.result_type(x, y))


def _topk(x: Tensor, k: int, dim: int = -1, largest: bool = True) -> Tensor:
    """Of equal elements the first."""
    assert 0 <= k <= (x.shape[dim] if x.ndim else 1)
    return (
        torch.sort(x, dim=dim, descending=largest, stable=True)[1].narrow(dim, 0, k)
        if x.ndim
        else torch.zeros_like(x, dtype=torch.int64)
    )


def _index(x: Tensor, *, indices: tuple[Tensor | None, ...]) -> Tensor:
    """An array of no axis counts as an index array here, as in NumPy; in a subscript of PyTorch's it selects first."""
    arrays = iter(torch.broadcast_tensors(*[i for i in indices if i is not None]))
    return x[tuple(slice(None) if i is None else next(arrays) for i in indices)]


def _dtype(dtype: Any) -> torch.dtype:
    import numpy as np

    return getattr(torch, np.dtype(dtype).name)  # type: ignore[no-any-return]


PEERS: dict[str, Callable[..., Any]] = {
    "cast": lambda x, *, dtype: x.to(_dtype(dtype)),
    "constant_in": _constant_in,
    "alias": lambda x: x.view_as(x),
    "sum_to": lambda x, *, shape: (x if x.is_floating_point() else x.long()).sum_to_size(shape),
    "dropout": _dropout,
    "additive_score": _additive_score,
    "masked_softmax": _masked_softmax,
    "slice_view": lambda x, *, key: x[key],
    "index": _index,
    "split": lambda x, *, sizes, dim: torch.split(x, sizes, dim),
    "linear": F.linear,
    "embedding": F.embedding,  # torch.embedding has its arguments in another order
    "activated_linear": lambda x, weight, bias=None, *, activation: getattr(F, activation)(F.linear(x, weight, bias)),
    "paired_linear": _paired_linear,
    "rnn_step": _rnn_step,
    "rnn": _sequence(_rnn_step, 1),
    "gru_step": _gru_step,
    "gru": _sequence(_gru_step, 1),
    "lstm_step": _lstm_step,
    "lstm": _sequence(_lstm_step, 2),
    "attention_gru_step": _attention_gru_step,
    "attention_gru": _attention_gru,
    "placed_embedding": _placed_embedding,
    "multihead_attention": _multihead_attention,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
    "add_layer_norm": _add_layer_norm,
    "topk": _topk,
    "binary_cross_entropy": lambda x, y: F.binary_cross_entropy(x, y, reduction="none"),
    "cat": lambda *operands, dim=0: torch.cat(operands, dim),
    "stack": lambda *operands, dim=0: torch.stack(operands, dim),
    "einsum": lambda *operands, equation: torch.einsum(equation, *operands),
    "layer_norm": lambda x, weight, bias, normalized_shape, eps: F.layer_norm(x, normalized_shape, weight, bias, eps),
    "rms_norm": lambda x, weight=None, *, normalized_shape, eps: F.rms_norm(x, normalized_shape, weight, eps),
    "rotary": _rotary,
    "vector_norm": torch.linalg.vector_norm,
    "permute": lambda x, *, dims: x.permute(dims),
    "flip": lambda x, *, dims: x.flip(dims),
    "repeat": lambda x, *, repeats: x.repeat(repeats),
    "reshape": lambda x, *, shape: x.reshape(shape),
    "expand": lambda x, *, shape: x.expand(shape),
}


def peer_of(name: str) -> Callable[..., Any] | None:
    """PyTorch's function for an op's arguments; None if there is none."""
    if name in PEERS:
        return PEERS[name]
    for home in (torch, F, torch.Tensor):
        if hasattr(home, name):
            return getattr(home, name)  # type: ignore[no-any-return]
    return None


# -- attention layers --------------------------------------------------------------------------------------------------


def mask_rows(layer: torch.nn.Module) -> None:
    """Let a layer's attention give zeros for a query whose keys are all masked, where PyTorch gives nan; and let
    ``is_causal`` work without a mask."""
    for module in layer.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            module.forward = functools.partial(_attend, module)  # type: ignore[method-assign]


def _attend(
    layer: torch.nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor,
    key_padding_mask: Tensor | None = None, need_weights: bool = True, attn_mask: Tensor | None = None,
    average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The forward of PyTorch's layer, from its parameters."""
    if not layer.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    heads, (batch, length, size), keys = layer.num_heads, query.shape, key.shape[1]
    biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, weight, bias).unflatten(-1, (heads, size // heads)).transpose(1, 2)
        for x, weight, bias in zip((query, key, value), layer.in_proj_weight.chunk(3), biases, strict=True)
    )
    added = torch.zeros(batch, heads, length, keys, dtype=q.dtype)
    for mask, shape in ((key_padding_mask, (batch, 1, 1, keys)), (attn_mask, (-1, heads, length, keys))):
        if mask is not None:
            mask = mask.expand(heads, *mask.shape) if mask.ndim == 2 and shape[1] == heads else mask
            mask = torch.where(mask, -torch.inf, 0.0) if mask.dtype == torch.bool else mask
            added = added + mask.reshape(shape)
    z, weights = _attention(q, k, v, added, is_causal, (size // heads) ** -0.5)
    z = F.linear(z.transpose(1, 2).flatten(2), layer.out_proj.weight, layer.out_proj.bias)
    found = weights.mean(1) if average_attn_weights else weights
    return z if layer.batch_first else z.transpose(0, 1), found if need_weights else None
