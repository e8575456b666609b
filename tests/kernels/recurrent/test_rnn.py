"""The plain RNN's kernels against the formula, and their gradients against central differences."""

from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.recurrent.sequence import rnn_sequence, rnn_sequence_backward

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def reference(gx, w_hh, b_hh, h, mask, reverse, relu):
    outputs = np.empty_like(gx)
    for t in range(len(gx))[:: -1 if reverse else 1]:
        new = gx[t] + h @ w_hh.T + b_hh
        outputs[t] = h = np.where(mask[t, :, None], np.maximum(new, 0.0) if relu else np.tanh(new), h)
    return outputs


def sample(steps, batch, size, dtype=np.float64, seed=0):
    """gx, w_hh, b_hh and h0, then a mask and a gradient of the outputs."""
    rng = np.random.default_rng(seed)
    shapes = [(steps, batch, size), (size, size), (size,), (batch, size)]
    arrays = [
        (rng.standard_normal(shape) / (np.sqrt(size) if i == 1 else 1)).astype(dtype) for i, shape in enumerate(shapes)
    ]
    return arrays, rng.random((steps, batch)) < 0.7, rng.standard_normal(shapes[0]).astype(dtype)


@examples
@given(
    st.integers(0, 1000),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 35),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.booleans(),
)
def test_outputs_equal_the_formula(seed, steps, batch, size, dtype, reverse, relu):
    arrays, mask, _ = sample(steps, batch, size, dtype, seed)
    expected = reference(*(array.astype(np.float64) for array in arrays), mask, reverse, relu)
    outputs = rnn_sequence(*arrays, mask, reverse, relu)
    assert outputs.dtype == dtype
    scale = np.abs(expected).max() if relu else 1.0
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=TOLERANCE[dtype] * max(scale, 1.0))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_equal_central_differences(reverse, relu):
    arrays, mask, g = sample(3, 2, 3)
    outputs = rnn_sequence(*arrays, mask, reverse, relu)
    found = rnn_sequence_backward(g, outputs, arrays[1], arrays[3], mask, reverse, relu)
    for array, gradient in zip(arrays, found, strict=True):
        assert gradient.shape == array.shape
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + 1e-5
            above = (reference(*arrays, mask, reverse, relu) * g).sum()
            array[place] = kept - 1e-5
            below = (reference(*arrays, mask, reverse, relu) * g).sum()
            array[place] = kept
            np.testing.assert_allclose(gradient[place], (above - below) / 2e-5, atol=1e-8)


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_for_any_number_of_threads(dtype):
    arrays, mask, g = sample(3, 70, 130, dtype)

    def run():
        outputs = rnn_sequence(*arrays, mask)
        return [outputs, *rnn_sequence_backward(g, outputs, arrays[1], arrays[3], mask)]

    assert_same_bits(run)


def test_no_steps_no_sequences_and_no_mask():
    for steps, batch in ((0, 3), (2, 0)):
        arrays, _, g = sample(steps, batch, 4)
        outputs = rnn_sequence(*arrays)
        assert outputs.shape == (steps, batch, 4)
        dgx, dw_hh, db_hh, dh0 = rnn_sequence_backward(g, outputs, arrays[1], arrays[3])
        assert dgx.shape == (steps, batch, 4) and dh0.shape == (batch, 4)
        assert not dw_hh.any() and not db_hh.any()


def test_errors_name_the_thing():
    (gx, w_hh, b_hh, h0), mask, g = sample(3, 2, 4)
    with pytest.raises(ValueError, match=r"rnn_sequence: for h0 \(2, 4\) float64, w_hh must be \(4, 4\), got \(3, 4\)"):
        rnn_sequence(gx, w_hh[:3], b_hh, h0)
    with pytest.raises(ValueError, match=r"mask must be \(3, 2\) and boolean, got \(2, 3\) bool"):
        rnn_sequence(gx, w_hh, b_hh, h0, mask.T)
    outputs = rnn_sequence(gx, w_hh, b_hh, h0)
    with pytest.raises(ValueError, match=r"the gradient must be \(3, 2, 4\) float64, as the outputs, got \(2, 2, 4\)"):
        rnn_sequence_backward(g[:2], outputs, w_hh, h0)
