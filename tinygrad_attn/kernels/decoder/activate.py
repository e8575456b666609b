"""The activation of a feed-forward network in a decoder's step: y = activation(x), or y = activation(x) ⊙ gate.

`activate_rows_in_numpy` says what the kernel computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.activation import ACTIVATIONS, activate_in_numpy, activation_value
from tinygrad_attn.kernels.runtime.jit import serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, Struct, kernel_for, read_struct, row_at
from tinygrad_attn.kernels.simd import vectors as simd

__all__ = ["activate_rows_call", "activate_rows_in_numpy"]

Array = np.ndarray[Any, Any]


def activate_rows_in_numpy(name: str, x: Array, gate: Array | None) -> Array:
    """activation(x), times ``gate`` if there is one; all (R, size)."""
    y = activate_in_numpy(name, x)[0]
    return y if gate is None else y * gate


class _Rows(NamedTuple):
    x: Address  # (rows, row), of which the first ``size`` elements of each row are changed in place
    gate: Address  # likewise, or None
    row: int
    size: int
    kind: int  # position in ACTIVATIONS


def _make_activate(dtype: Any) -> Any:
    @serial_kernel
    def activate(arguments: int, first: int, last: int) -> None:
        s = read_struct(_Rows, arguments)
        for row in range(first, last):
            x, gate = row_at(dtype, s.x, row, s.row), row_at(dtype, s.gate, row, s.row if s.gate else 0)
            for i in range(0, s.size, simd.lanes(x)):
                count = min(s.size - i, simd.lanes(x))
                y = activation_value(s.kind, simd.load_part(x, i, count, 0.0), 0.0, 0.0)
                if s.gate:
                    y = y * simd.load_part(gate, i, count, 0.0)
                simd.store_part(x, i, count, y)

    return activate


def activate_rows_call(name: str, x: Array, gate: Array | None, size: int) -> tuple[int, Struct]:
    """`activate_rows_in_numpy` as part of a program, in place, for the first ``size`` columns of ``x``.

    ``x`` and ``gate`` are C-contiguous and of one shape and dtype; ``name`` is one of `kernels.activation.ACTIVATIONS`
    without further arguments.
    """
    arguments = _Rows(x, gate, x.shape[1], size, ACTIVATIONS.index(name))
    return kernel_for(_make_activate, x.dtype.type), Struct(arguments)
