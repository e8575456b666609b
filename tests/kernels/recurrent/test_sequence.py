from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.recurrent.sequence import (
    gru_sequence,
    gru_sequence_backward,
    lstm_sequence,
    lstm_sequence_backward,
)

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_gru(gx, w_hh, b_hh, h0, mask, reverse):
    h, outputs = h0, np.empty((*gx.shape[:2], h0.shape[1]))
    for t in range(len(gx))[:: -1 if reverse else 1]:
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(gx[t], 3, -1), np.split(h @ w_hh.T + b_hh, 3, -1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        outputs[t] = h = np.where(mask[t, :, None], (1 - z) * n + z * h, h)
    return outputs


def reference_lstm(gx, w_hh, b_hh, h0, c0, mask, reverse):
    h, c, outputs = h0, c0, np.empty((*gx.shape[:2], h0.shape[1]))
    for t in range(len(gx))[:: -1 if reverse else 1]:
        i, f, g, o = np.split(gx[t] + h @ w_hh.T + b_hh, 4, -1)
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = np.where(mask[t, :, None], sigmoid(o) * np.tanh(new_c), h)
        c = np.where(mask[t, :, None], new_c, c)
        outputs[t] = h
    return outputs, c


def sample(parts, steps, batch, size, dtype=np.float64, seed=0):
    """gx, w_hh, b_hh and as many initial states as the cell has, then a mask and a gradient of the outputs."""
    rng = np.random.default_rng(seed)
    initial = [(batch, size)] * (parts - 2)
    shapes = [(steps, batch, parts * size), (parts * size, size), (parts * size,), *initial]
    arrays = [
        (rng.standard_normal(shape) / (np.sqrt(size) if i == 1 else 1)).astype(dtype) for i, shape in enumerate(shapes)
    ]
    return arrays, rng.random((steps, batch)) < 0.7, rng.standard_normal((steps, batch, size)).astype(dtype)


sizes = (st.integers(0, 1000), st.integers(1, 5), st.integers(1, 6), st.integers(1, 35))


@examples
@given(*sizes, st.sampled_from(DTYPES), st.booleans())
def test_outputs_equal_the_formulas(seed, steps, batch, size, dtype, reverse):
    arrays, mask, _ = sample(3, steps, batch, size, dtype, seed)
    expected = reference_gru(*(array.astype(np.float64) for array in arrays), mask, reverse)
    outputs = gru_sequence(*arrays, mask, reverse)[0]
    assert outputs.dtype == dtype
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE[dtype])
    arrays, mask, _ = sample(4, steps, batch, size, dtype, seed)
    expected, cell = reference_lstm(*(array.astype(np.float64) for array in arrays), mask, reverse)
    outputs, cells, _ = lstm_sequence(*arrays, mask, reverse)
    assert outputs.dtype == cells.dtype == dtype
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(cells[0 if reverse else -1], cell, rtol=0, atol=2 * TOLERANCE[dtype])


def numerical(function, arrays, g):
    """Central differences of ``sum(function(*arrays) * g)`` with respect to every element of every array."""
    gradients = []
    for array in arrays:
        gradient = np.empty_like(array)
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + 1e-5
            above = (function(*arrays) * g).sum()
            array[place] = kept - 1e-5
            gradient[place] = (above - (function(*arrays) * g).sum()) / 2e-5
            array[place] = kept
        gradients.append(gradient)
    return gradients


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_equal_central_differences(reverse):
    arrays, mask, g = sample(3, 3, 2, 3)
    outputs, gates = gru_sequence(*arrays, mask, reverse)
    g_last = np.ones((2, 3))
    ours = gru_sequence_backward(g, outputs, gates, arrays[1], arrays[3], mask, reverse, g_last)
    g = g.copy()
    g[0 if reverse else -1] += g_last
    expected = numerical(lambda *a: reference_gru(*a, mask, reverse), arrays, g)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)

    arrays, mask, g = sample(4, 3, 2, 3)
    g_last, g_cell = 2.0 * np.ones((2, 3)), np.ones((2, 3))
    both = np.concatenate([g.ravel(), g_last.ravel(), g_cell.ravel()])
    saved = lstm_sequence(*arrays, mask, reverse)
    ours = lstm_sequence_backward(g, *saved, arrays[1], *arrays[3:], mask, reverse, g_last, g_cell)

    def outputs_and_last(*arrays):
        outputs, cell = reference_lstm(*arrays, mask, reverse)
        return np.concatenate([outputs.ravel(), outputs[0 if reverse else -1].ravel(), cell.ravel()])

    for one, other in zip(ours, numerical(outputs_and_last, arrays, both), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("reverse", [False, True])
def test_equals_pytorch_on_padded_sequences(kind, dtype, reverse):
    """A step at a time through torch's own cell, keeping the state where the mask is False."""
    torch = pytest.importorskip("torch")
    parts = 3 if kind == "GRU" else 4
    (gx, w_hh, b_hh, *initial), mask, g = sample(parts, 4, 3, 21, dtype)
    mask = np.arange(4)[:, None] < np.array([4, 2, 3])
    leaves = [torch.from_numpy(array).requires_grad_() for array in (gx, w_hh, b_hh, *initial)]
    identity, kept = torch.eye(gx.shape[-1], dtype=leaves[0].dtype), torch.from_numpy(mask)
    cell = torch.gru_cell if kind == "GRU" else torch.lstm_cell
    state, outputs = leaves[3:], [None] * 4
    for t in range(4)[:: -1 if reverse else 1]:
        new = cell(leaves[0][t], state[0] if kind == "GRU" else state, identity, leaves[1], None, leaves[2])
        new = [new] if kind == "GRU" else new
        state = [torch.where(kept[t, :, None], one, other) for one, other in zip(new, state, strict=True)]
        outputs[t] = state[0]
    outputs = torch.stack(outputs)
    expected = torch.autograd.grad(outputs, leaves, torch.from_numpy(g))
    if kind == "GRU":
        saved = gru_sequence(gx, w_hh, b_hh, *initial, mask, reverse)
        gradients = gru_sequence_backward(g, *saved, w_hh, *initial, mask, reverse)
    else:
        saved = lstm_sequence(gx, w_hh, b_hh, *initial, mask, reverse)
        gradients = lstm_sequence_backward(g, *saved, w_hh, *initial, mask, reverse)
    np.testing.assert_allclose(saved[0], outputs.detach().numpy(), rtol=0, atol=TOLERANCE[dtype])
    for one, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=TOLERANCE[dtype])


def test_padding_is_never_looked_at():
    arrays, mask, g = sample(3, 4, 3, 5)
    mask[1:, 0] = False
    arrays[0][~mask] = np.nan
    outputs, gates = gru_sequence(*arrays, mask)
    assert np.isfinite(outputs).all()
    np.testing.assert_array_equal(outputs[1:, 0], outputs[:1, 0].repeat(3, 0))
    gradients = gru_sequence_backward(g, outputs, gates, arrays[1], arrays[3], mask)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[0][~mask].any()


def test_without_bias_and_without_mask():
    arrays, mask, _ = sample(4, 3, 2, 5)
    plain = lstm_sequence(arrays[0], arrays[1], None, *arrays[3:])
    zeros = lstm_sequence(arrays[0], arrays[1], np.zeros(20), *arrays[3:], np.ones_like(mask))
    for one, other in zip(plain, zeros, strict=True):
        np.testing.assert_array_equal(one, other)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(dtype):
    (gx, w_hh, b_hh, h0, c0), mask, g = sample(4, 3, 70, 130, dtype)

    def lstm():
        saved = lstm_sequence(gx, w_hh, b_hh, h0, c0, mask)
        return [*saved[:2], *lstm_sequence_backward(g, *saved, w_hh, h0, c0, mask)]

    def gru():
        arrays = np.ascontiguousarray(gx[..., : 3 * 130]), w_hh[: 3 * 130], b_hh[: 3 * 130], h0
        outputs, gates = gru_sequence(*arrays, mask)
        return [outputs, *gru_sequence_backward(g, outputs, gates, arrays[1], arrays[3], mask)]

    assert_same_bits(lstm)
    assert_same_bits(gru)


def test_no_steps_and_no_sequences():
    for steps, batch in ((0, 3), (2, 0)):
        arrays, mask, g = sample(3, steps, batch, 4)
        outputs, gates = gru_sequence(*arrays, mask)
        assert outputs.shape == (steps, batch, 4)
        dgx, dw_hh, db_hh, dh0 = gru_sequence_backward(g, outputs, gates, arrays[1], arrays[3], mask)
        assert dgx.shape == (steps, batch, 12) and dh0.shape == (batch, 4)
        np.testing.assert_array_equal(dw_hh, np.zeros((12, 4)))
        np.testing.assert_array_equal(db_hh, np.zeros(12))


def test_errors_name_the_thing():
    (gx, w_hh, b_hh, h0), mask, g = sample(3, 3, 2, 4)
    with pytest.raises(ValueError, match=r"for h0 \(2, 4\) float64, w_hh must be \(12, 4\), got \(4, 12\)"):
        gru_sequence(gx, w_hh.T, b_hh, h0)
    with pytest.raises(ValueError, match=r"b_hh must be \(12,\), got \(12,\) float32"):
        gru_sequence(gx, w_hh, b_hh.astype(np.float32), h0)
    with pytest.raises(ValueError, match=r"gx must be \(T, B, 4H\) and h0 \(B, H\)"):
        lstm_sequence(gx[0], w_hh, b_hh, h0, h0)
    with pytest.raises(TypeError, match="int64"):
        gru_sequence(gx, w_hh, b_hh, h0.astype(np.int64))
    with pytest.raises(ValueError, match=r"mask must be \(3, 2\) and boolean, got \(2, 3\) bool"):
        gru_sequence(gx, w_hh, b_hh, h0, mask.T)
    outputs, gates = gru_sequence(gx, w_hh, b_hh, h0)
    with pytest.raises(ValueError, match=r"the gradient must be \(3, 2, 4\) float64, as the outputs, got \(2, 2, 4\)"):
        gru_sequence_backward(g[:2], outputs, gates, w_hh, h0)
