"""Whether the layers of a stack are those whose computation is known, so that a program of kernels may stand for them.

A program reads parameters and calls no ``forward``. So every module must be of the engine's own class, and the
parameters of the sizes and the dtype for which the program's arrays are made.
"""

from __future__ import annotations

from typing import Any

from tinygrad_attn.modes import current_modes
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm
from tinygrad_attn.nn.transformer import TransformerDecoder, TransformerEncoder
from tinygrad_attn.nn.transformer_layers import TransformerLayer
from tinygrad_attn.ops.activation import relu
from tinygrad_attn.tensor import Tensor

__all__ = ["is_plain_linear", "is_plain_stack"]


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
    modes = current_modes()
    if stack.training or modes.grad or modes.observers or modes.unfused or not len(stack.layers):
        return False
    return (stack.norm is None or _is_plain_norm(stack.norm, width, dtype)) and all(
        is_plain(layer, kind) and _is_plain_layer(layer, width, dtype)  # type: ignore[arg-type]
        for layer in stack.layers
    )


def is_plain_linear(linear: Module, outputs: int, inputs: int, dtype: Any) -> bool:
    """Whether it is y = x Wᵀ + b for W of this shape and dtype."""
    return is_plain(linear, Linear) and _is((linear.weight, linear.bias), [(outputs, inputs), (outputs,)], dtype)


def _is_plain_layer(layer: TransformerLayer, width: int, dtype: Any) -> bool:
    if layer.activation is not relu:
        return False
    attentions, norms, dropouts = [layer.self_attn], [layer.norm1, layer.norm2], [layer.dropout, layer.dropout1]
    dropouts.append(layer.dropout2)
    if layer.attends_to_memory:
        attentions.append(layer.multihead_attn)
        norms.append(layer.norm3)
        dropouts.append(layer.dropout3)
    return (
        all(_is_plain_attention(attention, width, dtype) for attention in attentions)
        and len({attention.batch_first for attention in attentions}) == 1
        and all(_is_plain_norm(norm, width, dtype) for norm in norms)
        and all(is_plain(dropout, Dropout) and not dropout.training for dropout in dropouts)
        and is_plain(layer.linear1, Linear)
        and is_plain_linear(layer.linear1, inner := layer.linear1.weight.shape[0], width, dtype)
        and is_plain_linear(layer.linear2, width, inner, dtype)
    )


def _is_plain_attention(attention: MultiheadAttention, width: int, dtype: Any) -> bool:
    """Whether attention is the paper's, and nobody wants its weights."""
    if not is_plain(attention, MultiheadAttention) or attention.training or attention.recorded_weights is not None:
        return False
    if attention.q_norm is not None or attention.rotary is not None or attention.alibi:
        return False
    parameters = (attention.in_proj_weight, attention.in_proj_bias)
    return (
        attention.embed_dim == width
        and attention.num_kv_heads == attention.num_heads
        and attention.in_proj_weight is not None
        and _is(parameters, [(3 * width, width), (3 * width,)], dtype)
        and is_plain_linear(attention.out_proj, width, width, dtype)
    )


def _is_plain_norm(norm: Module, width: int, dtype: Any) -> bool:
    if not is_plain(norm, LayerNorm) or tuple(norm.normalized_shape) != (width,):
        return False
    return _is((norm.weight, norm.bias), [(width,), (width,)], dtype)


def _is(parameters: tuple[Tensor | None, ...], shapes: list[tuple[int, ...]], dtype: Any) -> bool:
    """Whether the parameters that there are have these shapes and this dtype."""
    return all(
        parameter is None or (parameter.shape == shape and parameter.dtype == dtype)
        for parameter, shape in zip(parameters, shapes, strict=True)
    )
