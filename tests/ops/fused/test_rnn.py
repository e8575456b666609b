"""The plain RNN as an op: its cell step after step, padding, threads' bits, and kernels against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.modes import unfused
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.rnn import rnn, rnn_cell
from tinygrad_attn.tensor import Tensor

each_nonlinearity = pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])


def operands(seed, steps=4, batch=3, size=2, dtype=np.float64):
    """gx, h0, w_hh and b_hh."""
    rng = np.random.default_rng(seed)
    shapes = [(steps, batch, size), (batch, size), (size, size), (size,)]
    return [Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]


@each_nonlinearity
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_sequence_is_its_steps(nonlinearity, seed, reverse):
    gx, h, w_hh, b_hh = operands(seed)
    outputs, final = rnn(gx, h, w_hh, b_hh, reverse=reverse, nonlinearity=nonlinearity)
    np.testing.assert_array_equal(final.array, outputs.array[0 if reverse else -1])
    function = np.tanh if nonlinearity == "tanh" else lambda x: np.maximum(x, 0.0)
    state = h.array
    for t in range(4)[:: -1 if reverse else 1]:
        state = function(gx.array[t] + state @ w_hh.array.T + b_hh.array)
        np.testing.assert_allclose(outputs.array[t], state, rtol=1e-12, atol=1e-14)


@each_nonlinearity
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_fused_and_unfused_agree_on_padded_sequences(nonlinearity, seed, reverse):
    inputs = operands(seed)
    rng = np.random.default_rng(seed)
    mask, g = rng.random((4, 3)) < 0.6, [Tensor(rng.standard_normal(shape)) for shape in ((4, 3, 2), (3, 2))]

    def run():
        outputs = rnn(*inputs, mask, reverse=reverse, nonlinearity=nonlinearity)
        return [*outputs, *grad(outputs, inputs, g)]

    fused = run()
    with unfused():
        reference = run()
    for one, other in zip(fused, reference, strict=True):
        np.testing.assert_allclose(one.array, other.array, rtol=1e-11, atol=1e-12)


@each_nonlinearity
def test_padding_is_never_looked_at(nonlinearity):
    gx, *rest = operands(0)
    mask = np.arange(4)[:, None] < np.array([4, 1, 2])
    gx.array[~mask] = np.nan
    outputs, _ = rnn(gx, *rest, mask, nonlinearity=nonlinearity)
    assert np.isfinite(outputs.array).all()
    gradients = grad(outputs, [gx, *rest], Tensor(np.ones(outputs.shape)))
    assert all(np.isfinite(gradient.array).all() for gradient in gradients)
    assert not gradients[0].array[~mask].any()


@each_nonlinearity
def test_float32_stays(nonlinearity):
    inputs = operands(0, dtype=np.float32)
    outputs, _ = rnn(*inputs, nonlinearity=nonlinearity)
    assert outputs.dtype == np.float32
    assert all(x.dtype == np.float32 for x in grad(outputs, inputs, Tensor(np.ones(outputs.shape, np.float32))))


def test_a_cell_is_a_sequence_of_one_step():
    _, h, w_hh, b_hh = operands(0)
    w_ih = Tensor(np.random.default_rng(1).standard_normal((2, 5)))
    x = Tensor(np.random.default_rng(2).standard_normal((3, 5)))
    for nonlinearity in ("tanh", "relu"):
        one = rnn_cell(x, h, w_ih, w_hh, None, b_hh, nonlinearity)
        other, _ = rnn(linear(x, w_ih)[None], h, w_hh, b_hh, nonlinearity=nonlinearity)
        np.testing.assert_allclose(one.array, other.array[0], rtol=1e-12)
    with pytest.raises(ValueError, match=r"rnn_cell: w_hh must have shape \(2, 2\) .* it has \(2, 5\)"):
        rnn_cell(x, h, w_ih, w_ih)
    with pytest.raises(ValueError, match="rnn_cell: nonlinearity must be 'tanh' or 'relu'"):
        rnn_cell(x, h, w_ih, w_hh, nonlinearity="sin")
