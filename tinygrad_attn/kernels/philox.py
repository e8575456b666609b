"""Random bits of dropout: Philox4x32-10, a generator without a state, from a key and a counter.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A block of four 32-bit words is a
function of a 128-bit counter and a 64-bit key: ten rounds, in each of which two words are multiplied and all are mixed.
Whoever needs word n computes it, in any order, on any thread, and backward as in forward::

    word of element e = word e mod 4 of the block whose counter is e div 4
    e is kept         = its word >= threshold,    threshold = p 2^32

A kernel asks either for the next two vectors of elements, as masks for `simd.select`::

    low, high = kept(x, first, key, threshold)
    store(z, i, select(low, load(x, i) * scale, 0.0))
    store(z, i + lanes(x), select(high, load(x, i + lanes(x)) * scale, 0.0))

or has the booleans of any elements written to memory, with `write_kept`. `philox_in_numpy` and `kept_in_numpy` say what
the kernels compute.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import Signature, signature

from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.simd import instructions
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["kept", "kept_in_numpy", "philox_in_numpy", "threshold_of", "write_kept"]

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # of the key's words from round to round: the golden ratio, and sqrt(3) - 1
_LOW = 0xFFFFFFFF


def philox_in_numpy(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10.

    Args:
        counter: (..., 4) uint32, the first word the lowest.
        key: two words.

    Returns:
        (..., 4) uint32: the block of each counter.
    """
    c = np.moveaxis(counter.astype(np.uint64), -1, 0)
    low, shift = np.uint64(_LOW), np.uint64(32)
    for number in range(_ROUNDS):
        k = [np.uint64(word + number * step & _LOW) for word, step in zip(key, _KEY_STEPS, strict=True)]
        x, y = (c[2 * i] * np.uint64(_MULTIPLIERS[i]) for i in range(2))
        c = np.stack([y >> shift ^ c[1] ^ k[0], y & low, x >> shift ^ c[3] ^ k[1], x & low])
    return np.moveaxis(c, 0, -1).astype(np.uint32)


def kept_in_numpy(first: int, count: int, key: int, threshold: int) -> np.ndarray:
    """Which of the ``count`` elements from ``first`` on are kept; arguments as of `write_kept`."""
    start = first // 4
    blocks = np.arange(start, -(-(first + count) // 4), dtype=np.uint64)
    counter = np.zeros((blocks.size, 4), np.uint32)
    counter[:, 0], counter[:, 1] = blocks & np.uint64(_LOW), blocks >> np.uint64(32)
    words = philox_in_numpy(counter, (key & _LOW, key >> 32 & _LOW)).reshape(-1)
    return words[first - 4 * start :][:count] >= np.uint32(threshold)


def threshold_of(p: float) -> int:
    """The smallest word that is kept when elements are dropped with probability ``p``, 0 <= p < 1."""
    return min(round(p * 2.0**32), _LOW)


# --- Two vectors of elements ------------------------------------------------------------------------------------------

_INT32 = ir.IntType(32)


def _all(vector: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _emit_words(builder: ir.IRBuilder, first: ir.Value, key: ir.Value, count: int) -> ir.Value:
    """The words of ``count`` elements from ``first`` on, a multiple of 4."""
    # A word of each counter lies in the lower half of a lane of 64 bits, ready to be multiplied.
    wide = ir.VectorType(instructions.INT, count // 4)
    low, half = _all(wide, _LOW), _all(wide, 32)

    def scalar(value: int) -> ir.Constant:
        return ir.Constant(instructions.INT, value)

    def mix(product: ir.Value, word: ir.Value, of_key: ir.Value) -> ir.Value:
        mixed = builder.xor(builder.lshr(product, half), word)
        return builder.xor(mixed, instructions.repeat(builder, wide, of_key))

    start = instructions.repeat(builder, wide, builder.lshr(first, scalar(2)))
    counters = builder.add(start, ir.Constant(wide, list(range(wide.count))))
    c = [counters, builder.lshr(counters, half), _all(wide, 0), _all(wide, 0)]
    k = [builder.and_(key, scalar(_LOW)), builder.lshr(key, scalar(32))]
    for _ in range(_ROUNDS):
        x, y = (builder.mul(builder.and_(c[2 * i], low), _all(wide, _MULTIPLIERS[i])) for i in range(2))
        c = [mix(y, c[1], k[0]), y, mix(x, c[3], k[1]), x]
        k = [builder.add(word, scalar(step)) for word, step in zip(k, _KEY_STEPS, strict=True)]
    # Above a word there may be anything. Join words 0 and 1, and 2 and 3, then put the pairs in turn.
    pairs = [builder.or_(builder.and_(c[i], low), builder.shl(c[i + 1], half)) for i in (0, 2)]
    order = [lane // 2 + lane % 2 * wide.count for lane in range(2 * wide.count)]
    in_turn = builder.shuffle_vector(*pairs, ir.Constant(ir.VectorType(_INT32, len(order)), order))
    return builder.bitcast(in_turn, ir.VectorType(_INT32, count))


def _emit_mask(builder: ir.IRBuilder, arguments: Any, count: int) -> ir.Value:
    """Which of ``count`` elements are kept; the arguments are the first's number, the key and the threshold."""
    first, key, threshold = arguments
    words = _emit_words(builder, first, key, count)
    limit = instructions.repeat(builder, words.type, builder.trunc(threshold, _INT32))
    return builder.icmp_unsigned(">=", words, limit)


def kept(like: Any, first: int, key: int, threshold: int) -> Any:
    """Which elements from ``first`` on are kept: two masks, one after the other, of as many lanes as ``like`` has.

    Args:
        like: an array or a vector.
        first: the number of the first element, a multiple of 4.
        key: 64 bits.
        threshold: see `threshold_of`.
    """
    step = simd.lanes(like)
    both = kept_in_numpy(first, 2 * step, key, threshold)
    return both[:step], both[step:]


def _kept_typing(like: types.Type, first: types.Type, key: types.Type, threshold: types.Type) -> Signature:
    return signature(types.UniTuple(simd.mask_of(like), 2), like, types.int64, types.int64, types.int64)


@simd.emits(kept, _kept_typing)
def _emit_kept(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    step = sig.return_type.dtype.lanes
    mask = _emit_mask(builder, arguments[1:], 2 * step)
    parts = []
    for start in (0, step):
        order = ir.Constant(ir.VectorType(_INT32, step), list(range(start, start + step)))
        parts.append(builder.shuffle_vector(mask, ir.Constant(mask.type, ir.Undefined), order))
    return context.make_tuple(builder, sig.return_type, parts)


# --- Any elements, to memory ------------------------------------------------------------------------------------------

_AT_ONCE = 32


def _store_kept(out: Any, at: int, first: int, key: int, threshold: int) -> None:
    """Write 32 booleans to ``out`` from ``at`` on."""
    out[at : at + _AT_ONCE] = kept_in_numpy(first, _AT_ONCE, key, threshold)


@simd.emits(_store_kept, lambda out, *numbers: signature(types.none, out, *[types.int64] * 4))
def _emit_store_kept(context: Any, builder: ir.IRBuilder, sig: Signature, arguments: Any) -> ir.Value:
    out, at, *rest = arguments
    bytes_type = ir.VectorType(ir.IntType(8), _AT_ONCE)
    data = context.make_array(sig.args[0])(context, builder, out).data
    pointer = builder.bitcast(builder.gep(data, [at]), bytes_type.as_pointer())
    instructions.store(builder, builder.zext(_emit_mask(builder, rest, _AT_ONCE), bytes_type), pointer, 1)
    return context.get_dummy_value()


@serial_kernel
def _write(out: Any, start: int, first: int, count: int, key: int, threshold: int) -> None:
    spare = np.empty(_AT_ONCE, np.bool_)
    for i in range(-(first % 4), count, _AT_ONCE):
        inside = i >= 0 and i + _AT_ONCE <= count
        _store_kept(out if inside else spare, start + i if inside else 0, first + i, key, threshold)
        if not inside:
            for j in range(max(i, 0), min(i + _AT_ONCE, count)):
                out[start + j] = spare[j - i]


def _write_in_numpy(out: Any, start: int, first: int, count: int, key: int, threshold: int) -> None:
    out[start : start + count] = kept_in_numpy(first, count, key, threshold)


write_kept = _write_in_numpy if numba.config.DISABLE_JIT else _write
"""``(out, start, first, count, key, threshold)``: write which elements are kept, called from a kernel or from Python.

Args:
    out: bool, of one axis, contiguous; ``out[start : start + count]`` is written.
    start: where in ``out``.
    first: the number of the first element, from 0 on. A multiple of 4 is quicker, and so are a few hundred elements
        at a call.
    count: how many elements.
    key: 64 bits, as an int64: from `tinygrad_attn.random.new_key`, once for each call of an op.
    threshold: from `threshold_of`.
"""
