"""FusedDecoder: the steps of a `TransformerDecoder`, from tokens to logits, as one program of kernels.

`TransformerDecoder.step` calls some twenty ops a layer from Python, which takes longer than what they compute when
there are few rows. Here a step is a `tinygrad_attn.kernels.decoder.program.Program`, run in one launch. Weights are
packed once (inside `tinygrad_attn.nn.frozen_weights` once for all decoders), keys and values are written in place, and
choosing hypotheses copies none of them. What is computed is what `TransformerDecoder.step` and the output layer
compute, to rounding.
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
from tinygrad_attn.nn.fusing import is_plain_linear, is_plain_stack
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.transformer import DecoderState, TransformerDecoder
from tinygrad_attn.nn.transformer_layers import TransformerDecoderLayer
from tinygrad_attn.tensor import Tensor

__all__ = ["FusedDecoder", "TokenVectors", "can_fuse"]

Array = np.ndarray[Any, Any]

_FIRST_CAPACITY = 64  # positions


def can_fuse(decoder: TransformerDecoder, state: DecoderState, output: Module | None = None) -> bool:
    """Whether `FusedDecoder` computes what this decoder does, and nobody wants to see how.

    It is for `nn.TransformerDecoderLayer` itself with relu, in evaluation mode, without gradients, recordings or
    `unfused()`, and for masks that are bool. Subclasses, and modules whose ``forward`` was assigned, may compute
    something else, inside a layer too.

    Args:
        decoder: of any layers.
        state: the result of ``decoder.start``.
        output: the map to logits, if it is to be asked about too.
    """
    if state.memory_mask is not None and state.memory_mask.dtype != np.bool_:
        return False
    if not is_plain(decoder, TransformerDecoder) or len(state.layers) != len(decoder.layers):
        return False
    if not all(is_plain(layer, TransformerDecoderLayer) for layer in decoder.layers):
        return False
    memory = state.layers[0].memory.joined
    width = memory.shape[2] // 2
    if output is not None and not (
        is_plain(output, Linear) and is_plain_linear(output, output.weight.shape[0], width, memory.dtype)
    ):
        return False
    return is_plain_stack(decoder, TransformerDecoderLayer, width, memory.dtype)


class _Buffers:
    """What a step reads and writes, for at most R rows; a program holds the addresses."""

    def __init__(self, rows: int, size: int, inner: int, symbols: int, dtype: Any) -> None:
        self.tokens = np.zeros(rows, np.int64)
        self.vector = np.zeros(size, dtype)
        self.x, self.branch, self.heads = np.empty((3, rows, size), dtype)
        self.wide = np.empty((rows, max(3 * size, inner)), dtype)
        self.logits = np.empty((rows, symbols), dtype)
        self.rows, self.position, self.count = np.zeros((3, 1), np.int64)
        """How many rows there are, the position that is read, and how many positions there are with it."""


class _Memory(NamedTuple):
    """The source's keys and values."""

    sentences: Array  # (R,) the sentence of each row
    mask: Array | None  # bool (sentences, S)
    length: Array  # (1,), S


class TokenVectors(NamedTuple):
    """What a decoder reads for a token at a position: ``scale * weight[token] + position(t)``."""

    weight: Tensor
    """(V, d_model)."""
    position: Callable[[int], Array]
    """The vector (d_model,) of a position."""
    scale: float


class FusedDecoder:
    """Reads a token for each of at most ``rows`` hypotheses at a time.

    Args:
        decoder: as `can_fuse` has it.
        embedding: of its tokens.
        output: the linear map to logits.
        state: the result of ``decoder.start``, for B sentences, one row each.
        rows: R, at least B.
        int8: round the weights of all matrix products to 8 bits, a scale for each output (see
            `tinygrad_attn.kernels.decoder.int8`).

    Raises:
        ValueError: ``int8`` with parameters that are not float32; or an embedding or output of another size or dtype
            than the decoder.
    """

    gather_share = 0.0
    """Choosing rows costs next to nothing, so that none that has ended need stay."""

    def __init__(
        self, decoder: TransformerDecoder, embedding: TokenVectors, output: Linear, state: DecoderState, rows: int,
        int8: bool = False,
    ) -> None:  # fmt: skip
        if int8 and embedding.weight.dtype != np.float32:
            raise ValueError(f"FusedDecoder: int8 is for float32 parameters, these are {embedding.weight.dtype}")
        self._decoder = decoder
        self._pack: Callable[[Array], Packed | Int8] = pack_int8 if int8 else pack
        self._layers: list[TransformerDecoderLayer] = list(decoder.layers)  # type: ignore[arg-type]
        self._embedding = embedding
        self._output = output
        self._size, self._dtype = embedding.weight.shape[1], embedding.weight.dtype
        inner = max(layer.linear1.weight.shape[0] for layer in self._layers)
        self._buffers = _Buffers(rows, self._size, inner, output.weight.shape[0], self._dtype)
        self._joined = [np.ascontiguousarray(layer.memory.all().array) for layer in state.layers]
        self._check()
        sentences, length = self._joined[0].shape[:2]
        mask = None if state.memory_mask is None else np.ascontiguousarray(state.memory_mask.array).reshape(-1, length)
        self._memory = _Memory(np.zeros(rows, np.int64), mask, np.array([length]))
        self._memory.sentences[:sentences] = np.arange(sentences)
        self._rows = sentences
        self._capacity = 0
        self._past: list[Array] = []
        self._slots = np.empty((rows, 0), np.int64)
        self._reserve(_FIRST_CAPACITY)

    def _check(self) -> None:
        """Raise unless embedding and output are for the decoder: kernels see only where their arrays begin."""
        size, dtype = self._joined[0].shape[2] // 2, self._joined[0].dtype
        for name, weight in (("embedding", self._embedding.weight), ("output", self._output.weight)):
            if weight.shape[1:] != (size,) or weight.dtype != dtype:
                raise ValueError(
                    f"FusedDecoder: the decoder is for vectors of size {size} of {dtype}, the weight of the {name} is "
                    f"{weight.shape} of {weight.dtype}"
                )

    def step(self, tokens: Array) -> Array:
        """The logits (R, V) of the next token after R tokens at the next position.

        The result is overwritten by the next step.
        """
        b, position, rows = self._buffers, int(self._buffers.count[0]), self._rows
        if position == self._capacity:
            self._reserve(2 * position)
        b.tokens[:rows] = tokens
        b.vector[...] = self._embedding.position(position)
        self._slots[:rows, position] = np.arange(rows)
        b.rows[0], b.position[0], b.count[0] = rows, position, position + 1
        self._program.run(rows)
        self._to_logits.run(self._panels)
        return b.logits[:rows]

    def choose(self, rows: Array) -> None:
        """Go on from these rows, in this order; a row may be chosen more than once."""
        count = int(self._buffers.count[0])
        self._slots[: len(rows), :count] = self._slots[rows, :count]
        self._memory.sentences[: len(rows)] = self._memory.sentences[rows]
        self._rows = len(rows)

    # -- the program ---------------------------------------------------------------------------------------------------

    def _reserve(self, capacity: int) -> None:
        """Make room for so many positions."""
        before, rows, used = self._capacity, len(self._buffers.tokens), int(self._buffers.count[0])
        past = [np.empty((capacity, rows, 2 * self._size), self._dtype) for _ in self._layers]
        slots = np.empty((rows, capacity), np.int64)
        for old, new in zip(self._past, past, strict=False):
            new[:used] = old[:used]
        slots[:, :before] = self._slots
        self._past, self._slots, self._capacity = past, slots, capacity
        most = max(capacity, int(self._memory.length[0]))
        heads = max(layer.self_attn.num_heads for layer in self._layers)
        self._scores = np.empty((rows, heads * most), self._dtype)
        self._program = Program(self._calls(most))
        x = self._buffers.x
        if self._decoder.norm is not None:
            x = self._buffers.branch
        packed = self._pack(self._output.weight.array.T)
        linear = linear_of(packed, _array(self._output.bias), x, self._buffers.logits, rows=self._buffers.rows)
        self._to_logits, self._panels = Program([columns_call(self._dtype, linear)]), len(packed.panels)

    def _calls(self, most: int) -> list[Call]:
        """The kernels of a step, up to the output layer, where at most so many keys are attended to."""
        b = self._buffers
        embed = Embed(b.tokens, self._embedding.weight.array, b.vector, b.x, self._size, self._embedding.scale)
        calls = [embed_call(self._dtype, embed)]
        for number, layer in enumerate(self._layers):
            calls += self._sublayer(layer.norm1, layer.norm_first, self._self_attention(number, layer, most))
            calls += self._sublayer(layer.norm2, layer.norm_first, self._attention(number, layer, most))
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

    def _self_attention(
        self, number: int, layer: TransformerDecoderLayer, most: int
    ) -> Callable[[Array, bool], list[Call]]:
        b, size, rows = self._buffers, self._size, len(self._buffers.tokens)
        past, attention = self._past[number], layer.self_attn
        own = b.wide.reshape(-1)[size:]  # in each row the queries, and from here on keys and values
        append = Append(own, b.wide.shape[1], past, rows, b.position, 2 * size)
        keys = _Keys(past, rows * 2 * size, 2 * size, self._slots, self._capacity, 1, b.count, None)

        def calls(x: Array, add: bool) -> list[Call]:
            return [
                self._linear(attention.in_proj_weight, attention.in_proj_bias, x, b.wide),
                append_call(self._dtype, append),
                self._attend(attention, keys, most),
                self._onward(attention.out_proj, b.heads, add),
            ]

        return calls

    def _attention(self, number: int, layer: TransformerDecoderLayer, most: int) -> Callable[[Array, bool], list[Call]]:
        b, size, memory = self._buffers, self._size, self._memory
        attention, joined = layer.multihead_attn, self._joined[number]
        keys = _Keys(joined, 2 * size, joined.shape[1] * 2 * size, memory.sentences, 1, 0, memory.length, memory.mask)

        def calls(x: Array, add: bool) -> list[Call]:
            return [
                self._linear(attention.in_proj_weight, attention.in_proj_bias, x, b.wide, queries=True),
                self._attend(attention, keys, most),
                self._onward(attention.out_proj, b.heads, add),
            ]

        return calls

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

    def _attend(self, attention: MultiheadAttention, keys: _Keys, most: int) -> Call:
        b, heads, width = self._buffers, attention.num_heads, attention.head_dim
        slots = 0 if keys.mask is None else len(keys.mask)
        arguments = Attend(
            b.wide, b.wide.shape[1], *keys, slots, b.heads, self._scores, most, heads, width, 1.0 / math.sqrt(width)
        )  # fmt: skip
        return attend_call(self._dtype, arguments)

    def _norm(self, norm: LayerNorm, x: Array, y: Array, residual: Array | None = None) -> Call:
        return layer_norm_call(x, y, _array(norm.weight), _array(norm.bias), norm.eps, residual)


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


def _array(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else tensor.array
