"""The steps of a decoder as one program of kernels, which goes from one source to the next.

`tinygrad_attn.nn.fused_decoder` says what is computed. What takes time to make is here: the packed weights, the arrays
that the kernels write, and the kernels' arguments, which hold the arrays' addresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.decoder.attend import Attend, attend_call
from tinygrad_attn.kernels.decoder.int8 import Int8, pack_int8
from tinygrad_attn.kernels.decoder.linear import columns_call, linear_of, rows_call
from tinygrad_attn.kernels.decoder.program import Call, Program
from tinygrad_attn.kernels.decoder.rows import Append, Embed, append_call, embed_call
from tinygrad_attn.kernels.gemm.packed import Packed, pack
from tinygrad_attn.kernels.layernorm import layer_norm_call
from tinygrad_attn.kernels.runtime.structs import Struct
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.transformer import TransformerDecoder
from tinygrad_attn.nn.transformer_layers import TransformerDecoderLayer
from tinygrad_attn.tensor import Tensor

__all__ = ["Steps"]

Array = np.ndarray[Any, Any]

_FIRST_CAPACITY = 64  # positions


class _Buffers:
    """What a step reads and writes, for at most R rows; a program holds the addresses."""

    def __init__(self, rows: int, size: int, inner: int, symbols: int, dtype: Any) -> None:
        self.tokens = np.zeros(rows, np.int64)
        self.vector = np.zeros(size, dtype)
        self.x, self.branch, self.heads = np.empty((3, rows, size), dtype)
        self.wide = np.empty((rows, max(3 * size, inner)), dtype)
        self.logits = np.empty((rows, symbols), dtype)
        self.sentences = np.zeros(rows, np.int64)
        """The sentence of each row, whose source it attends to."""
        self.rows, self.position, self.count, self.length, self.wrong = np.zeros((5, 1), np.int64)
        """How many rows there are, the position that is read, how many positions there are with it, the length of the
        source, and whether a token is no row of the embedding."""


class _Keys(NamedTuple):
    """The fields of `Attend` that say where keys and values lie."""

    joined: Array
    position_stride: int
    slot_stride: int
    slots: Array
    slots_row: int
    slots_position: int
    length: Array
    mask: Array | None


class Steps:
    """The arrays and kernels of a decoder's steps.

    Args:
        decoder: as `tinygrad_attn.nn.can_fuse` has it.
        weight: of the embedding, (V, d_model).
        scale: of its vectors.
        output: the linear map to logits.
        most_rows: how many rows there may be.
        int8: round the weights of all matrix products to 8 bits.
    """

    def __init__(
        self, decoder: TransformerDecoder, weight: Tensor, scale: float, output: Linear, most_rows: int, int8: bool
    ) -> None:  # fmt: skip
        self._decoder, self._weight, self._scale, self._output = decoder, weight, scale, output
        self._pack: Callable[[Array], Packed | Int8] = pack_int8 if int8 else pack
        self._layers: list[TransformerDecoderLayer] = list(decoder.layers)  # type: ignore[arg-type]
        self._size, self._dtype = weight.shape[1], weight.dtype
        self.most_rows = most_rows
        inner = max(layer.linear1.weight.shape[0] for layer in self._layers)
        self._buffers = _Buffers(most_rows, self._size, inner, output.weight.shape[0], self._dtype)
        self._capacity = self._most_keys = 0
        self._past: list[Array] = []
        self._slots = np.empty((most_rows, 0), np.int64)
        self._joined: list[Array] = []
        self._mask: Array | None = None

    @property
    def count(self) -> int:
        """How many positions have been read."""
        return int(self._buffers.count[0])

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self._buffers.rows[0])

    def begin(self, joined: list[Array], mask: Array | None) -> None:
        """Begin with a row for each of B sentences.

        Args:
            joined: each layer's keys and values of the sources, (B, S, 2 d_model), C-contiguous.
            mask: bool (B, S), True where a row may attend, or None.
        """
        b = self._buffers
        sentences, length = joined[0].shape[:2]
        self._joined, self._mask = joined, mask
        b.sentences[:sentences] = np.arange(sentences)
        b.rows[0], b.count[0], b.length[0], b.wrong[0] = sentences, 0, length, 0
        if self._capacity == 0 or length > self._most_keys:
            self._reserve(max(self._capacity, _FIRST_CAPACITY))
            return
        for number, (layer, struct) in enumerate(zip(self._layers, self._to_memory, strict=True)):
            struct.become(self._attend(layer.multihead_attn, self._memory_keys(number)))

    def run(self, tokens: Array, vector: Array) -> Array | None:
        """The logits (R, V) after R tokens, to whose vectors ``vector`` is added; None, and nothing has changed, if a
        token is no row of the embedding. The result is overwritten by the next step."""
        b, position, rows = self._buffers, self.count, self.rows
        if position == self._capacity:
            self._reserve(2 * position)
        b.tokens[:rows] = tokens
        b.vector[...] = vector
        self._slots[:rows, position] = np.arange(rows)
        b.position[0], b.count[0] = position, position + 1
        self._program.run(rows)
        if b.wrong[0]:
            b.count[0], b.wrong[0] = position, 0
            return None
        self._to_logits.run(self._panels)
        return b.logits[:rows]

    def choose(self, rows: Array) -> None:
        """Go on from these rows.

        Raises:
            IndexError: there is no such row.
        """
        b, count, number = self._buffers, self.count, self.rows
        self._slots[: len(rows), :count] = self._slots[:number, :count][rows]
        b.sentences[: len(rows)] = b.sentences[:number][rows]
        b.rows[0] = len(rows)

    # -- the program ---------------------------------------------------------------------------------------------------

    def _reserve(self, capacity: int) -> None:
        """Make room for so many positions."""
        before, rows, used = self._capacity, self.most_rows, self.count
        past = [np.empty((capacity, rows, 2 * self._size), self._dtype) for _ in self._layers]
        slots = np.empty((rows, capacity), np.int64)
        for old, new in zip(self._past, past, strict=False):
            new[:used] = old[:used]
        slots[:, :before] = self._slots
        self._past, self._slots, self._capacity = past, slots, capacity
        self._most_keys = max(capacity, int(self._buffers.length[0]), self._most_keys)
        heads = max(layer.self_attn.num_heads for layer in self._layers)
        self._scores = np.empty((rows, heads * self._most_keys), self._dtype)
        self._to_memory: list[Struct] = []
        self._program = Program(self._calls())
        x = self._buffers.x
        if self._decoder.norm is not None:
            x = self._buffers.branch
        packed = self._pack(self._output.weight.array.T)
        linear = linear_of(packed, _array(self._output.bias), x, self._buffers.logits, rows=self._buffers.rows)
        self._to_logits, self._panels = Program([columns_call(self._dtype, linear)]), len(packed.panels)

    def _calls(self) -> list[Call]:
        """The kernels of a step, up to the output layer."""
        b, table = self._buffers, self._weight.array
        embed = Embed(b.tokens, table, b.vector, b.x, self._size, self._scale, len(table), b.wrong)
        calls = [embed_call(self._dtype, embed)]
        for number, layer in enumerate(self._layers):
            calls += self._sublayer(layer.norm1, layer.norm_first, self._self_attention(number, layer))
            calls += self._sublayer(layer.norm2, layer.norm_first, self._attention(number, layer))
            calls += self._sublayer(layer.norm3, layer.norm_first, self._feed_forward(layer))
        if isinstance(self._decoder.norm, LayerNorm):
            calls.append(self._norm(self._decoder.norm, b.x, b.branch))
        return calls

    def _sublayer(
        self, norm: LayerNorm | RMSNorm, norm_first: bool, calls: Callable[[Array, bool], list[Call]]
    ) -> list[Call]:
        """norm(x + sublayer(x)), or x + sublayer(norm(x)).

        ``calls`` are the sublayer's, given what it reads and whether it adds to x or writes to the branch.
        """
        b = self._buffers
        assert isinstance(norm, LayerNorm)  # says can_fuse
        if norm_first:
            return [self._norm(norm, b.x, b.branch), *calls(b.branch, True)]
        return [*calls(b.x, False), self._norm(norm, b.x, b.x, b.branch)]

    def _self_attention(self, number: int, layer: TransformerDecoderLayer) -> Callable[[Array, bool], list[Call]]:
        b, size, rows = self._buffers, self._size, self.most_rows
        past, attention = self._past[number], layer.self_attn
        own = b.wide.reshape(-1)[size:]  # in each row the queries, and from here on keys and values
        append = Append(own, b.wide.shape[1], past, rows, b.position, 2 * size)
        keys = _Keys(past, rows * 2 * size, 2 * size, self._slots, self._capacity, 1, b.count, None)

        def calls(x: Array, add: bool) -> list[Call]:
            return [
                self._linear(attention.in_proj_weight, attention.in_proj_bias, x, b.wide),
                append_call(self._dtype, append),
                attend_call(self._dtype, self._attend(attention, keys)),
                self._onward(attention.out_proj, b.heads, add),
            ]

        return calls

    def _attention(self, number: int, layer: TransformerDecoderLayer) -> Callable[[Array, bool], list[Call]]:
        attention = layer.multihead_attn
        attend = attend_call(self._dtype, self._attend(attention, self._memory_keys(number)))
        self._to_memory.append(attend[1])

        def calls(x: Array, add: bool) -> list[Call]:
            return [
                self._linear(attention.in_proj_weight, attention.in_proj_bias, x, self._buffers.wide, queries=True),
                attend,
                self._onward(attention.out_proj, self._buffers.heads, add),
            ]

        return calls

    def _memory_keys(self, number: int) -> _Keys:
        """A layer's keys and values of the sources."""
        b, joined, position = self._buffers, self._joined[number], 2 * self._size
        return _Keys(joined, position, joined.shape[1] * position, b.sentences, 1, 0, b.length, self._mask)

    def _feed_forward(self, layer: TransformerDecoderLayer) -> Callable[[Array, bool], list[Call]]:
        b = self._buffers

        def calls(x: Array, add: bool) -> list[Call]:
            inner = self._linear(layer.linear1.weight, layer.linear1.bias, x, b.wide, relu=True)
            return [inner, self._onward(layer.linear2, b.wide, add)]

        return calls

    def _onward(self, linear: Linear, x: Array, add: bool) -> Call:
        """The last map of a sublayer: it adds to x, or writes to the branch."""
        y = self._buffers.x if add else self._buffers.branch
        return self._linear(linear.weight, linear.bias, x, y, add=add)

    def _linear(
        self, weight: Tensor | None, bias: Tensor | None, x: Array, y: Array, *, queries: bool = False,
        relu: bool = False, add: bool = False,
    ) -> Call:  # fmt: skip
        """A linear map; with ``queries`` of the first d_model rows of its weight alone."""
        assert weight is not None
        rows = slice(self._size if queries else None)
        packed = self._pack(weight.array[rows].T)
        return rows_call(
            self._dtype, linear_of(packed, None if bias is None else bias.array[rows], x, y, relu=relu, add=add)
        )

    def _attend(self, attention: MultiheadAttention, keys: _Keys) -> Attend:
        b, heads, width = self._buffers, attention.num_heads, attention.head_dim
        slots, most = 0 if keys.mask is None else len(keys.mask), self._most_keys
        return Attend(
            b.wide, b.wide.shape[1], *keys, slots, b.heads, self._scores, most, heads, width, 1.0 / math.sqrt(width)
        )  # fmt: skip

    def _norm(self, norm: LayerNorm, x: Array, y: Array, residual: Array | None = None) -> Call:
        return layer_norm_call(x, y, _array(norm.weight), _array(norm.bias), norm.eps, residual)


def _array(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else tensor.array
