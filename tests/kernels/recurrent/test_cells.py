"""RNN, GRU and LSTM over whole sequences: the kernels against their NumPy twins, differences and PyTorch."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.recurrent import gru, loops, lstm, rnn
from tinygrad_attn.kernels.recurrent.sequence import run_cell, run_cell_backward

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
CELLS = {
    "tanh": (rnn.TANH, rnn.step, rnn.step_backward),
    "relu": (rnn.RELU, functools.partial(rnn.step, relu=True), functools.partial(rnn.step_backward, relu=True)),
    "gru": (gru.GRU, gru.step, gru.step_backward),
    "lstm": (lstm.LSTM, lstm.step, lstm.step_backward),
}
kinds = pytest.mark.parametrize("kind", CELLS)
directions = pytest.mark.parametrize("reverse", [False, True])


def sample(kind, steps, batch, size, dtype=np.float64, seed=0):
    """gx, w_hh and b_hh, as many initial states as the cell has, a mask, and gradients of all states and the last."""
    rng, width = np.random.default_rng(seed), CELLS[kind][0].parts * size
    states = 2 if kind == "lstm" else 1
    gx, b_hh, g = (rng.standard_normal(shape) for shape in ((steps, batch, width), (width,), (steps, batch, size)))
    w_hh = rng.standard_normal((width, size)) / np.sqrt(size)
    initial, g_last = (tuple(rng.standard_normal((states, batch, size)).astype(dtype)) for _ in range(2))
    arrays = [array.astype(dtype) for array in (gx, w_hh, b_hh)]
    return arrays, initial, rng.random((steps, batch)) < 0.7, g.astype(dtype), g_last


def twin(kind, arrays, initial, mask, reverse):
    """All states after each step where their inputs stand, each (T, B, H), and the history of `loops.run`."""
    history = loops.run(CELLS[kind][1], *arrays, initial, mask, reverse)
    return [np.stack(states)[:: -1 if reverse else 1] for states in zip(*history[1:], strict=True)], history


@examples
@given(
    st.sampled_from(list(CELLS)),
    st.integers(0, 1000),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 35),
    st.sampled_from(DTYPES),
    st.booleans(),
)
def test_equals_its_twin(kind, seed, steps, batch, size, dtype, reverse):
    arrays, initial, mask, g, g_last = sample(kind, steps, batch, size, dtype, seed)
    (cell, _, step_backward), (_, w_hh, _) = CELLS[kind], arrays
    saved = run_cell(cell, *arrays, initial, mask, reverse)
    found = run_cell_backward(cell, g, saved, w_hh, initial, mask, reverse, g_last)
    arrays, initial, g_last = ([array.astype(np.float64) for array in group] for group in (arrays, initial, g_last))
    states, history = twin(kind, arrays, initial, mask, reverse)
    expected = loops.run_backward(step_backward, g.astype(np.float64), g_last, history, *arrays, mask, reverse)
    for one, other in zip((saved.states, saved.cells), states, strict=False):
        assert one.dtype == dtype
        close(one, other, dtype)
    for one, other in zip((*found[:3], *found[3]), (*expected[:3], *expected[3]), strict=True):
        assert one.dtype == dtype
        close(one, other, dtype)


def close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * max(2.0, np.abs(expected).max()))


@kinds
@directions
def test_gradients_equal_central_differences(kind, reverse):
    arrays, initial, mask, g, g_last = sample(kind, 3, 2, 3)
    cell = CELLS[kind][0]
    saved = run_cell(cell, *arrays, initial, mask, reverse)
    found = run_cell_backward(cell, g, saved, arrays[1], initial, mask, reverse, g_last)

    def total():
        states, history = twin(kind, arrays, initial, mask, reverse)
        return (states[0] * g).sum() + sum((s * d).sum() for s, d in zip(history[-1], g_last, strict=True))

    for array, gradient in zip((*arrays, *initial), (*found[:3], *found[3]), strict=True):
        assert gradient.shape == array.shape
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + 1e-5
            above = total()
            array[place] = kept - 1e-5
            below = total()
            array[place] = kept
            np.testing.assert_allclose(gradient[place], (above - below) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@kinds
@directions
def test_equals_pytorch_on_padded_sequences(kind, dtype, reverse):
    """A step at a time through torch's own cell, keeping the state where the mask is False."""
    torch = pytest.importorskip("torch")
    (gx, w_hh, b_hh), initial, _, g, _ = sample(kind, 4, 3, 21, dtype)
    mask = np.arange(4)[:, None] < np.array([4, 2, 3])
    leaves = [torch.from_numpy(array).requires_grad_() for array in (gx, w_hh, b_hh, *initial)]
    identity, kept = torch.eye(gx.shape[-1], dtype=leaves[0].dtype), torch.from_numpy(mask)
    cells = {"tanh": torch.rnn_tanh_cell, "relu": torch.rnn_relu_cell, "gru": torch.gru_cell, "lstm": torch.lstm_cell}
    state, states = leaves[3:], [None] * 4
    for t in range(4)[:: -1 if reverse else 1]:
        before = state if kind == "lstm" else state[0]
        new = cells[kind](leaves[0][t], before, identity, leaves[1], None, leaves[2])
        new = new if kind == "lstm" else [new]
        state = [torch.where(kept[t, :, None], one, other) for one, other in zip(new, state, strict=True)]
        states[t] = state[0]
    states = torch.stack(states)
    expected = torch.autograd.grad(states, leaves, torch.from_numpy(g))
    cell = CELLS[kind][0]
    saved = run_cell(cell, gx, w_hh, b_hh, initial, mask, reverse)
    found = run_cell_backward(cell, g, saved, w_hh, initial, mask, reverse)
    np.testing.assert_allclose(saved.states, states.detach().numpy(), rtol=0, atol=2 * TOLERANCE[dtype])
    for one, other in zip((*found[:3], *found[3]), expected, strict=True):
        close(one, other.numpy(), dtype)


@kinds
def test_padding_is_never_looked_at(kind):
    arrays, initial, mask, g, _ = sample(kind, 4, 3, 5)
    mask[1:, 0] = False
    arrays[0][~mask] = np.nan
    cell = CELLS[kind][0]
    saved = run_cell(cell, *arrays, initial, mask)
    assert np.isfinite(saved.states).all()
    np.testing.assert_array_equal(saved.states[1:, 0], saved.states[:1, 0].repeat(3, 0))
    *found, of_initial = run_cell_backward(cell, g, saved, arrays[1], initial, mask)
    assert all(np.isfinite(gradient).all() for gradient in (*found, *of_initial))
    assert not found[0][~mask].any()


@kinds
def test_without_bias_and_without_mask(kind):
    (gx, w_hh, b_hh), initial, mask, *_ = sample(kind, 3, 2, 5)
    cell = CELLS[kind][0]
    plain = run_cell(cell, gx, w_hh, None, initial)
    zeros = run_cell(cell, gx, w_hh, np.zeros_like(b_hh), initial, np.ones_like(mask))
    for one, other in zip(plain, zeros, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


@kinds
def test_the_layout_does_not_matter(kind):
    (gx, w_hh, b_hh), initial, mask, g, _ = sample(kind, 3, 4, 5)
    cell = CELLS[kind][0]

    def results(gx, g):
        saved = run_cell(cell, gx, w_hh, b_hh, initial, mask)
        *gradients, of_initial = run_cell_backward(cell, g, saved, w_hh, initial, mask)
        return saved, gradients[0], *of_initial

    saved, *expected = results(gx, g)
    by_sequence, *found = results(np.ascontiguousarray(gx.swapaxes(0, 1)).swapaxes(0, 1), g[:, ::-1][:, ::-1])
    assert by_sequence.states.swapaxes(0, 1).flags.c_contiguous and saved.states.flags.c_contiguous
    for one, other in zip((by_sequence.states, *found), (saved.states, *expected), strict=True):
        np.testing.assert_array_equal(one, other)


@compiled_only
@kinds
def test_large_ones_equal_their_twins(kind):
    """Weights whose gradients take a launch of their own, and sequences of which each lies in one piece."""
    arrays, initial, mask, g, g_last = sample(kind, 3, 40, 70)
    (cell, _, step_backward), (gx, *weights) = CELLS[kind], arrays
    by_sequence = [np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1) for array in (gx, g)]
    saved = run_cell(cell, by_sequence[0], *weights, initial, mask)
    found = run_cell_backward(cell, by_sequence[1], saved, weights[0], initial, mask, False, g_last)
    states, history = twin(kind, arrays, initial, mask, False)
    expected = loops.run_backward(step_backward, g, g_last, history, *arrays, mask)
    close(saved.states, states[0], np.float64)
    for one, other in zip((*found[:3], *found[3]), (*expected[:3], *expected[3]), strict=True):
        close(one, other, np.float64)


@compiled_only
@kinds
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(kind, dtype):
    arrays, initial, mask, g, _ = sample(kind, 3, 70, 130, dtype)
    cell = CELLS[kind][0]

    def run():
        saved = run_cell(cell, *arrays, initial, mask)
        *gradients, of_initial = run_cell_backward(cell, g, saved, arrays[1], initial, mask)
        return [saved.states, *gradients, *of_initial]

    assert_same_bits(run)


@kinds
def test_no_steps_and_no_sequences(kind):
    for steps, batch in ((0, 3), (2, 0)):
        arrays, initial, mask, g, _ = sample(kind, steps, batch, 4)
        cell = CELLS[kind][0]
        saved = run_cell(cell, *arrays, initial, mask)
        assert saved.states.shape == (steps, batch, 4)
        dgx, dw_hh, db_hh, (dh0, *_) = run_cell_backward(cell, g, saved, arrays[1], initial, mask)
        assert dgx.shape == arrays[0].shape and dh0.shape == (batch, 4)
        np.testing.assert_array_equal(dw_hh, np.zeros_like(arrays[1]))
        np.testing.assert_array_equal(db_hh, np.zeros_like(arrays[2]))


def test_errors_name_the_thing():
    (gx, w_hh, b_hh), (h0,), mask, g, _ = sample("gru", 3, 2, 4)
    with pytest.raises(ValueError, match=r"gru: for h0 \(2, 4\) float64, w_hh must be \(12, 4\), got \(4, 12\)"):
        run_cell(gru.GRU, gx, w_hh.T, b_hh, (h0,))
    with pytest.raises(ValueError, match=r"b_hh must be \(12,\), got \(12,\) float32"):
        run_cell(gru.GRU, gx, w_hh, b_hh.astype(np.float32), (h0,))
    with pytest.raises(ValueError, match=r"lstm: gx must be \(T, B, 4H\) and h0 \(B, H\)"):
        run_cell(lstm.LSTM, gx[0], w_hh, b_hh, (h0, h0))
    with pytest.raises(TypeError, match="int64"):
        run_cell(gru.GRU, gx, w_hh, b_hh, (h0.astype(np.int64),))
    with pytest.raises(ValueError, match=r"mask must be \(3, 2\) and boolean, got \(2, 3\) bool"):
        run_cell(gru.GRU, gx, w_hh, b_hh, (h0,), mask.T)
    saved = run_cell(gru.GRU, gx, w_hh, b_hh, (h0,))
    with pytest.raises(ValueError, match=r"the gradient must be \(3, 2, 4\) float64, as the states, got \(2, 2, 4\)"):
        run_cell_backward(gru.GRU, g[:2], saved, w_hh, (h0,))
