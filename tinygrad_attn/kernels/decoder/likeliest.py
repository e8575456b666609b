"""The likeliest tokens of each row of logits, and what turns logits into log probabilities.

A search needs a handful of the thousands of log probabilities of a step. So the logits are not replaced by them; beside
the largest logits it gets log Σ exp of each row, to subtract.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import math as simd_math
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["likeliest", "likeliest_in_numpy", "log_normalisers", "log_normalisers_in_numpy"]

Array = np.ndarray[Any, Any]

_BLOCK = 8  # vectors that are looked through at once
_SERIAL_SIZE = 65536  # logits up to which waking the threads costs more than they save


def likeliest_in_numpy(logits: Array, count: int) -> tuple[Array, Array]:
    """Of each row of (R, V) the positions of its ``count`` largest logits, and these, both (R, count).

    The largest comes first, of equals the first. Where there are fewer above -inf, the rest are -inf at 0.
    """
    padded = np.pad(logits, ((0, 0), (0, count)), constant_values=-np.inf)
    tokens = np.argsort(-padded, axis=-1, kind="stable")[:, :count]
    values = np.take_along_axis(padded, tokens, -1)
    return np.where(values == -np.inf, 0, tokens), values


def log_normalisers_in_numpy(logits: Array) -> Array:
    """log Σ_v exp(logits[r, v]) of each row, float64."""
    top = logits.max(-1, keepdims=True)
    return top[:, 0].astype(np.float64) + np.log(np.exp(logits - top).sum(-1, dtype=np.float64))


class _Search(NamedTuple):
    logits: Address  # (rows, symbols)
    symbols: int
    most: int = 0  # tokens of a row
    tokens: Address = None  # (rows, most) int64
    values: Address = None  # (rows, most)
    normalisers: Address = None  # (rows,) float64


def _make_likeliest(dtype: Any) -> Any:
    @serial_kernel
    def find(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Search, arguments)
        for row in range(first, last):
            x, values = row_at(dtype, s.logits, row, s.symbols), row_at(dtype, s.values, row, s.most)
            tokens = row_at(np.int64, s.tokens, row, s.most)
            tokens[:], values[:] = 0, -math.inf
            block = _BLOCK * simd.lanes(x)
            for start in range(0, s.symbols, block):
                end = min(start + block, s.symbols)
                if end - start == block:
                    highest = simd.load(x, start)
                    for i in range(start, end, simd.lanes(x)):
                        highest = simd.maximum(highest, simd.load(x, i))
                    if not simd.reduce_max(highest) > values[s.most - 1]:
                        continue
                for i in range(start, end):
                    if x[i] > values[s.most - 1]:
                        place = s.most - 1
                        while place > 0 and x[i] > values[place - 1]:
                            tokens[place], values[place] = tokens[place - 1], values[place - 1]
                            place -= 1
                        tokens[place], values[place] = i, x[i]

    return find


def _make_normalisers(dtype: Any) -> Any:
    @serial_kernel
    def normalise(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Search, arguments)
        normalisers = row_at(np.float64, s.normalisers, 0, last)
        for row in range(first, last):
            x = row_at(dtype, s.logits, row, s.symbols)
            step = simd.lanes(x)
            whole = s.symbols - s.symbols % step
            tail = simd.load_part(x, whole, s.symbols - whole, -math.inf)
            highest = tail
            for i in range(0, whole, step):
                highest = simd.maximum(highest, simd.load(x, i))
            top = simd.reduce_max(highest)
            total = simd.widen(simd_math.exp(tail - top))
            for start in range(0, whole, _BLOCK * step):
                part = simd.splat(x, 0.0)
                for i in range(start, min(start + _BLOCK * step, whole), step):
                    part = part + simd_math.exp(simd.load(x, i) - top)
                total = total + simd.widen(part)
            normalisers[row] = top + math.log(simd.reduce_sum(total))

    return normalise


def likeliest(logits: Array, count: int) -> tuple[Array, Array]:
    """`likeliest_in_numpy`; ``logits`` float32 or float64, C-contiguous, without NaN; ``count`` at least 1."""
    rows, symbols = logits.shape
    tokens, values = np.empty((rows, count), np.int64), np.empty((rows, count), logits.dtype)
    arguments = _Search(logits, symbols, count, tokens, values)
    _launch(_make_likeliest, logits, arguments)
    return tokens, values


def log_normalisers(logits: Array) -> Array:
    """`log_normalisers_in_numpy`; ``logits`` as in `likeliest`."""
    normalisers = np.empty(len(logits))
    _launch(_make_normalisers, logits, _Search(logits, logits.shape[1], normalisers=normalisers))
    return normalisers


def _launch(make: Any, logits: Array, arguments: _Search) -> None:
    shares = 1 if logits.size <= _SERIAL_SIZE else min(len(logits), get_num_threads())
    launch(kernel_for(make, logits.dtype.type), Struct(arguments), len(logits), shares)
