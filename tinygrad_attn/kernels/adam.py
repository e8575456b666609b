"""Adam and AdamW over many parameters, each read and written once, and the global norm of their gradients.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", 2019; operation for operation as ``torch.optim.Adam`` and ``AdamW``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels import simd
from tinygrad_attn.kernels.jit import inlined_kernel, parallel_kernel, serial_kernel

__all__ = ["adam_update", "global_norm"]

_BLOCK_SIZE = 8192  # elements in one partial sum, which one thread takes at a time
_SERIAL_SIZE = 16384  # elements up to which waking the threads costs more than they save


# --- The norm ---------------------------------------------------------------------------------------------------------


@serial_kernel
def _sum_of_squares(x: Any, first: int, last: int) -> Any:
    step = simd.lanes(x)
    rest = (last - first) % step
    whole = last - rest
    wide = simd.widen(simd.load_part(x, whole, rest, 0.0))
    total = wide * wide
    for i in range(first, whole, step):
        wide = simd.widen(simd.load(x, i))
        total = simd.fma(wide, wide, total)
    return simd.reduce_sum(total)


@serial_kernel
def _norm_blocks(x: Any, sums: Any, block: int) -> None:
    for i in range(sums.size):
        sums[i] = _sum_of_squares(x, i * block, min(x.size, (i + 1) * block))


@parallel_kernel
def _norm_blocks_parallel(x: Any, sums: Any, block: int) -> None:
    for i in numba.prange(sums.size):
        sums[i] = _sum_of_squares(x, i * block, min(x.size, (i + 1) * block))


def global_norm(arrays: Sequence[np.ndarray]) -> float:
    """The Euclidean norm of all elements of all ``arrays`` together, summed in float64, in blocks of fixed size.

    Args:
        arrays: float32 or float64, of any shapes; those that are not C-contiguous are copied.
    """
    counts = [-(-array.size // _BLOCK_SIZE) for array in arrays]
    sums = np.zeros(sum(counts), np.float64)
    start = 0
    for array, count in zip(arrays, counts, strict=True):
        run = _norm_blocks if array.size <= _SERIAL_SIZE else _norm_blocks_parallel
        run(np.ascontiguousarray(array).reshape(-1), sums[start : start + count], _BLOCK_SIZE)
        start += count
    return math.sqrt(sums.sum())


# --- The update -------------------------------------------------------------------------------------------------------


@inlined_kernel
def _updated(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    step_size: float,
    beta1: float,
    beta2: float,
    root_correction2: float,
    eps: float,
    coupled_decay: float,
    shrink: float,
    grad_scale: float,
) -> Any:
    """One vector of each of ``param``, ``m`` and ``v`` after the step."""
    grad = grad * grad_scale + param * coupled_decay
    m = m + (grad - m) * (1.0 - beta1)
    v = v * beta2 + grad * grad * (1.0 - beta2)
    return param * shrink - m * step_size / (simd.sqrt(v) / root_correction2 + eps), m, v


@serial_kernel
def _update_block(param: Any, grad: Any, m: Any, v: Any, first: int, last: int, settings: Any) -> None:
    step = simd.lanes(param)
    rest = (last - first) % step
    whole = last - rest
    for i in range(first, whole, step):
        new_param, new_m, new_v = _updated(
            simd.load(param, i), simd.load(grad, i), simd.load(m, i), simd.load(v, i), *settings
        )
        simd.store(param, i, new_param)
        simd.store(m, i, new_m)
        simd.store(v, i, new_v)
    if rest:
        new_param, new_m, new_v = _updated(
            simd.load_part(param, whole, rest, 0.0),
            simd.load_part(grad, whole, rest, 0.0),
            simd.load_part(m, whole, rest, 0.0),
            simd.load_part(v, whole, rest, 0.0),
            *settings,
        )
        simd.store_part(param, whole, rest, new_param)
        simd.store_part(m, whole, rest, new_m)
        simd.store_part(v, whole, rest, new_v)


@parallel_kernel
def _update_parallel(param: Any, grad: Any, m: Any, v: Any, block: int, settings: Any) -> None:
    for i in numba.prange((param.size + block - 1) // block):
        _update_block(param, grad, m, v, i * block, min(param.size, (i + 1) * block), settings)


def adam_update(
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    m: Sequence[np.ndarray],
    v: Sequence[np.ndarray],
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    grad_scale: float = 1.0,
) -> None:
    """One step of Adam, in place, on every parameter.

    Args:
        params: float32 or float64 arrays of any shapes, C-contiguous.
        grads: the gradients, each of its parameter's shape and dtype; only read.
        m: the running mean of each gradient, shape, dtype and layout as ``params``.
        v: the running mean of each gradient's square, likewise.
        step: the number of this step, counted from 1.
        weight_decay: times the parameter, added to its gradient; if ``decoupled`` (AdamW), instead the share ``lr *
            weight_decay`` of the parameter is taken away from it.
        grad_scale: what every gradient is multiplied by first, for clipping.
    """
    settings = (
        lr / (1.0 - beta1**step),
        float(beta1),
        float(beta2),
        math.sqrt(1.0 - beta2**step),
        float(eps),
        0.0 if decoupled else float(weight_decay),
        1.0 - lr * weight_decay if decoupled else 1.0,
        float(grad_scale),
    )
    for position, (param, grad, mean, square) in enumerate(zip(params, grads, m, v, strict=True)):
        _check(position, param, grad, mean, square)
        arrays = (param.reshape(-1), np.ascontiguousarray(grad).reshape(-1), mean.reshape(-1), square.reshape(-1))
        if param.size <= _SERIAL_SIZE:
            _update_block(*arrays, 0, param.size, settings)
        else:
            _update_parallel(*arrays, _BLOCK_SIZE, settings)


def _check(position: int, param: np.ndarray, *others: np.ndarray) -> None:
    if param.dtype != np.float32 and param.dtype != np.float64:
        raise TypeError(f"adam_update: params[{position}] must be float32 or float64, got {param.dtype}")
    for name, other in zip(("grads", "m", "v"), others, strict=True):
        if other.shape != param.shape or other.dtype != param.dtype:
            raise ValueError(
                f"adam_update: {name}[{position}] is {other.shape} {other.dtype}, "
                f"but params[{position}] is {param.shape} {param.dtype}"
            )
    if not (param.flags.carray and others[1].flags.carray and others[2].flags.carray):
        raise ValueError(
            f"adam_update: params, m and v at {position} must be writeable and C-contiguous, since they change in place"
        )
