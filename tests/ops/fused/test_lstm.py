from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.modes import no_grad, unfused
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.lstm import lstm, lstm_cell, lstm_step
from tinygrad_attn.tensor import Tensor


def operands(seed, steps=4, batch=3, size=2):
    """gx, h0, c0, w_hh and b_hh of an LSTM."""
    rng = np.random.default_rng(seed)
    shapes = [(steps, batch, 4 * size), (batch, size), (batch, size), (4 * size, size), (4 * size,)]
    return [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_a_sequence_is_its_steps(seed, steps, reverse):
    gx, h, c, w_hh, b_hh = operands(seed, steps)
    with no_grad():
        outputs, state, cell = lstm(gx, h, c, w_hh, b_hh, reverse=reverse)
        for t in reversed(range(steps)) if reverse else range(steps):
            h, c = lstm_step(Tensor(gx.array[t]), h, c, w_hh, b_hh)
            np.testing.assert_allclose(h.array, outputs.array[t], rtol=1e-12)
    np.testing.assert_allclose(h.array, state.array, rtol=1e-12)
    np.testing.assert_allclose(c.array, cell.array, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_padding_changes_nothing_but_repeats_the_state(seed, reverse):
    """Sequences of different lengths together give what each gives alone, and the same gradients."""
    rng = np.random.default_rng(seed)
    gx, h0, c0, w_hh, b_hh = operands(seed, steps=5)
    lengths = rng.integers(1, 6, 3)
    mask = np.arange(5)[:, None] < lengths
    outputs, *final = lstm(gx, h0, c0, w_hh, b_hh, mask, reverse=reverse)
    for_outputs, *for_final = (rng.standard_normal(each.shape) for each in (outputs, *final))
    together = grad([outputs, *final], [gx, w_hh], [for_outputs * mask[..., None], *for_final])
    alone = [np.zeros(gx.shape), np.zeros(w_hh.shape)]
    for b, length in enumerate(lengths):
        x, h, c = Tensor(gx.array[:length, b : b + 1], True), h0.array[b : b + 1], c0.array[b : b + 1]
        one, *last = lstm(x, h, c, w_hh, b_hh, reverse=reverse)
        np.testing.assert_allclose(outputs.array[:length, b], one.array[:, 0], rtol=1e-12)
        for together_last, alone_last in zip(final, last, strict=True):
            np.testing.assert_allclose(together_last.array[b], alone_last.array[0], rtol=1e-12)
        arriving = [for_outputs[:length, b : b + 1], *(each[b : b + 1] for each in for_final)]
        for_x, for_w = grad([one, *last], [x, w_hh], arriving)
        alone[0][:length, b] = for_x.array[:, 0]
        alone[1] += for_w.array
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours.array, expected, rtol=1e-9, atol=1e-12)


def test_each_output_alone_can_start_backward():
    fused, primitives = [], []
    for found in (fused, primitives):
        inputs = operands(0)
        for which in (0, 1, 2):
            if found is primitives:
                with unfused():
                    z = lstm(*inputs)[which]
            else:
                z = lstm(*inputs)[which]
            found += [g.array for g in grad(z, inputs, np.ones(z.shape))]
    for ours, expected in zip(fused, primitives, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_a_cell_is_a_step_from_the_input():
    rng = np.random.default_rng(0)
    _, h, c, w_hh, b_hh = operands(0)
    x, w_ih, b_ih = rng.standard_normal((3, 5)), rng.standard_normal((8, 5)), rng.standard_normal(8)
    for ours, expected in zip(
        lstm_cell(x, (h, c), w_ih, w_hh, b_ih, b_hh), lstm_step(linear(x, w_ih, b_ih), h, c, w_hh, b_hh), strict=True
    ):
        np.testing.assert_array_equal(ours.array, expected.array)


@pytest.mark.parametrize("which", [0, 1])
def test_a_write_to_an_output_is_noticed_by_backward(which):
    gx, h0, c0, w_hh, b_hh = operands(0)
    for z in (lstm(gx, h0, c0, w_hh, b_hh)[which], lstm_step(Tensor(gx.array[0], True), h0, c0, w_hh, b_hh)[which]):
        z.detach()[0] = 0.0
        with pytest.raises(RuntimeError, match=r"lstm.* saved its output"):
            grad(z, h0, np.ones(z.shape))
