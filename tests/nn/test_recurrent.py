"""Recurrent layers: padding, directions, layers, dropout, and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck

LAYERS = {
    "RNN": nn.RNN,
    "RNN relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
}
kinds = pytest.mark.parametrize("kind", LAYERS)


def make(kind, *sizes, **options):
    ta.manual_seed(0)
    return LAYERS[kind](*sizes, dtype=np.float64, **options)


def parts(final):
    return final if isinstance(final, tuple) else (final,)


@kinds
@given(st.integers(0, 2**32 - 1))
def test_padded_sequences_together_give_what_each_gives_alone(kind, seed):
    rng = np.random.default_rng(seed)
    layer = make(kind, 2, 3, num_layers=2, bidirectional=True, batch_first=True)
    lengths = rng.integers(1, 6, 3)
    x = ta.Tensor(rng.standard_normal((3, 5, 2)), requires_grad=True)
    outputs, final = layer(x, lengths=lengths)
    weights = rng.standard_normal(outputs.shape)
    leaves = [x, *layer.parameters()]
    together = grad(outputs, leaves, ta.Tensor(weights))
    alone = [np.zeros(leaf.shape) for leaf in leaves]
    for row, length in enumerate(lengths):
        part, last = layer(x[row, :length])
        np.testing.assert_allclose(outputs.array[row, :length], part.array, rtol=1e-10, atol=1e-12)
        assert not outputs.array[row, length:].any()
        for one, other in zip(parts(final), parts(last), strict=True):
            np.testing.assert_allclose(one.array[:, row], other.array, rtol=1e-10, atol=1e-12)
        for total, gradient in zip(alone, grad(part, leaves, ta.Tensor(weights[row, :length])), strict=True):
            total += gradient.array
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.array, other, rtol=1e-9, atol=1e-11)


@kinds
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_are_a_mask(kind, batch_first):
    layer = make(kind, 2, 3, bidirectional=True, batch_first=batch_first)
    x = ta.randn(3, 4, 2, dtype=np.float64) if batch_first else ta.randn(4, 3, 2, dtype=np.float64)
    mask = np.arange(4) < np.array([[4], [0], [2]])
    by_mask = layer(x, mask=mask if batch_first else mask.T)
    by_lengths = layer(x, lengths=ta.Tensor(np.array([4, 0, 2])))
    for one, other in zip([by_mask[0], *parts(by_mask[1])], [by_lengths[0], *parts(by_lengths[1])], strict=True):
        np.testing.assert_array_equal(one.array, other.array)
    assert all(not tensor.array[:, 1].any() for tensor in parts(by_mask[1]))  # no step: the initial state


@kinds
def test_what_stands_in_padding_changes_nothing(kind):
    layer = make(kind, 2, 3, num_layers=2, bidirectional=True)
    x = ta.randn(4, 3, 2, dtype=np.float64).array
    mask = np.arange(4)[:, None] < np.array([4, 1, 2])
    changed = np.where(mask[..., None], x, 1e3)
    one, other = layer(ta.Tensor(x), mask=mask), layer(ta.Tensor(changed), mask=mask)
    for found, expected in zip([one[0], *parts(one[1])], [other[0], *parts(other[1])], strict=True):
        np.testing.assert_array_equal(found.array, expected.array)


@kinds
def test_a_layer_is_its_cell_step_after_step(kind):
    layer = make(kind, 2, 3)
    cell = getattr(nn, kind.split()[0] + "Cell")(
        2, 3, dtype=np.float64, **({"nonlinearity": "relu"} if kind == "RNN relu" else {})
    )
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x = ta.randn(4, 5, 2, dtype=np.float64)
    outputs, final = layer(x)
    state = None
    for t in range(4):
        state = cell(x[t], state)
        np.testing.assert_allclose(outputs.array[t], parts(state)[0].array, rtol=1e-12)
    for one, other in zip(parts(final), parts(state), strict=True):
        np.testing.assert_allclose(one.array[0], other.array, rtol=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_gradients_equal_central_differences(kind, of_parameters_too):
    layer = make(kind, 2, 2, num_layers=2, bidirectional=True, batch_first=True)
    x = ta.randn(2, 3, 2, dtype=np.float64, requires_grad=True)

    def run(x):
        outputs, final = layer(x, lengths=[3, 1])
        return (outputs, *parts(final))

    function, parameters = of_parameters_too(layer, run)
    gradcheck(function, [x, *parameters])


def test_dropout_acts_between_layers_and_in_training_only():
    x = ta.randn(6, 20, 8)
    one = nn.GRU(8, 8, dropout=0.5)
    np.testing.assert_array_equal(one(x)[0].array, one.eval()(x)[0].array)
    two = nn.GRU(8, 8, num_layers=2, dropout=1.0)
    dropped = two(x)[0].array
    used = two.eval()(x)[0].array
    assert not np.allclose(dropped, used)
    # With everything dropped the second layer sees zeros, so all sequences are alike.
    np.testing.assert_array_equal(dropped, dropped[:, :1].repeat(20, 1))


def test_float32_stays():
    for kind in LAYERS.values():
        outputs, final = kind(2, 3)(ta.randn(4, 2, 2))
        assert outputs.dtype == np.float32 and all(tensor.dtype == np.float32 for tensor in parts(final))


def test_complaints():
    x = ta.ones(4, 3, 2)
    with pytest.raises(ValueError, match="GRU: num_layers must be at least 1, got 0"):
        nn.GRU(2, 3, num_layers=0)
    with pytest.raises(ValueError, match=r"LSTM: dropout must be a probability, got 1\.5"):
        nn.LSTM(2, 3, dropout=1.5)
    with pytest.raises(ValueError, match="RNN: nonlinearity must be 'tanh' or 'relu', got 'sin'"):
        nn.RNN(2, 3, nonlinearity="sin")
    with pytest.raises(TypeError, match="proj_size"):
        nn.LSTM(2, 3, proj_size=2)
    with pytest.raises(ValueError, match=r"LSTM: input must .* of size 5; it has shape \(4, 3, 2\)"):
        nn.LSTM(5, 3)(x)
    with pytest.raises(ValueError, match=r"LSTM: c_0 must have shape \(1, 3, 3\), it has \(1, 2, 3\)"):
        nn.LSTM(2, 3)(x, (ta.ones(1, 3, 3), ta.ones(1, 2, 3)))
    with pytest.raises(ValueError, match="GRU: give mask or lengths, not both"):
        nn.GRU(2, 3)(x, mask=np.ones((4, 3), bool), lengths=[1, 1, 1])
    with pytest.raises(ValueError, match=r"GRU: mask must have shape \(4, 3\), it has \(3, 4\)"):
        nn.GRU(2, 3)(x, mask=np.ones((3, 4), bool))
    with pytest.raises(TypeError, match="mask must be bool"):
        nn.GRU(2, 3)(x, mask=np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"RNN: lengths must lie within 0 and the 4 steps, got \[1, 5, 2\]"):
        nn.RNN(2, 3)(x, lengths=[1, 5, 2])
    with pytest.raises(ValueError, match=r"RNN: lengths must have shape \(3,\), it has \(2,\)"):
        nn.RNN(2, 3)(x, lengths=[1, 2])
    with pytest.raises(ValueError, match=r"GRUCell: input must be \(B, 2\) or \(2,\), it has shape \(4, 3, 2\)"):
        nn.GRUCell(2, 3)(x)
    with pytest.raises(ValueError, match=r"LSTMCell: c must have shape \(3, 5\), it has \(3, 4\)"):
        nn.LSTMCell(2, 5)(x[0], (ta.ones(3, 5), ta.ones(3, 4)))


def test_a_state_of_another_kind():
    x, h = ta.ones(4, 3, 2), ta.ones(1, 3, 3)
    with pytest.raises(TypeError, match=r"GRU: hx must be a tensor, got a tuple"):
        nn.GRU(2, 3)(x, (h,))
    with pytest.raises(TypeError, match=r"LSTM: hx must be the tensors \(h_0, c_0\), got a Tensor"):
        nn.LSTM(2, 3)(x, h)
    with pytest.raises(TypeError, match=r"LSTM: hx must be the tensors \(h_0, c_0\), got 1 of them"):
        nn.LSTM(2, 3)(x, (h,))
    with pytest.raises(TypeError, match=r"RNNCell: hx must be a tensor, got a tuple"):
        nn.RNNCell(2, 3)(x[0], (h[0],))
    with pytest.raises(TypeError, match=r"LSTMCell: hx must be the tensors \(h, c\), got a Tensor"):
        nn.LSTMCell(2, 3)(x[0], h[0])
    with pytest.raises(TypeError, match=r"LSTMCell: c must be a tensor, got a NoneType"):
        nn.LSTMCell(2, 3)(x[0], (h[0], None))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_no_step_and_lengths_that_are_no_integers(kind):
    layer = getattr(nn, kind)(2, 3)
    for shape in ((0, 4, 2), (0, 2)):
        with pytest.raises(
            ValueError, match=rf"{kind}: input must have at least one step, its shape is \({shape[0]}, "
        ):
            layer(ta.zeros(*shape))
    for lengths in ([float("nan"), 1.0], [1.5, 1.0], [True, False]):
        with pytest.raises(TypeError, match=f"{kind}: lengths must be integers, they are"):
            layer(ta.zeros(4, 2, 2), lengths=lengths)
