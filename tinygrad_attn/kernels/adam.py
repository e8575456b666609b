"""Adam and AdamW in one launch for all parameters, each read and written once, and the norm of all gradients in one.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", 2019; operation for operation as ``torch.optim.Adam`` and ``AdamW``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from tinygrad_attn.kernels.runtime.addresses import addresses_of, elements_at
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, parallel_kernel, serial_kernel
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["AdamUpdate", "adam_update", "global_norm"]

_BLOCK_SIZE = 8192  # elements in one partial sum, which one thread takes at a time


# --- Blocks -----------------------------------------------------------------------------------------------------------


def _blocks(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All arrays cut into blocks, which end where an array ends: of each its array, first element and size, int64."""
    sizes = np.array([array.size for array in arrays], np.int64)
    counts = -(-sizes // _BLOCK_SIZE)
    array = np.repeat(np.arange(len(arrays)), counts)
    first = (np.arange(len(array)) - np.repeat(np.cumsum(counts) - counts, counts)) * _BLOCK_SIZE
    return np.stack([array, first, np.minimum(sizes[array] - first, _BLOCK_SIZE)], axis=1)


def _by_dtype(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """The positions of the arrays that are not empty, a list for each dtype."""
    groups: dict[str, list[int]] = {}
    for position, array in enumerate(arrays):
        if array.size:
            groups.setdefault(array.dtype.char, []).append(position)
    return list(groups.values())


# --- The norm ---------------------------------------------------------------------------------------------------------


@serial_kernel
def _sum_of_squares(x: Any) -> Any:
    step = simd.lanes(x)
    rest = x.size % step
    whole = x.size - rest
    wide = simd.widen(simd.load_part(x, whole, rest, 0.0))
    total = wide * wide
    for i in range(0, whole, step):
        wide = simd.widen(simd.load(x, i))
        total = simd.fma(wide, wide, total)
    return simd.reduce_sum(total)


@parallel_kernel
def _norm_blocks(like: Any, addresses: Any, blocks: Any, sums: Any) -> None:
    for i in numba.prange(len(blocks)):
        array, first, size = blocks[i]
        sums[i] = _sum_of_squares(elements_at(like, addresses[array] + first * like.itemsize, size))


def global_norm(arrays: Sequence[np.ndarray]) -> float:
    """The Euclidean norm of all elements of all ``arrays`` together, summed in float64, in blocks of fixed size.

    Args:
        arrays: float32 or float64, of any shapes; those that are not C-contiguous are copied.
    """
    total = 0.0
    for positions in _by_dtype(arrays):
        group = [np.ascontiguousarray(arrays[position]) for position in positions]
        blocks = _blocks(group)
        sums = np.empty(len(blocks), np.float64)
        _norm_blocks(np.empty(0, group[0].dtype), addresses_of(group), blocks, sums)
        total += float(sums.sum())
    return math.sqrt(total)


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
def _update_block(param: Any, grad: Any, m: Any, v: Any, settings: Any) -> None:
    step = simd.lanes(param)
    rest = param.size % step
    whole = param.size - rest
    for i in range(0, whole, step):
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
def _update_blocks(like: Any, addresses: Any, blocks: Any, settings: Any) -> None:
    """Update each block of the parameters, from the addresses (4, arrays) of parameters, gradients, m and v."""
    for i in numba.prange(len(blocks)):
        array, first, size = blocks[i]
        offset = first * like.itemsize
        _update_block(
            elements_at(like, addresses[0, array] + offset, size),
            elements_at(like, addresses[1, array] + offset, size),
            elements_at(like, addresses[2, array] + offset, size),
            elements_at(like, addresses[3, array] + offset, size),
            settings,
        )


class AdamUpdate:
    """Adam for a fixed list of parameters: arrays are checked and their addresses taken once, not in every step.

    Args:
        params: float32 or float64 arrays of any shapes, C-contiguous.
        m: the running mean of each gradient, shape, dtype and layout as ``params``.
        v: the running mean of each gradient's square, likewise.

    Raises:
        TypeError: a parameter of another dtype.
        ValueError: shapes or dtypes that differ, or arrays that are not contiguous.
    """

    def __init__(self, params: Sequence[np.ndarray], m: Sequence[np.ndarray], v: Sequence[np.ndarray]) -> None:
        # The arrays are kept, so their addresses stay valid.
        self._arrays = [list(params), list(m), list(v)]
        for position, (param, mean, square) in enumerate(zip(params, m, v, strict=True)):
            _check_state(position, param, mean, square)
        self._groups: list[tuple[list[int], np.ndarray, np.ndarray, np.ndarray]] = []
        for positions in _by_dtype(params):
            params_, means, squares = ([arrays[i] for i in positions] for arrays in self._arrays)
            addresses = np.stack([addresses_of(arrays) for arrays in (params_, params_, means, squares)])
            self._groups.append((positions, np.empty(0, params_[0].dtype), addresses, _blocks(params_)))

    def is_for(self, params: Sequence[np.ndarray], m: Sequence[np.ndarray], v: Sequence[np.ndarray]) -> bool:
        """Whether these very arrays are the ones that it updates."""
        given = (params, m, v)
        return all(len(a) == len(b) and all(map(operator.is_, a, b)) for a, b in zip(given, self._arrays, strict=True))

    def __call__(
        self,
        grads: Sequence[np.ndarray],
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
        """One step, in place, on every parameter.

        Args:
            grads: the gradients, each of its parameter's shape and dtype; only read.
            step: the number of this step, counted from 1.
            weight_decay: times the parameter, added to its gradient; if ``decoupled`` (AdamW), instead the share ``lr *
                weight_decay`` of the parameter is taken away from it.
            grad_scale: what every gradient is multiplied by first, for clipping.

        Raises:
            ValueError: a gradient of another shape or dtype than its parameter.
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
        for position, (param, grad) in enumerate(zip(self._arrays[0], grads, strict=True)):
            _check_alike(position, param, "grads", grad)
        for positions, like, addresses, blocks in self._groups:
            # Bound to a name, since a copy has to live until the kernel has read it.
            contiguous = [np.ascontiguousarray(grads[position]) for position in positions]
            of_this_step = addresses.copy()
            of_this_step[1] = addresses_of(contiguous)
            _update_blocks(like, of_this_step, blocks, settings)


def adam_update(
    params: Sequence[np.ndarray],
    grads: Sequence[np.ndarray],
    m: Sequence[np.ndarray],
    v: Sequence[np.ndarray],
    **settings: Any,
) -> None:
    """One step of `AdamUpdate`, for parameters that are updated only once."""
    AdamUpdate(params, m, v)(grads, **settings)


def _check_state(position: int, param: np.ndarray, mean: np.ndarray, square: np.ndarray) -> None:
    if param.dtype.char not in "fd":
        raise TypeError(f"adam_update: params[{position}] must be float32 or float64, got {param.dtype}")
    _check_alike(position, param, "m", mean)
    _check_alike(position, param, "v", square)
    if not (param.flags.carray and mean.flags.carray and square.flags.carray):
        raise ValueError(
            f"adam_update: params, m and v at {position} must be writeable and C-contiguous, since they change in place"
        )


def _check_alike(position: int, param: np.ndarray, name: str, other: np.ndarray) -> None:
    if other.shape != param.shape or other.dtype.char != param.dtype.char:  # NumPy's dtypes are slow to compare
        raise ValueError(
            f"adam_update: {name}[{position}] is {other.shape} {other.dtype}, "
            f"but params[{position}] is {param.shape} {param.dtype}"
        )
