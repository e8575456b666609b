"""Whether the layers of a stack are those whose computation is known, so that a program of kernels may stand for them.

A program reads parameters and calls no ``forward``. So every module must be of the engine's own class, and the
parameters of the sizes and the dtype for which the program's arrays are made.
"""

from __future__ import annotations

from typing import Any

from tinygrad_attn.kernels.gemm.cache import remembered
from tinygrad_attn.modes import current_modes
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.positional import RotaryPositionalEncoding
from tinygrad_attn.nn.transformer import TransformerDecoder, TransformerEncoder
from tinygrad_attn.nn.transformer_layers import TransformerLayer
from tinygrad_attn.ops.activation import relu
from tinygrad_attn.tensor import Tensor

__all__ = ["is_newer_attention", "is_plain_linear", "is_plain_norm", "is_plain_stack", "is_unobserved"]


def is_unobserved() -> bool:
    """Whether no gradient is wanted, nothing is recorded, and ops may be fused."""
    modes = current_modes()
    return not (modes.grad or modes.observers or modes.unfused)


def is_plain_stack(
    stack: TransformerEncoder | TransformerDecoder, kind: type[TransformerLayer], width: int, dtype: Any
) -> bool:
    """Whether a stack is in evaluation mode, no gradient is wanted, nobody looks on, and its layers are the paper's.

    Args:
        stack: of layers of any class.
        kind: the class that they should have.
        width: of the vectors that the stack reads.
        dtype: of these vectors.
    """
    if stack.training or not is_unobserved() or not len(stack.layers):
        return False
    key = ("plain stack", id(stack), kind, width, dtype)
    return remembered(key, stack, lambda: _is_made_plainly(stack, kind, width, dtype)) and not any(
        attention.recorded_weights is not None
        for layer in stack.layers
        for attention in _attentions(layer)  # type: ignore[arg-type]
    )


def _is_made_plainly(
    stack: TransformerEncoder | TransformerDecoder, kind: type[TransformerLayer], width: int, dtype: Any
) -> bool:
    """What of `is_plain_stack` is so for as long as no part of the stack is exchanged."""
    return (stack.norm is None or is_plain_norm(stack.norm, LayerNorm, width, dtype)) and all(
        is_plain(layer, kind) and _is_plain_layer(layer, width, dtype)  # type: ignore[arg-type]
        for layer in stack.layers
    )


def _attentions(layer: TransformerLayer) -> list[MultiheadAttention]:
    return [layer.self_attn, layer.multihead_attn] if layer.attends_to_memory else [layer.self_attn]


def is_plain_linear(linear: Module, outputs: int, inputs: int, dtype: Any) -> bool:
    """Whether it is y = x Wᵀ + b for W of this shape and dtype."""
    return is_plain(linear, Linear) and _is((linear.weight, linear.bias), [(outputs, inputs), (outputs,)], dtype)


def _is_plain_layer(layer: TransformerLayer, width: int, dtype: Any) -> bool:
    if layer.activation is not relu:
        return False
    attentions, norms = _attentions(layer), [layer.norm1, layer.norm2]
    dropouts = [layer.dropout, layer.dropout1, layer.dropout2]
    if layer.attends_to_memory:
        norms.append(layer.norm3)
        dropouts.append(layer.dropout3)
    return (
        all(_is_plain_attention(attention, width, dtype) for attention in attentions)
        and len({attention.batch_first for attention in attentions}) == 1
        and all(is_plain_norm(norm, LayerNorm, width, dtype) for norm in norms)
        and all(is_plain(dropout, Dropout) and not dropout.training for dropout in dropouts)
        and is_plain(layer.linear1, Linear)
        and is_plain_linear(layer.linear1, inner := layer.linear1.weight.shape[0], width, dtype)
        and is_plain_linear(layer.linear2, width, inner, dtype)
    )


def _is_plain_attention(attention: MultiheadAttention, width: int, dtype: Any) -> bool:
    """Whether attention is the paper's, and nobody wants its weights."""
    if not is_plain(attention, MultiheadAttention):
        return False
    if attention.q_norm is not None or attention.rotary is not None or attention.alibi:
        return False
    return attention.num_kv_heads == attention.num_heads and is_newer_attention(attention, width, dtype)


def is_newer_attention(attention: MultiheadAttention, width: int, dtype: Any) -> bool:
    """Whether it is self-attention with any of its options but dropout, and nobody wants its weights."""
    if not is_plain(attention, MultiheadAttention) or attention.training or attention.recorded_weights is not None:
        return False
    norms, rotary, head = (attention.q_norm, attention.k_norm), attention.rotary, attention.head_dim
    if norms != (None, None) and not all(norm and is_plain_norm(norm, RMSNorm, head, dtype) for norm in norms):
        return False
    if rotary is not None and not (is_plain(rotary, RotaryPositionalEncoding) and rotary.dim == head):
        return False
    parameters, rows = (attention.in_proj_weight, attention.in_proj_bias), width + 2 * attention.kv_size
    return (
        attention.embed_dim == width
        and attention.in_proj_weight is not None
        and _is(parameters, [(rows, width), (rows,)], dtype)
        and is_plain_linear(attention.out_proj, width, width, dtype)
    )


def is_plain_norm(norm: Module, kind: type[LayerNorm] | type[RMSNorm], width: int, dtype: Any) -> bool:
    """Whether it is a norm of this kind over a last axis of this size and dtype."""
    if not is_plain(norm, kind) or tuple(norm.normalized_shape) != (width,):
        return False
    bias = norm.bias if isinstance(norm, LayerNorm) else None
    return _is((norm.weight, bias), [(width,), (width,)], dtype)


def _is(parameters: tuple[Tensor | None, ...], shapes: list[tuple[int, ...]], dtype: Any) -> bool:
    """Whether the parameters that there are have these shapes and this dtype."""
    return all(
        parameter is None or (parameter.shape == shape and parameter.dtype == dtype)
        for parameter, shape in zip(parameters, shapes, strict=True)
    )
