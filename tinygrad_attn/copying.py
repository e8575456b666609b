"""Copies of tensors, by `copy`, and by `pickle` for other processes.

A copy has the values, ``requires_grad`` and the gradient; hooks stay with the original. As in PyTorch, tensors that
share memory still share it in a deep copy of both. In a pickle they do so if each of them spans all of the memory;
otherwise a small part of a large tensor would take the whole along.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tinygrad_attn.public import public
from tinygrad_attn.tensor import Storage, Tensor, share, wrap

__all__: list[str] = []

Array = np.ndarray[Any, Any]


@public("Tensor.__copy__")
def _shallow(x: Tensor) -> Tensor:
    """Another tensor of the same memory, node and gradient."""
    twin = wrap(x.array) if x.origin is not None else _rebuilt(type(x), x.array, x.requires_grad)
    twin.origin, twin._requires_grad, twin._grad = x.origin, x.requires_grad, x.grad
    vars_of = getattr(x, "__dict__", None)
    if vars_of and x.origin is None:
        twin.__dict__.update(vars_of)
    share(x, twin)
    return twin


@public("Tensor.__deepcopy__")
def _deep(x: Tensor, memo: dict[int, Any]) -> Tensor:
    """A copy in new memory.

    Raises:
        RuntimeError: not a leaf; as in PyTorch the graph is not copied.
    """
    if x.node is not None:
        raise RuntimeError(
            f"only leaf tensors can be copied deeply; this is the output of {x.node.op.name}. Use clone() or detach()."
        )
    owner = _owner(x.array)
    array = _view(copy.deepcopy(owner, memo), x.array, owner)
    twin = _rebuilt(type(x), array, x.requires_grad, copy.deepcopy(x._storage, memo))
    memo[id(x)] = twin
    if x.grad is not None:
        twin.grad = copy.deepcopy(x.grad.detach(), memo)
    if getattr(x, "__dict__", None):
        twin.__dict__.update(copy.deepcopy(x.__dict__, memo))
    return twin


@public("Tensor.__reduce_ex__")
def _reduced(x: Tensor, protocol: Any) -> tuple[Any, ...]:
    """What pickle stores: a tensor that an op has made becomes a leaf, as in PyTorch."""
    owner = _owner(x.array)
    whole = owner.nbytes == x.array.nbytes and owner.flags.forc
    layout = (x.array.shape, x.array.strides, _offset(x.array, owner), x.dtype.char)
    place = (owner, *layout) if whole else (x.array.copy(),)
    kind = Tensor if x.node is not None else type(x)
    grad = None if x.grad is None else x.grad.detach()
    state = getattr(x, "__dict__", None) or None
    return _unpickled, (kind, place, x.requires_grad, x._storage if whole else None, grad), state


def _unpickled(
    kind: type[Tensor], place: tuple[Any, ...], requires_grad: bool, storage: Storage | None, grad: Tensor | None
) -> Tensor:
    array, *where = place
    if array.dtype is not np.dtype(array.dtype.char):  # the engine compares dtypes by identity
        array = array.view(np.dtype(array.dtype.char))
    if where and (array.shape, array.strides, 0, array.dtype.char) != tuple(where):
        array = _at(array, *where)
    twin = _rebuilt(kind, array, requires_grad, storage)
    twin.grad = grad
    return twin


def _rebuilt(kind: type[Tensor], array: Array, requires_grad: bool, storage: Storage | None = None) -> Tensor:
    """A leaf of class ``kind``, whose own ``__init__`` is not called."""
    made = kind.__new__(kind)
    Tensor.__init__(made, array, requires_grad)
    if storage is not None:
        storage.join(made)
    return made


# -- memory ------------------------------------------------------------------------------------------------------------


def _owner(array: Array) -> Array:
    """The array without gaps whose memory ``array`` is a view of; itself if there is none."""
    owner = array
    while type(owner.base) is np.ndarray:
        owner = owner.base
    return owner if owner.flags.forc else array


def _offset(array: Array, owner: Array) -> int:
    """How many bytes after the start of ``owner`` the first element of ``array`` lies."""
    return array.ctypes.data - owner.ctypes.data


def _view(twin: Array, array: Array, owner: Array) -> Array:
    """The part of ``twin``, a copy of ``owner``, that corresponds to ``array``."""
    if array is owner:
        return twin
    view = _at(twin, array.shape, array.strides, _offset(array, owner), array.dtype)
    view.flags.writeable = array.flags.writeable
    return view


def _at(memory: Array, shape: Any, strides: Any, offset: int, dtype: Any) -> Array:
    """A view of ``memory``, an array without gaps."""
    return np.ndarray(shape, dtype, memory.ravel(order="K").view(np.uint8), offset, strides)
