"""The steps of a `TransformerDecoder` as one program of kernels, which goes from one source to the next.

`tinygrad_attn.nn.fused_decoder` says what is computed, `tinygrad_attn.nn.fused_steps` has what is not about the source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.kernels.decoder.attend import attend_call
from tinygrad_attn.kernels.decoder.program import Call
from tinygrad_attn.kernels.runtime.structs import Struct
from tinygrad_attn.nn.fused_steps import FIRST_CAPACITY, FusedSteps, Keys, Maps, norm_call
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.transformer import TransformerDecoder
from tinygrad_attn.nn.transformer_layers import TransformerDecoderLayer
from tinygrad_attn.tensor import Tensor

__all__ = ["Steps"]

Array = np.ndarray[Any, Any]


class Steps(FusedSteps):
    """The arrays and kernels of a decoder's steps.

    Args:
        decoder: as `tinygrad_attn.nn.fused_decoder.can_fuse` has it.
        weight: of the embedding, (V, d_model).
        scale: of its vectors.
        output: the linear map to logits.
        most_rows: how many rows there may be.
        int8: round the weights of all matrix products to 8 bits.
    """

    called = "FusedDecoder"

    def __init__(
        self, decoder: TransformerDecoder, weight: Tensor, scale: float, output: Linear, most_rows: int, int8: bool
    ) -> None:  # fmt: skip
        self._decoder = decoder
        self._layers: list[TransformerDecoderLayer] = list(decoder.layers)  # type: ignore[arg-type]
        inner = max(layer.linear1.weight.shape[0] for layer in self._layers)
        maps = Maps(weight, scale, output.weight, output.bias)
        super().__init__([layer.self_attn for layer in self._layers], inner, maps, most_rows, int8)
        self._sentences = np.zeros(most_rows, np.int64)  # of each row, to whose source it attends
        self._length = np.zeros(1, np.int64)  # of the source
        self._joined: list[Array] = []
        self._mask: Array | None = None

    def begin(self, joined: list[Array], mask: Array | None) -> None:
        """Begin with a row for each of B sentences.

        Args:
            joined: each layer's keys and values of the sources, (B, S, 2 d_model), C-contiguous.
            mask: bool (B, S), True where a row may attend, or None.
        """
        b = self._buffers
        sentences, length = joined[0].shape[:2]
        self._joined, self._mask = joined, mask
        self._sentences[:sentences] = np.arange(sentences)
        b.rows[0], b.count[0], self._length[0], b.wrong[0] = sentences, 0, length, 0
        if self._capacity == 0 or length > self._most_keys:
            self._reserve(max(self._capacity, FIRST_CAPACITY), length)
            return
        for number, (layer, struct) in enumerate(zip(self._layers, self._to_memory, strict=True)):
            struct.become(self._attend(layer.multihead_attn, self._memory_keys(number)))

    def choose(self, rows: Array) -> None:
        """See `FusedSteps.choose`."""
        before = self.rows
        super().choose(rows)
        self._sentences[: len(rows)] = self._sentences[:before][rows]

    # -- the program ---------------------------------------------------------------------------------------------------

    def _last(self) -> Array:
        """See `FusedSteps._last`."""
        return self._buffers.x if self._decoder.norm is None else self._buffers.branch

    def _calls(self) -> list[Call]:
        """See `FusedSteps._calls`."""
        b = self._buffers
        calls: list[Call] = []
        self._to_memory: list[Struct] = []
        for number, layer in enumerate(self._layers):
            calls += self._sublayer(layer.norm1, layer.norm_first, self._self_attention(number))
            calls += self._sublayer(layer.norm2, layer.norm_first, self._attention(number, layer))
            calls += self._sublayer(layer.norm3, layer.norm_first, self._feed_forward(layer))
        if self._decoder.norm is not None:
            calls.append(norm_call(self._decoder.norm, b.x, b.branch))
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
            return [norm_call(norm, b.x, b.branch), *calls(b.branch, True)]
        return [*calls(b.x, False), norm_call(norm, b.x, b.x, b.branch)]

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

    def _memory_keys(self, number: int) -> Keys:
        """A layer's keys and values of the sources."""
        joined, position = self._joined[number], 2 * self._size
        return Keys(joined, position, joined.shape[1] * position, self._sentences, 1, 0, self._length, self._mask)

    def _feed_forward(self, layer: TransformerDecoderLayer) -> Callable[[Array, bool], list[Call]]:
        b = self._buffers

        def calls(x: Array, add: bool) -> list[Call]:
            inner = self._linear(layer.linear1.weight, layer.linear1.bias, x, b.wide, relu=True)
            return [inner, self._onward(layer.linear2, b.wide, add)]

        return calls
