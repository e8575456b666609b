"""encode_at_once: a `TransformerEncoder` on a few short sentences, as programs of kernels.

Called from Python one by one, the ops of an encoder take longer than what they compute for a sentence. Here a thread
takes its share of the rows, positions of all sentences, through everything between two attentions: a launch for each
layer, and one before. What is computed is what `TransformerEncoder` computes, to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels.decoder.attend import Attend, attend_call
from tinygrad_attn.kernels.decoder.linear import linear_of, rows_call
from tinygrad_attn.kernels.decoder.program import Call, Program
from tinygrad_attn.kernels.gemm.cache import lent
from tinygrad_attn.kernels.gemm.packed import pack
from tinygrad_attn.nn.fused_steps import array_of, norm_call
from tinygrad_attn.nn.fusing import is_plain_stack
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import is_plain
from tinygrad_attn.nn.norm import LayerNorm
from tinygrad_attn.nn.transformer import TransformerEncoder
from tinygrad_attn.nn.transformer_layers import TransformerEncoderLayer
from tinygrad_attn.tensor import Tensor

__all__ = ["encode_at_once"]

Array = np.ndarray[Any, Any]

_MOST_ROWS = 512  # with more, their vectors leave the cache between two products; ops that block them are as fast


def encode_at_once(encoder: TransformerEncoder, src: Tensor, padding: Tensor) -> Tensor | None:
    """``encoder(src, src_key_padding_mask=padding)``, or None where that is for the encoder itself to do.

    It is for what `tinygrad_attn.nn.fused_decoder.can_fuse` says of decoders, and for up to 512 positions. Inside
    `tinygrad_attn.nn.frozen_weights` the programs are made once for sources of the same shape that follow each other.

    Args:
        encoder: with ``batch_first``.
        src: (B, S, d_model).
        padding: bool (B, S), True where there is padding.
    """
    if not _can_fuse(encoder, src, padding):
        return None
    shape, dtype = src.shape, src.dtype
    user = _User()
    steps = lent(
        ("encoder", id(encoder), dtype),
        (encoder,),
        user,
        lambda: _Steps(shape, dtype, encoder),
        lambda it: it.shape == shape,
    )
    return Tensor(steps.run(src.array, padding.array))


class _User:
    """Has an encoder's arrays until its result is copied."""


def _can_fuse(encoder: TransformerEncoder, src: Tensor, padding: Tensor) -> bool:
    if src.ndim != 3 or not 0 < src.shape[0] * src.shape[1] <= _MOST_ROWS:
        return False
    if padding.dtype != np.bool_ or padding.shape != src.shape[:2] or not is_plain(encoder, TransformerEncoder):
        return False
    return is_plain_stack(encoder, TransformerEncoderLayer, src.shape[2], src.dtype) and all(
        layer.self_attn.batch_first  # type: ignore[attr-defined]  # says is_plain_stack
        for layer in encoder.layers
    )


class _Steps:
    """The programs of an encoder, and the arrays that they work on, for sources of one shape (B, S, d_model)."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, encoder: TransformerEncoder) -> None:
        self.shape = batch, length, size = shape
        self._rows = rows = batch * length
        self._x, self._branch, self._heads = np.empty((3, rows, size), dtype)
        # Where a layer's queries, keys and values are read, the next one's are written beside them.
        self._projected = np.empty((2, rows, 3 * size), dtype)
        self._sentences = np.repeat(np.arange(batch), length)
        self._mask, self._length = np.empty((batch, length), np.bool_), np.array([length])
        self._encoder = encoder  # lives as long as this, which is found by its id
        layers: list[TransformerEncoderLayer] = list(encoder.layers)  # type: ignore[arg-type]
        calls: list[Call] = []
        self._programs = []  # to be run one after the other
        for number, layer in enumerate(layers):
            calls += self._project(layer, self._projected[number % 2])
            self._programs.append(Program(calls))
            calls = self._attend(layer, self._projected[number % 2]) + self._feed_forward(layer)
        self._result = self._x
        if isinstance(encoder.norm, LayerNorm):
            calls.append(norm_call(encoder.norm, self._x, self._branch))
            self._result = self._branch
        self._programs.append(Program(calls))

    def run(self, src: Array, padding: Array) -> Array:
        """The encoder's output for a source of this shape."""
        self._x[...] = src.reshape(self._x.shape)
        np.logical_not(padding, out=self._mask)
        for program in self._programs:
            program.run(self._rows)
        return self._result.reshape(self.shape).copy()

    def _project(self, layer: TransformerEncoderLayer, projected: Array) -> list[Call]:
        attention = layer.self_attn
        calls, x = self._before(layer, layer.norm1)
        packed = pack(attention.in_proj_weight.array.T)  # type: ignore[union-attr]  # says _can_fuse
        return [*calls, rows_call(x.dtype, linear_of(packed, array_of(attention.in_proj_bias), x, projected))]

    def _attend(self, layer: TransformerEncoderLayer, projected: Array) -> list[Call]:
        attention, (length,) = layer.self_attn, self._length
        heads, width, wide = attention.num_heads, attention.head_dim, projected.shape[1]
        keys = projected.reshape(-1)[heads * width :]
        where = (keys, wide, int(length) * wide, self._sentences, 1, 0, self._length, self._mask, len(self._mask))
        scores = np.empty((len(projected), heads * int(length)), projected.dtype)
        arguments = Attend(
            projected, wide, *where, self._heads, scores, int(length), heads, width, 1.0 / math.sqrt(width)
        )
        return [
            attend_call(projected.dtype, arguments),
            *self._after(layer, attention.out_proj, self._heads, layer.norm1),
        ]

    def _feed_forward(self, layer: TransformerEncoderLayer) -> list[Call]:
        inner = np.empty((len(self._x), layer.linear1.weight.shape[0]), self._x.dtype)
        calls, x = self._before(layer, layer.norm2)
        return [
            *calls,
            _linear(layer.linear1, x, inner, relu=True),
            *self._after(layer, layer.linear2, inner, layer.norm2),
        ]

    def _before(self, layer: TransformerEncoderLayer, norm: Any) -> tuple[list[Call], Array]:
        """What comes before a sublayer, and what it reads."""
        if layer.norm_first:
            return [norm_call(norm, self._x, self._branch)], self._branch
        return [], self._x

    def _after(self, layer: TransformerEncoderLayer, last: Linear, inner: Array, norm: Any) -> list[Call]:
        """The last map of a sublayer, and what comes after it."""
        if layer.norm_first:
            return [_linear(last, inner, self._x, add=True)]
        return [_linear(last, inner, self._branch), norm_call(norm, self._x, self._x, self._branch)]


def _linear(linear: Linear, x: Array, y: Array, *, relu: bool = False, add: bool = False) -> Call:
    packed = pack(linear.weight.array.T)
    return rows_call(x.dtype, linear_of(packed, array_of(linear.bias), x, y, relu=relu, add=add))
