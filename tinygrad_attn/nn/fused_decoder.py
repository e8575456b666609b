"""FusedDecoder: the steps of a `TransformerDecoder`, from tokens to logits, as one program of kernels.

`TransformerDecoder.step` calls some twenty ops a layer from Python, which takes longer than what they compute when
there are few rows. Here a step is a `tinygrad_attn.kernels.decoder.program.Program`, run in one launch. The program is
made, and weights are packed, once: inside `tinygrad_attn.nn.frozen_weights` once for all decoders, one after the other.
Keys and values are written in place, and choosing hypotheses copies none of them. What is computed is what
`TransformerDecoder.step` and the output layer compute, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.cache import lent
from tinygrad_attn.nn.decoder_steps import Steps
from tinygrad_attn.nn.fusing import is_plain_linear, is_plain_stack
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.nn.transformer import DecoderState, TransformerDecoder
from tinygrad_attn.nn.transformer_layers import TransformerDecoderLayer
from tinygrad_attn.tensor import Tensor

__all__ = ["FusedDecoder", "TokenVectors", "can_fuse"]

Array = np.ndarray[Any, Any]


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
        ValueError: ``int8`` with parameters that are not float32; an embedding or output of another size or dtype
            than the decoder; or fewer rows than sentences.
    """

    gather_share = 0.0
    """Choosing rows costs next to nothing, so that none that has ended need stay."""

    def __init__(
        self, decoder: TransformerDecoder, embedding: TokenVectors, output: Linear, state: DecoderState, rows: int,
        int8: bool = False,
    ) -> None:  # fmt: skip
        if int8 and embedding.weight.dtype != np.float32:
            raise ValueError(f"FusedDecoder: int8 is for float32 parameters, these are {embedding.weight.dtype}")
        joined = [np.ascontiguousarray(layer.memory.all().array) for layer in state.layers]
        _check(joined[0], embedding.weight, output.weight, rows)
        mask = state.memory_mask
        self._position = embedding.position
        self._symbols = len(embedding.weight.array)
        # Equal ids are equal objects: `Steps` holds what they are of.
        key = ("decoder", id(decoder), id(embedding.weight), id(output), embedding.scale, int8)
        self._steps = lent(
            key,
            (decoder, embedding.weight, output),
            self,
            lambda: Steps(decoder, embedding.weight, embedding.scale, output, rows, int8),
            lambda steps: steps.most_rows >= rows,
        )
        self._most_rows = rows
        self._steps.begin(
            joined, None if mask is None else np.ascontiguousarray(mask.array).reshape(-1, joined[0].shape[1])
        )

    def step(self, tokens: Array) -> Array:
        """The logits (R, V) of the next token after R tokens at the next position.

        The result is overwritten by the next step.

        Raises:
            ValueError: tokens that are not R integers.
            IndexError: a token that is not from 0 to V - 1; the step is not taken.
        """
        rows = self._steps.rows
        if tokens.shape != (rows,) or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"FusedDecoder.step: tokens must be integers, one for each of {rows} rows; they are {tokens.dtype} of "
                f"shape {tokens.shape}"
            )
        logits = self._steps.run(tokens, self._position(self._steps.count))
        if logits is None:
            row = int(np.flatnonzero((tokens < 0) | (tokens >= self._symbols))[0])
            raise IndexError(
                f"FusedDecoder.step: token {tokens[row]} of row {row} is not from 0 to {self._symbols - 1}, the "
                "symbols of the embedding"
            )
        return logits

    def choose(self, rows: Array) -> None:
        """Go on from these rows, in this order; a row may be chosen more than once.

        Raises:
            ValueError: more rows than there may be.
            IndexError: there is no such row.
        """
        if len(rows) > self._most_rows:
            raise ValueError(f"FusedDecoder.choose: {len(rows)} rows are chosen, it was made for {self._most_rows}")
        self._steps.choose(rows)


def _check(joined: Array, embedding: Tensor, output: Tensor, rows: int) -> None:
    """Raise unless embedding and output are for the decoder: kernels see only where their arrays begin."""
    sentences, size, dtype = len(joined), joined.shape[2] // 2, joined.dtype
    for name, weight in (("embedding", embedding), ("output", output)):
        if weight.shape[1:] != (size,) or weight.dtype != dtype:
            raise ValueError(
                f"FusedDecoder: the decoder is for vectors of size {size} of {dtype}, the weight of the {name} is "
                f"{weight.shape} of {weight.dtype}"
            )
    if rows < sentences:
        raise ValueError(f"FusedDecoder: rows must be at least {sentences}, one for each sentence; got {rows}")
