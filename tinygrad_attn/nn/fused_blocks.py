"""FusedBlocks: the steps of a language model's blocks, from tokens to logits, as one program of kernels.

A block is x + attention(norm(x)), then x + W_2 activation(W_1 norm(x)), as in GPT-2, or with a gate, as in LLaMA. What
is computed is what the layers compute one after the other, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

from tinygrad_attn.kernels.decoder.activate import activate_rows_call
from tinygrad_attn.kernels.decoder.linear import rows_call
from tinygrad_attn.kernels.decoder.program import Call, Program
from tinygrad_attn.nn.embedding import Embedding
from tinygrad_attn.nn.fused_decoder import TokenVectors
from tinygrad_attn.nn.fused_steps import FusedSteps, Maps, norm_call
from tinygrad_attn.nn.fusing import is_newer_attention, is_plain_linear, is_plain_norm, is_unobserved
from tinygrad_attn.nn.kv_cache import KVCache
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.nn.multihead import MultiheadAttention
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm

__all__ = ["FusedBlock", "FusedBlocks", "can_fuse_blocks"]

Array = np.ndarray[Any, Any]

_CHUNK = 64  # positions that are read at once: so many are what a product of matrices needs, and no buffer is large


class FusedBlock(NamedTuple):
    """The parts of a block, in the order in which they compute."""

    norm1: Module
    """A `LayerNorm` or an `RMSNorm`, as ``norm2``."""
    attention: MultiheadAttention
    norm2: Module
    linear1: Linear
    activation: str
    """One of "relu", "gelu", "gelu_tanh" and "silu"."""
    gate: Linear | None
    """By whose map of norm2(x) the activation's result is multiplied."""
    linear2: Linear


class Read(Protocol):
    """The state of a model that has read some tokens."""

    @property
    def past(self) -> Sequence[KVCache | None]:
        """Each block's keys and values of these tokens; None before the first."""


def can_fuse_blocks(blocks: Sequence[FusedBlock], norm: Module, embedding: Module) -> bool:
    """Whether `FusedBlocks` computes what these parts do, and nobody wants to see how.

    Subclasses, and modules whose ``forward`` was assigned, may compute something else; a recording, `unfused()` and
    gradients look on, and in training mode attention drops.

    Args:
        blocks: from bottom to top.
        norm: the last one.
        embedding: of tokens, and transposed the output layer.
    """
    if not blocks or not is_unobserved() or not is_plain(embedding, Embedding):
        return False
    dtype, width = embedding.weight.dtype, embedding.weight.shape[1]
    return _is_known_norm(norm, width, dtype) and all(_is_known(block, width, dtype) for block in blocks)


def _is_known(block: FusedBlock, width: int, dtype: Any) -> bool:
    if not is_plain(block.linear1, Linear):
        return False
    inner = block.linear1.weight.shape[0]
    return (
        _is_known_norm(block.norm1, width, dtype)
        and _is_known_norm(block.norm2, width, dtype)
        and is_newer_attention(block.attention, width, dtype)
        and is_plain_linear(block.linear1, inner, width, dtype)
        and (block.gate is None or is_plain_linear(block.gate, inner, width, dtype))
        and is_plain_linear(block.linear2, width, inner, dtype)
    )


def _is_known_norm(norm: Module, width: int, dtype: Any) -> bool:
    return is_plain_norm(norm, LayerNorm, width, dtype) or is_plain_norm(norm, RMSNorm, width, dtype)


class FusedBlocks(FusedSteps):
    """Reads a token for each of at most ``rows`` texts at a time.

    The output layer is the embedding, transposed. Weights are packed when it is made: it goes on with them if they are
    changed later.

    Args:
        blocks: as `can_fuse_blocks` has them.
        norm: the last one, likewise.
        embedding: of the tokens.
        state: from which to go on.
        rows: R, at least as many as there are in the state.
        positions: how many are likely to be read; more are possible.
        int8: round the weights of all matrix products to 8 bits, a scale for each output (see
            `tinygrad_attn.kernels.decoder.int8`).

    Raises:
        ValueError: ``int8`` with parameters that are not float32; or more rows in ``state`` than ``rows``.
    """

    called = "FusedBlocks"

    gather_share = 0.0
    """Choosing rows costs next to nothing, so that none that has ended need stay."""

    def __init__(
        self, blocks: Sequence[FusedBlock], norm: Module, embedding: TokenVectors, state: Read, rows: int,
        positions: int = 64, int8: bool = False,
    ) -> None:  # fmt: skip
        if int8 and embedding.weight.dtype != np.float32:
            raise ValueError(f"FusedBlocks: int8 is for float32 parameters, these are {embedding.weight.dtype}")
        self._blocks, self._norm_of_last, self._position = list(blocks), norm, embedding.position
        inner = max(block.linear1.weight.shape[0] for block in blocks)
        maps = Maps(embedding.weight, embedding.scale, embedding.weight, None)
        super().__init__([block.attention for block in blocks], inner, maps, rows, int8, min(_CHUNK, positions))
        self._reserve(max(1, positions))
        self.restart(state)

    def restart(self, state: Read) -> None:
        """Go on from another state.

        Raises:
            ValueError: it has more rows than there may be.
        """
        count = 0
        for number, cache in enumerate(state.past):
            if cache is not None:
                count, rows = cache.length, len(cache.joined.array)
                if rows > self.most_rows:
                    raise ValueError(f"FusedBlocks: {rows} rows were read, it was made for {self.most_rows}")
                if count > self._capacity:
                    self._reserve(count)
                self._past[number][:count, :rows] = cache.all().array.swapaxes(0, 1)
                self._slots[:rows, :count] = np.arange(rows)[:, None]
                self._buffers.rows[0] = rows
        self._buffers.count[0] = count

    def read(self, tokens: Array) -> Array:
        """Begin anew with one text, and read its first tokens (T,); the logits (1, V) of the next, as of `step`.

        Raises:
            ValueError: tokens that are no integers, or none.
            IndexError: a token that is not from 0 to V - 1.
            Exception: a position that the model does not have, in its own words; nothing is read then.
        """
        if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"FusedBlocks.read: tokens must be integers, at least one; they are {tokens.dtype} of shape "
                f"{tokens.shape}"
            )
        b, vectors = self._buffers, [self._position(place) for place in range(len(tokens))]
        b.count[0] = 0
        if len(tokens) > self._capacity:
            self._reserve(len(tokens))
        self._slots[0, : len(tokens)] = 0
        chunk = len(b.tokens)
        for first in range(0, len(tokens), chunk):
            part = tokens[first : first + chunk]
            b.tokens[: len(part)] = part
            for i in range(len(part)):
                b.vector[i] = vectors[first + i]
            b.rows[0], b.position[0], b.count[0] = len(part), first, first + 1
            for program in self._reads():
                program.run(len(part))
        b.rows[0], b.count[0] = 1, len(tokens)
        if b.wrong[0]:
            b.count[0], b.wrong[0] = 0, 0
            self._refuse(tokens, "read")
        b.x[0] = b.x[len(part) - 1]
        self._last_of_read.run(1)
        return b.logits[:1]

    def step(self, tokens: Array) -> Array:
        """The logits (R, V) of the next token after R tokens at the next position; the first say how many R is.

        The result is overwritten by the next step.

        Raises:
            ValueError: tokens that are not R integers.
            IndexError: a token that is not from 0 to V - 1; the step is not taken.
        """
        rows = self.rows if self.count else len(tokens)
        if tokens.shape != (rows,) or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"FusedBlocks.step: tokens must be integers, one for each of {rows} rows; they are {tokens.dtype} of "
                f"shape {tokens.shape}"
            )
        if rows > self.most_rows:
            raise ValueError(f"FusedBlocks.step: there are {rows} tokens, it was made for {self.most_rows} rows")
        self._buffers.rows[0] = rows
        logits = self.run(tokens, self._position(self.count))
        if logits is None:
            self._refuse(tokens, "step")
        return logits

    def _refuse(self, tokens: Array, method: str) -> NoReturn:
        symbols = len(self._maps.embedding.array)
        at = int(np.flatnonzero((tokens < 0) | (tokens >= symbols))[0])
        raise IndexError(f"FusedBlocks.{method}: token {tokens[at]} at {at} is not from 0 to {symbols - 1}")

    # -- the program ---------------------------------------------------------------------------------------------------

    def _reserve(self, capacity: int, keys: int = 0) -> None:
        """See `FusedSteps._reserve`."""
        super()._reserve(capacity, keys)
        self._reading: list[Program] = []

    def _reads(self) -> list[Program]:
        """The programs that read positions of one text, made when they are first needed.

        A position attends to the keys of others, which threads compute: so a program ends where the keys of a block
        are written.
        """
        if not self._reading:
            b, calls = self._buffers, [self._embed(reading=1)]
            for number, block in enumerate(self._blocks):
                attention = self._self_attention(number, reading=1)(b.branch, True)
                calls += [norm_call(block.norm1, b.x, b.branch), *attention[:-2]]
                self._reading.append(Program(calls))
                calls = [*attention[-2:], norm_call(block.norm2, b.x, b.branch), *self._feed_forward(block)]
            self._reading.append(Program(calls))
            norm = norm_call(self._norm_of_last, b.x, b.branch)
            self._last_of_read = Program([norm, rows_call(self._dtype, self._to_symbols())])
        return self._reading

    def _calls(self) -> list[Call]:
        """See `FusedSteps._calls`."""
        b = self._buffers
        calls: list[Call] = []
        for number, block in enumerate(self._blocks):
            calls.append(norm_call(block.norm1, b.x, b.branch))
            calls += self._self_attention(number)(b.branch, True)
            calls.append(norm_call(block.norm2, b.x, b.branch))
            calls += self._feed_forward(block)
        return [*calls, norm_call(self._norm_of_last, b.x, b.branch)]

    def _feed_forward(self, block: FusedBlock) -> list[Call]:
        b, gate = self._buffers, block.gate
        inner = block.linear1.weight.shape[0]
        calls = [self._linear(block.linear1.weight, block.linear1.bias, b.branch, b.wide)]
        if gate is not None:
            calls.append(self._linear(gate.weight, gate.bias, b.branch, b.gate))
        calls.append(activate_rows_call(block.activation, b.wide, None if gate is None else b.gate, inner))
        return [*calls, self._onward(block.linear2, b.wide, True)]
