from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.modes import no_grad, unfused
from tinygrad_attn.ops.fused.gru import gru, gru_cell, gru_step
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.tensor import Tensor


def operands(seed, steps=4, batch=3, size=2, dtype=np.float64):
    """gx, h0, w_hh and b_hh of a GRU."""
    rng = np.random.default_rng(seed)
    shapes = [(steps, batch, 3 * size), (batch, size), (3 * size, size), (3 * size,)]
    return [Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_a_sequence_is_its_steps(seed, steps, reverse):
    gx, h, w_hh, b_hh = operands(seed, steps)
    with no_grad():
        outputs, last = gru(gx, h, w_hh, b_hh, reverse=reverse)
        for t in reversed(range(steps)) if reverse else range(steps):
            h = gru_step(Tensor(gx.array[t]), h, w_hh, b_hh)
            np.testing.assert_allclose(h.array, outputs.array[t], rtol=1e-12)
        np.testing.assert_allclose(h.array, last.array, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_padding_changes_nothing_but_repeats_the_state(seed, reverse):
    """Sequences of different lengths together give what each gives alone, and the same gradients."""
    rng = np.random.default_rng(seed)
    gx, h0, w_hh, b_hh = operands(seed, steps=5)
    lengths = rng.integers(0, 6, 3)
    mask = np.arange(5)[:, None] < lengths
    outputs, final = gru(gx, h0, w_hh, b_hh, mask, reverse=reverse)
    np.testing.assert_array_equal(final.array, outputs.array[0 if reverse else -1])
    weights = rng.standard_normal(outputs.shape)
    together = grad(outputs, [gx, h0, w_hh, b_hh], weights * mask[..., None])
    alone = [np.zeros(x.shape) for x in (gx, h0, w_hh, b_hh)]
    for b, length in enumerate(lengths):
        last = outputs.array[0 if reverse else -1, b]
        if length == 0:
            np.testing.assert_array_equal(last, h0.array[b])
            continue
        one = [Tensor(gx.array[:length, b : b + 1], True), Tensor(h0.array[b : b + 1], True), w_hh, b_hh]
        z, _ = gru(*one, reverse=reverse)
        np.testing.assert_allclose(outputs.array[:length, b], z.array[:, 0], rtol=1e-12)
        np.testing.assert_allclose(last, z.array[0 if reverse else -1, 0], rtol=1e-12)
        found = [g.array for g in grad(z, one, weights[:length, b : b + 1])]
        alone[0][:length, b] = found[0][:, 0]
        alone[1][b] = found[1][0]
        alone[2] += found[2]
        alone[3] += found[3]
    for ours, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours.array, expected, rtol=1e-9, atol=1e-12)
    assert (together[0].array[~mask] == 0.0).all()


def test_a_thousand_steps():
    gx, h0, w_hh, b_hh = operands(0, steps=1000, batch=1, dtype=np.float32)
    z, _ = gru(gx, h0, w_hh, b_hh)
    (gradient,) = grad(z, gx, np.ones(z.shape, np.float32))
    assert np.isfinite(gradient.array).all()


def test_unfused_runs_in_primitives():
    gx, h0, w_hh, b_hh = operands(0)
    fused, _ = gru(gx, h0, w_hh, b_hh)
    with unfused():
        reference, _ = gru(gx, h0, w_hh, b_hh)
    assert fused.node.op.name == "gru"
    assert reference.node.op.name == "stack"
    np.testing.assert_allclose(fused.array, reference.array, rtol=1e-12)


def test_a_cell_is_a_step_from_the_input():
    rng = np.random.default_rng(0)
    _, h, w_hh, b_hh = operands(0)
    x, w_ih, b_ih = rng.standard_normal((3, 5)), rng.standard_normal((6, 5)), rng.standard_normal(6)
    np.testing.assert_array_equal(
        gru_cell(x, h, w_ih, w_hh, b_ih, b_hh).array, gru_step(linear(x, w_ih, b_ih), h, w_hh, b_hh).array
    )


def test_a_write_to_the_outputs_is_noticed_by_backward():
    gx, h0, w_hh, b_hh = operands(0)
    for z in (gru(gx, h0, w_hh, b_hh)[0], gru_step(Tensor(gx.array[0], True), h0, w_hh, b_hh)):
        z.detach()[0] = 0.0
        with pytest.raises(RuntimeError, match=r"gru.* saved its output"):
            grad(z, h0, np.ones(z.shape))


def test_the_errors_are_the_same_in_primitives():
    gx, h0, w_hh, b_hh = operands(0)
    with unfused():
        with pytest.raises(ValueError, match=r"gru: w_hh must have shape \(6, 2\)"):
            gru(gx, h0, b_hh, b_hh)
        with pytest.raises(ValueError, match=r"gru_step: h must have shape \(B, H\), it has \(6,\)"):
            gru_step(gx, b_hh, w_hh, b_hh)
