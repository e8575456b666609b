"""Structs: many arguments of a kernel in one, as integers and floats in memory whose address is passed.

A kernel with twenty array arguments takes seconds to compile, once more for every caller, and nobody can read its
calls. Here the arguments are the fields of a NamedTuple, annotated ``int`` or ``float``, or ``Address`` where an
array is given for the address of its first element::

    class Scaling(NamedTuple):
        x: Address  # (size,)
        size: int
        factor: float

    @serial_kernel
    def scale(scaling: int, first: int, last: int) -> None:
        s = read_struct(Scaling, scaling)
        x = row_at(np.float32, s.x, 0, s.size)
        for i in range(first, last):
            x[i] *= s.factor

    launch(address_of(scale), Struct(Scaling(x, x.size, 2.0)), items=x.size, shares=1)

What a kernel takes is then three integers, whatever it works on, so one launcher serves all of them. A kernel for more
than one dtype is made by a function of the dtype (`kernel_for`).
"""

from __future__ import annotations

import ctypes
import functools
import struct
import typing
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.calls import address_of
from tinygrad_attn.kernels.runtime.threads import launch_at

__all__ = ["Address", "Struct", "address_in", "kernel_for", "launch", "read_struct", "row_at"]

Address = Any  # of a field: an array, a `Struct` or None outside kernels, an integer inside


class Struct:
    """The fields of a NamedTuple in memory, at ``address`` for as long as this object lives, as do its arrays.

    Args:
        fields: ints, floats, arrays and Structs for their addresses, and None for address 0. An array that is not
            C-contiguous is copied, which does for reading; one that a kernel writes must be contiguous.
    """

    __slots__ = ("_kept", "_memory", "address")

    def __init__(self, fields: Any) -> None:
        # A training step makes dozens of these, so this is written for speed.
        layout, memory, addresses = _layout(fields.__class__)
        kept = [fields]  # whatever must live for its address to stay valid
        numbers = list(fields)
        for position in addresses:
            field = numbers[position]
            if isinstance(field, np.ndarray):
                if not field.flags.c_contiguous:
                    field = np.ascontiguousarray(field)
                    kept.append(field)
                numbers[position] = data_address(field)
            elif field is None:
                numbers[position] = 0
            elif isinstance(field, Struct):
                numbers[position] = field.address
        self._kept = kept
        self._memory = memory.from_buffer_copy(layout.pack(*numbers))
        self.address: int = ctypes.addressof(self._memory)

    def become(self, fields: Any) -> None:
        """Have other fields of the same kind, at the same address."""
        other = Struct(fields)
        ctypes.memmove(self.address, other.address, len(self._memory))
        self._kept = other._kept

    def __reduce__(self) -> Any:
        raise TypeError("what holds the addresses of arrays for a kernel cannot be copied; make it anew")


@functools.cache
def _format(kind: Any) -> struct.Struct:
    """How the fields of a NamedTuple lie in memory: 8 bytes each."""
    codes = ("d" if annotation is float else "q" for annotation in typing.get_type_hints(kind).values())
    return struct.Struct("".join(codes))


@functools.cache
def _layout(kind: Any) -> tuple[struct.Struct, Any, list[int]]:
    """`_format`, the type of so much memory, and the positions of the fields that are addresses."""
    layout, annotations = _format(kind), typing.get_type_hints(kind).values()
    places = [position for position, annotation in enumerate(annotations) if annotation is Address]
    return layout, ctypes.c_char * layout.size, places


def address_in(field: Any) -> int:
    """What stands in a struct for a field that is an `Address`: a C-contiguous array, a `Struct` or None."""
    if field is None:
        return 0
    return data_address(field) if isinstance(field, np.ndarray) else field.address  # type: ignore[no-any-return]


# --- In kernels -------------------------------------------------------------------------------------------------------


def _read_in_python(kind: Any, address: int) -> Any:
    return kind(*_format(kind).unpack(ctypes.string_at(int(address), _format(kind).size)))


@intrinsic
def _read(typingctx: Any, kind: Any, address: Any) -> Any:
    elements = [types.float64 if code == "d" else types.int64 for code in _format(kind.instance_class).format]
    fields = types.NamedTuple(elements, kind.instance_class)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        values = []
        for position, element in enumerate(elements):
            pointer = context.get_value_type(types.CPointer(element))
            where = builder.add(arguments[1], ir.Constant(ir.IntType(64), 8 * position))
            values.append(builder.load(builder.inttoptr(where, pointer)))
        return context.make_tuple(builder, signature.return_type, values)

    return fields(kind, types.int64), generate


def _row_in_python(dtype: Any, address: int, row: int, size: int) -> Any:
    bytes_ = int(size) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * bytes_).from_address(int(address + row * bytes_))
    return np.frombuffer(memory, dtype) if bytes_ else np.empty(0, dtype)


@intrinsic
def _row(typingctx: Any, dtype: Any, address: Any, row: Any, size: Any) -> Any:
    kind = types.Array(dtype.dtype, 1, "C")

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        _, start, number, count = arguments
        itemsize = ir.Constant(ir.IntType(64), context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        array = context.make_array(kind)(context, builder)
        from numba.np.arrayobj import populate_array  # compilation has imported it; importing us need not

        where = builder.add(start, builder.mul(number, builder.mul(count, itemsize)))
        one = types.UniTuple(types.intp, 1)
        shape, strides = (context.make_tuple(builder, one, [value]) for value in (count, itemsize))
        populate_array(array, builder.inttoptr(where, array.data.type), shape, strides, itemsize, None)
        return array._getvalue()

    return kind(dtype, types.int64, types.int64, types.int64), generate


# read_struct(kind, address): the NamedTuple ``kind`` that a `Struct` holds at an address.
# row_at(dtype, address, row, size): a row of the rows of ``size`` elements at an address, as an array of one axis and
# without copying. No offset is checked.
if numba.config.DISABLE_JIT:
    read_struct, row_at = _read_in_python, _row_in_python
else:
    read_struct, row_at = _read, _row


# --- Launching --------------------------------------------------------------------------------------------------------


@functools.cache
def kernel_for(make: Callable[[Any], Any], dtype: Any) -> int:
    """The address of the kernel that ``make`` makes for a dtype; made once."""
    return address_of(make(dtype))


def launch(kernel: int, arguments: Struct, items: int, shares: int) -> None:
    """Call a kernel ``(arguments, first, last)`` on all of ``items``, divided into ``shares`` of about the same size.

    The shares are taken by the threads of the pool that are free; one share runs on the calling thread.
    """
    launch_at(kernel, arguments.address, items, shares)
