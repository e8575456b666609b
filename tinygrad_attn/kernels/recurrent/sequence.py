"""A recurrent cell over a whole sequence, forward and backward: what RNN, GRU and LSTM have in common.

The caller computes ``gx = x W_ih^T + b_ih`` for all steps in one product. The loop over the steps adds ``gh = h W_hh^T
+ b_hh``, one product a step. The gradient of W_hh is one product over all steps.

An array over all steps is (T, B, ...), and contiguous that way or as (B, T, ...): results are laid out as ``gx`` is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.packed import pack, packed_product_for
from tinygrad_attn.kernels.recurrent.loops import Loop, make_backward, make_forward
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import address_in, kernel_for
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.together import multiply_and_sum

__all__ = ["Cell", "Layout", "Saved", "launch_loop", "run_cell", "run_cell_backward"]

Array = np.ndarray[Any, Any]

_SERIAL_WORK = 80**3  # multiplications up to which waking the threads costs more than they save


class Cell(NamedTuple):
    """A recurrent cell; `tinygrad_attn.kernels.recurrent.loops.Loop` says what its kernels do."""

    name: str
    make_forward: Callable[[Any], Any]  # from a dtype to its kernel for one row
    make_backward: Callable[[Any], Any]
    parts: int  # gx and gh are (..., parts * H)
    gates: int  # what is kept for the backward step is (..., gates * H)
    same_gradient: bool  # whether the gradients of gx and gh are equal


class Saved(NamedTuple):
    """What `run_cell` computes. All of it is for the backward pass."""

    states: Array  # h after each step, (T, B, H), at the index of its input
    cells: Any  # c after each step, (T, B, H), of an LSTM; else None
    gates: Any  # (T, B, gates * H), or None if there are none


class Layout(NamedTuple):
    """How the arrays over all steps of one call lie in memory: (T, B, ...), or if ``by_sequence`` (B, T, ...)."""

    steps: int
    batch: int
    dtype: Any
    by_sequence: bool

    @classmethod
    def of(cls, array: Array) -> Layout:
        """That of an array (T, B, n)."""
        by_sequence = not array.flags.c_contiguous and array.transpose(1, 0, 2).flags.c_contiguous
        return cls(array.shape[0], array.shape[1], array.dtype.type, by_sequence)

    def empty(self, width: int) -> Array:
        """A new array (T, B, width)."""
        if self.by_sequence:
            return np.empty((self.batch, self.steps, width), self.dtype).transpose(1, 0, 2)
        return np.empty((self.steps, self.batch, width), self.dtype)

    def contiguous(self, array: Array) -> Array:
        """The array (T, B, ...) as it lies in memory; a copy if it does not lie in this layout."""
        return np.ascontiguousarray(array.swapaxes(0, 1) if self.by_sequence else array)

    def has(self, array: Array) -> bool:
        """Whether an array (T, B, ...) lies in this layout and may be written to."""
        return array.dtype.type is self.dtype and (array.swapaxes(0, 1) if self.by_sequence else array).flags.carray

    def rows(self, array: Array) -> Array:
        """The array (T, B, n) as (T * B, n), in the order in which it lies in memory."""
        return self.contiguous(array).reshape(self.steps * self.batch, array.shape[-1])


def run_cell(
    cell: Cell,
    gx: Array,
    w_hh: Array,
    b_hh: Array | None,
    initial: tuple[Array, ...],
    mask: Array | None = None,
    reverse: bool = False,
    over: bool = False,
) -> Saved:
    """Run a cell over ``T`` steps of ``B`` sequences.

    Args:
        cell: `tinygrad_attn.kernels.recurrent.rnn.TANH` or ``RELU``, ``gru.GRU`` or ``lstm.LSTM``.
        gx: ``(T, B, nH)``, ``x W_ih^T + b_ih``, float32 or float64, as everything else but the mask; n is 1 for an RNN,
            3 for a GRU and 4 for an LSTM.
        w_hh: ``(nH, H)``.
        b_hh: ``(nH,)``, or None for zeros.
        initial: h, of an LSTM h and c, each ``(B, H)``.
        mask: ``(T, B)`` booleans; a step where it is False, such as padding, keeps the state. None for all True.
        reverse: from the last step to the first.
        over: the gates may be written over gx, which then holds nothing else.

    Raises:
        TypeError: a dtype that is neither float32 nor float64.
        ValueError: shapes or dtypes that do not fit.
    """
    _check(cell, gx, w_hh, b_hh, mask, initial)
    layout, size = Layout.of(gx), w_hh.shape[1]
    gates = layout.empty(cell.gates * size) if cell.gates else None
    if over and cell.gates == cell.parts and layout.has(gx):
        gates = gx
    saved = Saved(layout.empty(size), layout.empty(size) if len(initial) > 1 else None, gates)
    fields = _common_fields(layout, saved, initial, mask, reverse)
    gh = np.empty((layout.batch, cell.parts * size), layout.dtype)
    fields |= {"gx": layout.contiguous(gx), "gh": gh, "bias": b_hh}
    launch_loop(cell, layout, w_hh, fields)
    return saved


def run_cell_backward(
    cell: Cell,
    g: Array,
    saved: Saved,
    w_hh: Array,
    initial: tuple[Array, ...],
    mask: Array | None = None,
    reverse: bool = False,
    g_last: tuple[Array | None, ...] = (None, None),
    over: bool = False,
) -> tuple[Array, Array, Array, tuple[Array, ...]]:
    """The gradients of `run_cell` from those of its states.

    Args:
        g: the gradient of the states h after each step, ``(T, B, H)``.
        saved: what `run_cell` returned; the rest is what it was given.
        g_last: for each of the states a further gradient of the last one, ``(B, H)``, or None for zeros.
        over: dgx may be written over the gates, which then hold nothing else.

    Returns:
        dgx ``(T, B, nH)``, dw_hh ``(nH, H)``, db_hh ``(nH,)`` and those of the initial states.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    _check_backward(cell, g, saved.states, mask)
    layout, size = Layout.of(saved.states), w_hh.shape[1]
    dgh = layout.empty(cell.parts * size)
    if over and cell.gates == cell.parts and layout.has(saved.gates):
        dgh = saved.gates
    dgx = dgh if cell.same_gradient else layout.empty(cell.parts * size)
    # These begin as the gradients of the last states and end as those of the initial ones.
    d = tuple(
        np.zeros(state.shape, state.dtype) if one is None else np.array(one, state.dtype, order="C")
        for one, state in zip(g_last, initial, strict=False)
    )
    fields = _common_fields(layout, saved, initial, mask, reverse)
    fields |= {"g": layout.contiguous(g), "dgx": layout.contiguous(dgx), "dgh": layout.contiguous(dgh)}
    fields |= dict(zip(("dh", "dc"), d, strict=False))
    before = layout.empty(size)
    fields["before"] = layout.contiguous(before)
    launch_loop(cell, layout, w_hh, fields, backward=True)
    rows, dw_hh, db_hh = layout.rows(dgh), np.empty(w_hh.shape, w_hh.dtype), np.empty(len(w_hh), w_hh.dtype)
    multiply_and_sum([(rows.T, layout.rows(before), dw_hh)], [(rows, db_hh)], in_chains=True)
    return dgx, dw_hh, db_hh, d


def launch_loop(
    cell: Cell, layout: Layout, w_hh: Array, fields: dict[str, Any], backward: bool = False, other_work: int = 0
) -> None:
    """Run the loop over all steps of all sequences.

    Args:
        fields: those of `Loop` that do not follow from the other arguments; arrays over all steps lie in ``layout``.
        other_work: the multiplications in one step of one sequence beside those with W_hh.
    """
    weights = pack(w_hh if backward else w_hh.T)
    arrays = [fields.get(name) for name in _ARRAYS]
    arrays = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in (weights.panels, *arrays[1:])]
    options = (fields.get("reverse", False), fields.get("attend", 0), backward, other_work)
    prepared = _prepared(cell, layout, w_hh.shape, weights.panels.shape[-1], options, get_num_threads())
    prepared.launch(tuple([address_in(array) for array in arrays]))


_ARRAYS = Loop._fields[: Loop._fields.index("cell")]


@functools.lru_cache(maxsize=MOST_PREPARED)
def _prepared(
    cell: Cell,
    layout: Layout,
    shape: tuple[int, int],
    width: int,
    options: tuple[bool, int, bool, int],
    threads: int,
) -> Prepared:
    """The launch of a loop for weights of some shape, in panels of some width; see `launch_loop`."""
    reverse, attend, backward, other_work = options
    (rows, size), dtype = shape, layout.dtype
    step_stride, stride = (1, layout.steps) if layout.by_sequence else (layout.batch, 1)
    last = {"size": size, "parts": cell.parts, "steps": layout.steps, "step_stride": step_stride, "stride": stride}
    last["cell"] = kernel_for(cell.make_backward if backward else cell.make_forward, dtype)
    last |= {"product": packed_product_for(np.dtype(dtype).itemsize), "width": width}
    last |= {"reverse": reverse, "attend": attend}
    work = (rows * size + other_work) * layout.steps * layout.batch
    shares = 1 if work <= _SERIAL_WORK else min(layout.batch, threads)
    return Prepared(
        Job(kernel_for(make_backward if backward else make_forward, dtype), Loop, last, layout.batch, shares)
    )


def _common_fields(
    layout: Layout, saved: Saved, initial: tuple[Array, ...], mask: Array | None, reverse: bool
) -> dict[str, Any]:
    """The fields of `Loop` that both directions have."""
    fields = {"states": saved.states, "cells": saved.cells, "gates": saved.gates, "mask": mask}
    fields = {name: None if array is None else layout.contiguous(array) for name, array in fields.items()}
    return {**fields, **dict(zip(("h0", "c0"), initial, strict=False)), "reverse": reverse}


def _check(
    cell: Cell, gx: Array, w_hh: Array, b_hh: Array | None, mask: Array | None, initial: tuple[Array, ...]
) -> None:
    """Check everything against the first initial state."""
    (h0, *_), name, parts = initial, cell.name, cell.parts
    if h0.dtype != np.float32 and h0.dtype != np.float64:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {h0.dtype} for h0; convert with astype")
    if h0.ndim != 2 or gx.ndim != 3:
        raise ValueError(f"{name}: gx must be (T, B, {parts}H) and h0 (B, H), got {gx.shape} and {h0.shape}")
    batch, size = h0.shape
    expected = {
        "gx": (gx, (len(gx), batch, parts * size)),
        "w_hh": (w_hh, (parts * size, size)),
        "b_hh": (b_hh, (parts * size,)),
        **{which: (array, (batch, size)) for which, array in zip(("h0", "c0"), initial, strict=False)},
    }
    for which, (array, shape) in expected.items():
        if array is not None and (array.shape != shape or array.dtype != h0.dtype):
            raise ValueError(
                f"{name}: for h0 {h0.shape} {h0.dtype}, {which} must be {shape}, got {array.shape} {array.dtype}"
            )
    _check_mask(name, mask, len(gx), batch)


def _check_backward(cell: Cell, g: Array, states: Array, mask: Array | None) -> None:
    name = f"{cell.name} backward"
    if g.shape != states.shape or g.dtype != states.dtype:
        raise ValueError(
            f"{name}: the gradient must be {states.shape} {states.dtype}, as the states, got {g.shape} {g.dtype}"
        )
    _check_mask(name, mask, *states.shape[:2])


def _check_mask(name: str, mask: Array | None, steps: int, batch: int) -> None:
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != (steps, batch)):
        raise ValueError(f"{name}: mask must be {(steps, batch)} and boolean, got {mask.shape} {mask.dtype}")
