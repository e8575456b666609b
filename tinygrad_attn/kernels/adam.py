"""Adam and AdamW in one launch for all parameters, each read and written once, and the norm of all gradients in one.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; Loshchilov and Hutter, "Decoupled Weight Decay
Regularization", 2019; operation for operation as ``torch.optim.Adam`` and ``AdamW``. `update_in_numpy` and
`norm_in_numpy` say what the kernels compute.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.runtime.addresses import addresses_of
from tinygrad_attn.kernels.runtime.jit import called_kernel, inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, launch, read_struct, row_at
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["AdamSettings", "AdamUpdate", "adam_update", "global_norm", "norm_in_numpy", "update_in_numpy"]

Array = np.ndarray[Any, Any]

_BLOCK_SIZE = 8192  # elements in one partial sum, which one thread takes at a time


class AdamSettings(NamedTuple):
    """The options of a step.

    Attributes:
        lr: the learning rate.
        beta1, beta2: how much of the running means of the gradient and of its square a step keeps.
        eps: added to the root of the latter.
        weight_decay: times the parameter, added to its gradient; if ``decoupled`` (AdamW), instead the share ``lr *
            weight_decay`` of the parameter is subtracted from it.
        decoupled: see ``weight_decay``.
        grad_scale: what every gradient is multiplied by first, for clipping.
    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    grad_scale: float = 1.0


# --- In NumPy ---------------------------------------------------------------------------------------------------------


def update_in_numpy(
    param: Array, grad: Array, m: Array, v: Array, step: int, s: AdamSettings
) -> tuple[Array, Array, Array]:
    """A parameter and the running means of its gradient and of the square after step number ``step``, from 1."""
    grad = grad * s.grad_scale
    if s.decoupled:
        param = param * (1 - s.lr * s.weight_decay)
    else:
        grad = grad + param * s.weight_decay
    m = s.beta1 * m + (1 - s.beta1) * grad
    v = s.beta2 * v + (1 - s.beta2) * grad**2
    m_hat, v_hat = m / (1 - s.beta1**step), v / (1 - s.beta2**step)
    return param - s.lr * m_hat / (np.sqrt(v_hat) + s.eps), m, v


def norm_in_numpy(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all elements of all arrays together."""
    return math.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in arrays))


# --- Blocks -----------------------------------------------------------------------------------------------------------


def _blocks(arrays: Sequence[Array]) -> Array:
    """All arrays cut into blocks, which end where an array ends: of each its array, first element and size, int64."""
    return _blocks_of(tuple([array.size for array in arrays]))


@functools.lru_cache(maxsize=8)  # of the same arrays in every training step
def _blocks_of(array_sizes: tuple[int, ...]) -> Array:
    sizes = np.array(array_sizes, np.int64)
    counts = -(-sizes // _BLOCK_SIZE)
    array = np.repeat(np.arange(len(sizes)), counts)
    first = (np.arange(len(array)) - np.repeat(np.cumsum(counts) - counts, counts)) * _BLOCK_SIZE
    return np.stack([array, first, np.minimum(sizes[array] - first, _BLOCK_SIZE)], axis=1)


def _by_dtype(arrays: Sequence[Array]) -> list[list[int]]:
    """The positions of the arrays that are not empty, a list for each dtype."""
    groups: dict[str, list[int]] = {}
    for position, array in enumerate(arrays):
        if array.size:
            groups.setdefault(array.dtype.char, []).append(position)
    return list(groups.values())


def _launch(make: Callable[[Any], Any], dtype: Any, arguments: Struct, blocks: Array) -> None:
    """Run the kernel that ``make`` makes for a dtype on all blocks."""
    launch(kernel_for(make, dtype), arguments, len(blocks), min(len(blocks), get_num_threads()))


# --- The norm ---------------------------------------------------------------------------------------------------------


class _Norm(NamedTuple):
    arrays: Address  # addresses, (arrays,) int64
    blocks: Address  # (blocks, 3) int64
    sums: Address  # (blocks,) float64


def _make_norm(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def norm(arguments: int, first: int, last: int) -> None:
        """Write the sum of squares of each block."""
        s = read_struct(_Norm, arguments)
        for i in range(first, last):
            block = row_at(np.int64, s.blocks, i, 3)
            address = row_at(np.int64, s.arrays, block[0], 1)[0] + block[1] * itemsize
            row_at(np.float64, s.sums, i, 1)[0] = _sum_of_squares(row_at(dtype, address, 0, block[2]))

    return norm


@called_kernel
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


def global_norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all elements of all ``arrays`` together, summed in float64, in blocks of fixed size.

    Args:
        arrays: float32 or float64, of any shapes; those that are not C-contiguous are copied.
    """
    total = 0.0
    for positions in _by_dtype(arrays):
        group = [np.ascontiguousarray(arrays[position]) for position in positions]
        blocks = _blocks(group)
        sums = np.empty(len(blocks), np.float64)
        _launch(_make_norm, group[0].dtype.type, Struct(_Norm(addresses_of(group), blocks, sums)), blocks)
        total += float(sums.sum())
    return math.sqrt(total)


# --- The update -------------------------------------------------------------------------------------------------------


class _Update(NamedTuple):
    """What the kernel works on, and the settings as the numbers that it needs."""

    params: Address  # addresses, (arrays,) int64, like the next three
    grads: Address
    m: Address
    v: Address
    blocks: Address  # (blocks, 3) int64
    step_size: float  # lr / (1 - beta1^step)
    keep_v: float  # beta2
    add_m: float  # 1 - beta1
    add_v: float  # 1 - beta2
    root_correction: float  # sqrt(1 - beta2^step)
    eps: float
    coupled_decay: float  # times the parameter, added to the gradient
    shrink: float  # what the parameter is multiplied by
    grad_scale: float


@inlined_kernel
def _updated(param: Any, grad: Any, m: Any, v: Any, s: Any) -> Any:
    """One vector of each of ``param``, ``m`` and ``v`` after the step."""
    grad = grad * s.grad_scale + param * s.coupled_decay
    m = m + (grad - m) * s.add_m
    v = v * s.keep_v + grad * grad * s.add_v
    return param * s.shrink - m * s.step_size / (simd.sqrt(v) / s.root_correction + s.eps), m, v


@called_kernel
def _update_block(param: Any, grad: Any, m: Any, v: Any, s: Any) -> None:
    step = simd.lanes(param)
    rest = param.size % step
    whole = param.size - rest
    for i in range(0, whole, step):
        new = _updated(simd.load(param, i), simd.load(grad, i), simd.load(m, i), simd.load(v, i), s)
        simd.store(param, i, new[0])
        simd.store(m, i, new[1])
        simd.store(v, i, new[2])
    if rest:
        new = _updated(
            simd.load_part(param, whole, rest, 0.0),
            simd.load_part(grad, whole, rest, 0.0),
            simd.load_part(m, whole, rest, 0.0),
            simd.load_part(v, whole, rest, 0.0),
            s,
        )
        simd.store_part(param, whole, rest, new[0])
        simd.store_part(m, whole, rest, new[1])
        simd.store_part(v, whole, rest, new[2])


def _make_update(dtype: Any) -> Any:
    itemsize = np.dtype(dtype).itemsize

    @serial_kernel
    def update(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Update, arguments)
        for i in range(first, last):
            block = row_at(np.int64, s.blocks, i, 3)
            array, offset, size = block[0], block[1] * itemsize, block[2]
            _update_block(
                row_at(dtype, row_at(np.int64, s.params, array, 1)[0] + offset, 0, size),
                row_at(dtype, row_at(np.int64, s.grads, array, 1)[0] + offset, 0, size),
                row_at(dtype, row_at(np.int64, s.m, array, 1)[0] + offset, 0, size),
                row_at(dtype, row_at(np.int64, s.v, array, 1)[0] + offset, 0, size),
                s,
            )

    return update


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

    def __init__(self, params: Sequence[Array], m: Sequence[Array], v: Sequence[Array]) -> None:
        # The arrays are kept, so their addresses stay valid.
        self._arrays = [list(params), list(m), list(v)]
        for position, (param, mean, square) in enumerate(zip(params, m, v, strict=True)):
            _check_state(position, param, mean, square)
        self._groups: list[tuple[list[int], Array, list[Array]]] = []
        for positions in _by_dtype(params):
            of_group = [[arrays[i] for i in positions] for arrays in self._arrays]
            self._groups.append((positions, _blocks(of_group[0]), [addresses_of(arrays) for arrays in of_group]))

    def __reduce__(self) -> Any:
        # A copy is of the copied arrays, whose addresses are others.
        return AdamUpdate, tuple(self._arrays)

    def is_for(self, params: Sequence[Array], m: Sequence[Array], v: Sequence[Array]) -> bool:
        """Whether these very arrays are the ones that it updates."""
        given = (params, m, v)
        return all(len(a) == len(b) and all(map(operator.is_, a, b)) for a, b in zip(given, self._arrays, strict=True))

    def __call__(self, grads: Sequence[Array], step: int, settings: AdamSettings) -> None:
        """One step, in place, on every parameter.

        Args:
            grads: the gradients, each of its parameter's shape and dtype; only read.
            step: the number of this step, counted from 1.
            settings: the options.

        Raises:
            ValueError: a gradient of another shape or dtype than its parameter.
        """
        s = settings
        numbers = (
            s.lr / (1.0 - s.beta1**step),
            s.beta2,
            1.0 - s.beta1,
            1.0 - s.beta2,
            math.sqrt(1.0 - s.beta2**step),
            s.eps,
            0.0 if s.decoupled else s.weight_decay,
            1.0 - s.lr * s.weight_decay if s.decoupled else 1.0,
            s.grad_scale,
        )
        for position, (param, grad) in enumerate(zip(self._arrays[0], grads, strict=True)):
            _check_alike(position, param, "grads", grad)
        for positions, blocks, (params, m, v) in self._groups:
            # Bound to a name, since a copy has to live until the kernel has read it.
            contiguous = [np.ascontiguousarray(grads[position]) for position in positions]
            arguments = Struct(_Update(params, addresses_of(contiguous), m, v, blocks, *numbers))
            _launch(_make_update, contiguous[0].dtype.type, arguments, blocks)


def adam_update(
    params: Sequence[Array],
    grads: Sequence[Array],
    m: Sequence[Array],
    v: Sequence[Array],
    step: int,
    settings: AdamSettings,
) -> None:
    """One step of `AdamUpdate`, for parameters that are updated only once."""
    AdamUpdate(params, m, v)(grads, step, settings)


def _check_state(position: int, param: Array, mean: Array, square: Array) -> None:
    if param.dtype.char not in "fd":
        raise TypeError(f"adam_update: params[{position}] must be float32 or float64, got {param.dtype}")
    _check_alike(position, param, "m", mean)
    _check_alike(position, param, "v", square)
    if not (param.flags.carray and mean.flags.carray and square.flags.carray):
        raise ValueError(
            f"adam_update: params, m and v at {position} must be writeable and C-contiguous, since they change in place"
        )


def _check_alike(position: int, param: Array, name: str, other: Array) -> None:
    if other.shape != param.shape or other.dtype.char != param.dtype.char:  # NumPy's dtypes are slow to compare
        raise ValueError(
            f"adam_update: {name}[{position}] is {other.shape} {other.dtype}, "
            f"but params[{position}] is {param.shape} {param.dtype}"
        )
