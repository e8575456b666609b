"""FusedSteps: what decoders share whose step, from tokens to logits, is one program of kernels.

What takes time to make is here: the packed weights, the arrays that the kernels write, and the kernels' arguments,
which hold the arrays' addresses. Keys and values are written in place, and choosing hypotheses copies none of them:
each row has a table of where its keys lie (see `tinygrad_attn.kernels.decoder.attend`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.decoder.attend import Attend, attend_call
from tinygrad_attn.kernels.decoder.heads import Heads, heads_call
from tinygrad_attn.kernels.decoder.int8 import Int8, pack_int8
from tinygrad_attn.kernels.decoder.linear import Linear as LinearMap
from tinygrad_attn.kernels.decoder.linear import columns_call, linear_of, rows_call
from tinygrad_attn.kernels.decoder.program import Call, Program
from tinygrad_attn.kernels.decoder.rows import Append, Embed, append_call, embed_call
from tinygrad_attn.kernels.gemm.packed import Packed, pack
from tinygrad_attn.kernels.layernorm import layer_norm_call
from tinygrad_attn.kernels.rmsnorm import rms_norm_call
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.positional import alibi_slopes
from tinygrad_attn.ops.fused.rotary import rotary_tables
from tinygrad_attn.tensor import Tensor

__all__ = ["FIRST_CAPACITY", "FusedSteps", "Keys", "Maps", "array_of", "norm_call"]

Array = np.ndarray[Any, Any]

FIRST_CAPACITY = 64  # positions
_SERIAL_WORK = 60_000  # multiplications of a row up to which waking the threads costs more than they save


class Maps(NamedTuple):
    """From tokens to vectors, and from the last vectors to logits."""

    embedding: Tensor
    """(V, d_model)."""
    scale: float
    """By which its vectors are multiplied."""
    output: Tensor
    """(V, d_model)."""
    bias: Tensor | None


class Keys(NamedTuple):
    """The fields of `Attend` that say where keys and values lie."""

    joined: Array
    position_stride: int
    slot_stride: int
    slots: Array
    slots_row: int
    slots_position: int
    length: Array
    mask: Array | None


class _Buffers:
    """What a step reads and writes, for at most R rows; a program holds the addresses."""

    def __init__(self, rows: int, size: int, inner: int, symbols: int, dtype: Any) -> None:
        self.tokens = np.zeros(rows, np.int64)
        self.vector = np.zeros((rows, size), dtype)
        self.x, self.branch, self.heads = np.empty((3, rows, size), dtype)
        self.wide, self.gate = np.empty((2, rows, max(3 * size, inner)), dtype)
        self.logits = np.empty((rows, symbols), dtype)
        self.rows, self.position, self.count, self.wrong = np.zeros((4, 1), np.int64)
        """How many rows there are, the position that is read, how many positions there are with it, and whether a token
        is no row of the embedding."""


class FusedSteps(ABC):
    """The arrays and kernels of steps; a subclass says of which kernels they consist.

    Args:
        attentions: each layer's self-attention.
        inner: the largest inner size of a feed-forward network.
        maps: at both ends.
        most_rows: how many rows there may be.
        int8: round the weights of all matrix products to 8 bits.
        chunk: how many positions of one text are read at a time by a program of `_reads`, if there is one.
    """

    called = ""
    """The class that users have, for errors."""

    def __init__(
        self, attentions: Sequence[MultiheadAttention], inner: int, maps: Maps, most_rows: int, int8: bool,
        chunk: int = 1,
    ) -> None:  # fmt: skip
        self._attentions, self._maps = list(attentions), maps
        self._pack: Callable[[Array], Packed | Int8] = pack_int8 if int8 else pack
        self._packed: dict[tuple[int, bool], Packed | Int8] = {}
        self._size, self._dtype = maps.embedding.shape[1], maps.embedding.dtype
        self.most_rows = most_rows
        self._buffers = _Buffers(max(most_rows, chunk), self._size, inner, maps.output.shape[0], self._dtype)
        self._capacity = self._most_keys = 0
        self._past: list[Array] = []
        self._slots = np.empty((most_rows, 0), np.int64)
        self._to_logits: Program | None = None

    @property
    def count(self) -> int:
        """How many positions have been read."""
        return int(self._buffers.count[0])

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self._buffers.rows[0])

    def run(self, tokens: Array, vector: Array | float) -> Array | None:
        """The logits (R, V) after R tokens, to whose vectors ``vector`` is added; None, and nothing has changed, if a
        token is no row of the embedding. The result is overwritten by the next step."""
        b, position, rows = self._buffers, self.count, self.rows
        if position == self._capacity:
            self._reserve(2 * position)
        b.tokens[:rows] = tokens
        b.vector[0] = vector
        self._slots[:rows, position] = np.arange(rows)
        b.position[0], b.count[0] = position, position + 1
        self._program.run(rows)
        if b.wrong[0]:
            b.count[0], b.wrong[0] = position, 0
            return None
        if self._to_logits is not None:
            self._to_logits.run(self._panels)
        return b.logits[:rows]

    def choose(self, rows: Array) -> None:
        """Go on from these rows, in this order; a row may be chosen more than once.

        Raises:
            ValueError: more rows than there may be.
            IndexError: there is no such row.
        """
        count, number, name = self.count, self.rows, self.called
        if len(rows) > self.most_rows:
            raise ValueError(f"{name}.choose: {len(rows)} rows are chosen, it was made for {self.most_rows}")
        if rows.dtype.kind not in "iu" or (rows.size and not 0 <= rows.min() <= rows.max() < number):
            raise IndexError(f"{name}.choose: rows must be integers from 0 to {number - 1}, got {rows!r}")
        self._slots[: len(rows), :count] = self._slots[:number, :count][rows]
        self._buffers.rows[0] = len(rows)

    # -- the program ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def _calls(self) -> list[Call]:
        """The kernels between the embedding and the output layer, where ``_most_keys`` are attended to at most."""

    def _last(self) -> Array:
        """What the output layer reads."""
        return self._buffers.branch

    def _reserve(self, capacity: int, keys: int = 0) -> None:
        """Make room for so many positions, and for so many keys of another attention."""
        before, rows, used = self._capacity, self.most_rows, self.count
        past = [np.empty((capacity, rows, 2 * each.kv_size), self._dtype) for each in self._attentions]
        slots = np.empty((rows, capacity), np.int64)
        for old, new in zip(self._past, past, strict=False):
            new[:used] = old[:used]
        slots[:, :before] = self._slots
        self._past, self._slots, self._capacity = past, slots, capacity
        self._most_keys = max(capacity, keys, self._most_keys)
        heads = max(each.num_heads for each in self._attentions)
        self._scores = np.empty((len(self._buffers.tokens), heads * self._most_keys), self._dtype)
        linear = self._to_symbols()
        calls = [self._embed(), *self._calls()]
        if self._maps.output.array.size > _SERIAL_WORK:  # more columns than rows: each thread reads some of the matrix
            self._to_logits = Program([columns_call(self._dtype, linear)])
        else:
            calls.append(rows_call(self._dtype, linear))
        self._program = Program(calls)

    def _embed(self, reading: int = 0) -> Call:
        b, table = self._buffers, self._maps.embedding.array
        embed = Embed(
            b.tokens, table, b.vector, b.x, self._size, self._maps.scale, len(table), b.wrong, reading
        )  # fmt: skip
        return embed_call(self._dtype, embed)

    def _to_symbols(self) -> LinearMap:
        """The map to logits."""
        packed, b = self._packed_once(self._maps.output), self._buffers
        self._panels = len(packed.panels)
        return linear_of(packed, array_of(self._maps.bias), self._last(), b.logits, rows=b.rows)

    def _packed_once(self, weight: Tensor, queries: bool = False) -> Packed | Int8:
        """A weight, or its first d_model rows, packed at the first time."""
        key = id(weight), queries
        if key not in self._packed:
            self._packed[key] = self._pack(weight.array[: self._size if queries else None].T)
        return self._packed[key]

    def _self_attention(self, number: int, reading: int = 0) -> Callable[[Array, bool], list[Call]]:
        """The kernels of a layer's self-attention, given what it reads and whether it adds to x or writes to the
        branch.

        With ``reading`` rows are positions of one text; the last two kernels need the keys of those before.
        """
        b, size, rows, attention = self._buffers, self._size, self.most_rows, self._attentions[number]
        past, kept = self._past[number], 2 * attention.kv_size
        own = b.wide.reshape(-1)[size:]  # in each row the queries, and from here on keys and values
        append = Append(own, b.wide.shape[1], past, rows, b.position, kept, reading)
        slots_row = 0 if reading else self._capacity
        keys = Keys(past, rows * kept, kept, self._slots, slots_row, 1, b.count, None)

        def calls(x: Array, add: bool) -> list[Call]:
            return [
                self._linear(attention.in_proj_weight, attention.in_proj_bias, x, b.wide),
                *self._prepared(attention, reading),
                append_call(self._dtype, append),
                attend_call(self._dtype, self._attend(attention, keys, reading)),
                self._onward(attention.out_proj, b.heads, add),
            ]

        return calls

    def _prepared(self, attention: MultiheadAttention, reading: int) -> list[Call]:
        """The kernel that normalises queries and keys, and turns them, if an attention does either."""
        q_norm, k_norm, rotary, width = attention.q_norm, attention.k_norm, attention.rotary, attention.head_dim
        if q_norm is None and rotary is None:
            return []
        cos, sin = (None, None) if rotary is None else rotary_tables(self._capacity, width, 0, rotary.base, self._dtype)
        weights: tuple[Array | None, Array | None] = (None, None)
        eps = 0.0
        if q_norm is not None and k_norm is not None:
            weights, eps = (array_of(q_norm.weight), array_of(k_norm.weight)), _eps(q_norm, self._dtype)
        b = self._buffers
        heads = Heads(
            b.wide, b.wide.shape[1], attention.num_heads, attention.num_kv_heads, width, *weights, eps, cos, sin,
            b.position, reading,
        )  # fmt: skip
        return [heads_call(self._dtype, heads)]

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
        packed, bias_array = self._packed_once(weight, queries), None if bias is None else bias.array[rows]
        return rows_call(self._dtype, linear_of(packed, bias_array, x, y, relu=relu, add=add, rows=self._buffers.rows))

    def _attend(self, attention: MultiheadAttention, keys: Keys, reading: int = 0) -> Attend:
        b, heads, width = self._buffers, attention.num_heads, attention.head_dim
        slots, most = 0 if keys.mask is None else len(keys.mask), self._most_keys
        slopes = alibi_slopes(heads).astype(self._dtype) if attention.alibi else None
        return Attend(
            b.wide, b.wide.shape[1], *keys, slots, b.heads, self._scores, most, heads, width, 1.0 / math.sqrt(width),
            heads // attention.num_kv_heads, slopes, reading,
        )  # fmt: skip


def norm_call(norm: Module, x: Array, y: Array, residual: Array | None = None) -> Call:
    """y = norm(x), or of a `LayerNorm` y = norm(x + residual)."""
    if isinstance(norm, RMSNorm):
        return rms_norm_call(x, y, array_of(norm.weight), _eps(norm, x.dtype))
    assert isinstance(norm, LayerNorm)
    return layer_norm_call(x, y, array_of(norm.weight), array_of(norm.bias), norm.eps, residual)


def _eps(norm: RMSNorm, dtype: Any) -> float:
    return float(np.finfo(dtype).eps) if norm.eps is None else norm.eps


def array_of(tensor: Tensor | None) -> Array | None:
    """The array of a parameter that a layer may do without."""
    return None if tensor is None else tensor.array
