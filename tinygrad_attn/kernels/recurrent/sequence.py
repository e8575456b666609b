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

from tinygrad_attn.kernels.gemm.blocks import workspaces
from tinygrad_attn.kernels.gemm.packed import pack, packed_product_for
from tinygrad_attn.kernels.gemm.plan import tile_shape
from tinygrad_attn.kernels.gemm.product import is_tiny
from tinygrad_attn.kernels.gemm.shares import Place
from tinygrad_attn.kernels.recurrent.loops import Loop, make_backward, make_forward
from tinygrad_attn.kernels.row_sums import row_sums_scratch
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Job, Prepared
from tinygrad_attn.kernels.runtime.structs import address_in, kernel_for
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.together import multiply_and_sum, prepared_together

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


class Form(NamedTuple):
    """How an array lies in memory: what prepared launches depend on."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any

    def lies(self, by_sequence: bool = False) -> bool:
        """Whether the elements adjoin in order, or if ``by_sequence`` with the first two axes exchanged."""
        order = [1, 0, *range(2, len(self.shape))] if by_sequence else range(len(self.shape))
        step = self.dtype.itemsize
        for axis in reversed(order):
            if self.shape[axis] != 1 and self.strides[axis] != step:
                return 0 in self.shape
            step *= self.shape[axis]
        return True


def _form(array: Array) -> Form:
    return Form(array.shape, array.strides, array.dtype)


def _form_or_none(array: Array | None) -> Form | None:
    return None if array is None else Form(array.shape, array.strides, array.dtype)


class Layout(NamedTuple):
    """How the arrays over all steps of one call lie in memory: (T, B, ...), or if ``by_sequence`` (B, T, ...)."""

    steps: int
    batch: int
    dtype: Any
    by_sequence: bool

    @classmethod
    def of(cls, form: Form) -> Layout:
        """That of an array (T, B, n)."""
        steps, batch = form.shape[:2]
        return cls(steps, batch, form.dtype.type, not form.lies() and form.lies(by_sequence=True))

    def empty(self, width: int) -> Array:
        """A new array (T, B, width)."""
        if self.by_sequence:
            return np.empty((self.batch, self.steps, width), self.dtype).transpose(1, 0, 2)
        return np.empty((self.steps, self.batch, width), self.dtype)

    def laid(self, array: Array | None) -> Any:
        """The array (T, B, ...); a copy if it does not lie in this layout."""
        if array is None or not self.by_sequence:
            return array if array is None else np.ascontiguousarray(array)
        return np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)

    def have(self, *forms: Form | None) -> bool:
        """Whether arrays (T, B, ...) lie in this layout."""
        return all(form is None or form.lies(self.by_sequence) for form in forms)

    def rows(self, array: Array) -> Array:
        """An array (T, B, n) that lies in this layout as (T * B, n), in the order in which it lies in memory."""
        return (array.swapaxes(0, 1) if self.by_sequence else array).reshape(-1, array.shape[-1])


class _Plan(NamedTuple):
    """What the calls for arrays of the same forms have in common."""

    layout: Layout
    size: int  # H
    lie: bool  # whether all arrays lie as the kernels read them
    loop: Prepared
    gradients: Prepared | None = None  # those of W_hh and b_hh, if they are large enough


@functools.lru_cache(maxsize=MOST_PREPARED)
def _plan_forward(
    cell: Cell,
    gx: Form,
    w_hh: Form,
    b_hh: Form | None,
    initial: tuple[Form, ...],
    mask: Form | None,
    reverse: bool,
    threads: int,
) -> _Plan:
    _check(cell, gx, w_hh, b_hh, mask, initial)
    layout = Layout.of(gx)
    lie = layout.have(gx, mask) and all(form.lies() for form in initial) and (b_hh is None or b_hh.lies())
    return _Plan(layout, w_hh.shape[1], lie, _loop(cell, layout, w_hh, (reverse, 0, False, 0), threads))


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
    forms = tuple([_form(state) for state in initial])
    plan = _plan_forward(
        cell, _form(gx), _form(w_hh), _form_or_none(b_hh), forms, _form_or_none(mask), reverse, get_num_threads()
    )
    layout, size = plan.layout, plan.size
    if not plan.lie:
        gx, mask, initial = layout.laid(gx), layout.laid(mask), tuple(map(np.ascontiguousarray, initial))
        b_hh = None if b_hh is None else np.ascontiguousarray(b_hh)
    gates = None
    if cell.gates:
        gates = gx if over and cell.gates == cell.parts and gx.flags.writeable else layout.empty(cell.gates * size)
    saved = Saved(layout.empty(size), layout.empty(size) if len(initial) > 1 else None, gates)
    panels, gh = pack(w_hh.T).panels, np.empty((layout.batch, cell.parts * size), layout.dtype)
    fields = _common_fields(saved, initial, mask)
    plan.loop.launch(
        _addresses(
            panels=data_address(panels), gx=data_address(gx), gh=data_address(gh), bias=address_in(b_hh), **fields
        )
    )
    return saved


@functools.lru_cache(maxsize=MOST_PREPARED)
def _plan_backward(
    cell: Cell,
    g: Form,
    saved: tuple[Form, Form | None, Form | None],
    w_hh: Form,
    initial: tuple[Form, ...],
    mask: Form | None,
    reverse: bool,
    threads: int,
) -> _Plan:
    states, itemsize = saved[0], g.dtype.itemsize
    _check_backward(cell, g, states, mask)
    layout = Layout.of(states)
    lie = layout.have(g, *saved, mask) and all(form.lies() for form in initial)
    (width, size), rows, gradients = w_hh.shape, layout.steps * layout.batch, None
    if not is_tiny(rows * width * size) and width > 1:
        dgh, before = (
            Place((width, rows), (itemsize, width * itemsize)),
            Place((rows, size), (size * itemsize, itemsize)),
        )
        places = dgh, before, Place((width, size), (size * itemsize, itemsize))
        gradients = prepared_together((places,), ((rows, width),), True, g.dtype, threads)
    return _Plan(layout, size, lie, _loop(cell, layout, w_hh, (reverse, 0, True, 0), threads), gradients)


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
    forms = _form(saved.states), _form_or_none(saved.cells), _form_or_none(saved.gates)
    before_first = tuple([_form(state) for state in initial])
    plan = _plan_backward(
        cell, _form(g), forms, _form(w_hh), before_first, _form_or_none(mask), reverse, get_num_threads()
    )
    layout, size, dtype = plan.layout, plan.size, w_hh.dtype
    if not plan.lie:
        saved, g, mask = Saved(*map(layout.laid, saved)), layout.laid(g), layout.laid(mask)
        initial = tuple(map(np.ascontiguousarray, initial))
    gates = saved.gates
    dgh = gates if over and cell.gates == cell.parts and gates.flags.writeable else layout.empty(cell.parts * size)
    dgx = dgh if cell.same_gradient else layout.empty(cell.parts * size)
    # These begin as the gradients of the last states and end as those of the initial ones.
    d = tuple(
        [
            np.zeros(state.shape, dtype) if one is None else np.array(one, dtype, order="C")
            for one, state in zip(g_last, initial, strict=False)
        ]
    )
    before, dw_hh, db_hh = layout.empty(size), np.empty(w_hh.shape, dtype), np.empty(len(w_hh), dtype)
    fields = _common_fields(saved, initial, mask) | {"g": data_address(g), "before": data_address(before)}
    fields |= {"dgx": data_address(dgx), "dgh": data_address(dgh), "dh": data_address(d[0])}
    panels = pack(w_hh).panels
    plan.loop.launch(_addresses(panels=data_address(panels), dc=address_in(d[1]) if len(d) > 1 else 0, **fields))
    if plan.gradients is None:
        rows = layout.rows(dgh)
        multiply_and_sum([(rows.T, layout.rows(before), dw_hh)], [(rows, db_hh)], in_chains=True)
    else:
        width = len(w_hh)
        scratch = np.empty((row_sums_scratch(layout.steps * layout.batch, width), width), dtype)
        of_weights = (data_address(dgh), data_address(before), data_address(dw_hh), 0, workspaces.address())
        plan.gradients.launch(of_weights, (data_address(dgh), data_address(db_hh), data_address(scratch)))
    return dgx, dw_hh, db_hh, d


def _common_fields(saved: Saved, initial: tuple[Array, ...], mask: Array | None) -> dict[str, int]:
    """The addresses in `Loop` that both directions have."""
    fields = {"states": data_address(saved.states), "cells": address_in(saved.cells), "gates": address_in(saved.gates)}
    fields["mask"], fields["h0"] = address_in(mask), data_address(initial[0])
    if len(initial) > 1:
        fields["c0"] = data_address(initial[1])
    return fields


_ADDRESSES = Loop._fields[: Loop._fields.index("cell")]


def _addresses(**given: int) -> tuple[int, ...]:
    """The first fields of a `Loop`, 0 for those that are not given."""
    return tuple([given.get(name, 0) for name in _ADDRESSES])


def launch_loop(
    cell: Cell, layout: Layout, w_hh: Array, fields: dict[str, Any], backward: bool = False, other_work: int = 0
) -> None:
    """Run the loop over all steps of all sequences.

    Args:
        fields: those of `Loop` that do not follow from the other arguments; arrays over all steps lie in ``layout``.
        other_work: the multiplications in one step of one sequence beside those with W_hh.
    """
    weights = pack(w_hh if backward else w_hh.T)
    arrays = [fields.get(name) for name in _ADDRESSES]
    arrays = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in (weights.panels, *arrays[1:])]
    options = (fields.get("reverse", False), fields.get("attend", 0), backward, other_work)
    prepared = _loop(cell, layout, _form(w_hh), options, get_num_threads())
    prepared.launch(tuple([address_in(array) for array in arrays]))


@functools.lru_cache(maxsize=MOST_PREPARED)
def _loop(cell: Cell, layout: Layout, w_hh: Form, options: tuple[bool, int, bool, int], threads: int) -> Prepared:
    """The launch of a loop for weights of some shape; see `launch_loop`."""
    reverse, attend, backward, other_work = options
    (rows, size), dtype = w_hh.shape, layout.dtype
    itemsize = np.dtype(dtype).itemsize
    step_stride, stride = (1, layout.steps) if layout.by_sequence else (layout.batch, 1)
    last = {"size": size, "parts": cell.parts, "steps": layout.steps, "step_stride": step_stride, "stride": stride}
    last["cell"] = kernel_for(cell.make_backward if backward else cell.make_forward, dtype)
    last |= {"product": packed_product_for(itemsize), "width": tile_shape(itemsize).columns}
    last |= {"reverse": reverse, "attend": attend}
    work = (rows * size + other_work) * layout.steps * layout.batch
    shares = 1 if work <= _SERIAL_WORK else min(layout.batch, threads)
    return Prepared(
        Job(kernel_for(make_backward if backward else make_forward, dtype), Loop, last, layout.batch, shares)
    )


def _check(cell: Cell, gx: Form, w_hh: Form, b_hh: Form | None, mask: Form | None, initial: tuple[Form, ...]) -> None:
    """Check everything against the first initial state."""
    (h0, *_), name, parts = initial, cell.name, cell.parts
    if h0.dtype != np.float32 and h0.dtype != np.float64:
        raise TypeError(f"{name}: dtype must be float32 or float64, got {h0.dtype} for h0; convert with astype")
    if len(h0.shape) != 2 or len(gx.shape) != 3:
        raise ValueError(f"{name}: gx must be (T, B, {parts}H) and h0 (B, H), got {gx.shape} and {h0.shape}")
    batch, size = h0.shape
    expected = {
        "gx": (gx, (gx.shape[0], batch, parts * size)),
        "w_hh": (w_hh, (parts * size, size)),
        "b_hh": (b_hh, (parts * size,)),
        **{which: (form, (batch, size)) for which, form in zip(("h0", "c0"), initial, strict=False)},
    }
    for which, (form, shape) in expected.items():
        if form is not None and (form.shape != shape or form.dtype != h0.dtype):
            raise ValueError(
                f"{name}: for h0 {h0.shape} {h0.dtype}, {which} must be {shape}, got {form.shape} {form.dtype}"
            )
    _check_mask(name, mask, gx.shape[0], batch)


def _check_backward(cell: Cell, g: Form, states: Form, mask: Form | None) -> None:
    name = f"{cell.name} backward"
    if g.shape != states.shape or g.dtype != states.dtype:
        raise ValueError(
            f"{name}: the gradient must be {states.shape} {states.dtype}, as the states, got {g.shape} {g.dtype}"
        )
    _check_mask(name, mask, *states.shape[:2])


def _check_mask(name: str, mask: Form | None, steps: int, batch: int) -> None:
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != (steps, batch)):
        raise ValueError(f"{name}: mask must be {(steps, batch)} and boolean, got {mask.shape} {mask.dtype}")
