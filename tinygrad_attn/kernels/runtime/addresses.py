"""Arrays by their addresses, so that one launch of a kernel can work on any number of them.

A kernel that took a list of arrays would be compiled for each length of the list; a table of addresses is one array,
however long.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from tinygrad_attn.kernels.runtime.jit import serial_kernel

__all__ = ["addresses_of", "array_address", "data_address", "data_addresses", "elements_at"]


# NumPy's array object begins with Python's header of an object, and then the pointer to its data: this is part of the
# C interface that every extension is compiled with. Read as a word of the process's memory, counted from where that
# pointer would lie in an object at address 0, it costs a tenth of ``array.ctypes.data``.
_WORD = ctypes.sizeof(ctypes.c_ssize_t)
_words = (ctypes.c_ssize_t * (sys.maxsize // _WORD)).from_address(object.__basicsize__)


def data_address(array: np.ndarray) -> int:
    """Where the first element of an array lies, whatever its strides; valid for as long as the array lives."""
    return _words[id(array) // _WORD]


def data_addresses(arrays: Iterable[np.ndarray | None]) -> list[int]:
    """`data_address` of each array, and 0 for None."""
    words, word = _words, _WORD
    return [0 if array is None else words[id(array) // word] for array in arrays]


def array_address(array: np.ndarray) -> int:
    """`data_address` of an array whose elements adjoin.

    Raises:
        ValueError: an array that is not C-contiguous.
    """
    if not array.flags.c_contiguous:
        raise ValueError(
            f"array_address: the array {array.shape} must be C-contiguous, its strides are {array.strides}"
        )
    return data_address(array)


def addresses_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Where each array, C-contiguous, begins, as ``(len(arrays),)`` int64; valid for as long as the arrays live."""
    return np.array([array_address(array) for array in arrays], np.int64)


@intrinsic
def _pointer(typingctx: Any, like: Any, address: Any) -> Any:
    """``address`` as a pointer to elements of the array ``like``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, types.int64), generate


@serial_kernel
def _elements(like: Any, address: int, size: int) -> Any:
    return numba.carray(_pointer(like, address), size)


def _elements_in_python(like: Any, address: int, size: int) -> Any:
    memory = (ctypes.c_char * (int(size) * like.itemsize)).from_address(int(address))
    return np.frombuffer(memory, like.dtype) if size else np.empty(0, like.dtype)


# (like, address, size): the elements at an address as an array of one axis and of ``like``'s dtype; nothing is copied.
elements_at = _elements_in_python if numba.config.DISABLE_JIT else _elements
