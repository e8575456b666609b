from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops.matmul import linear  # noqa: E402
from tinygrad_attn.ops.recurrent import gru, gru_cell  # noqa: E402

INPUT, HIDDEN, BATCH, STEPS = 3, 4, 3, 5


def parameters(rng, gates, bias):
    shapes = [(gates * HIDDEN, INPUT), (gates * HIDDEN, HIDDEN)] + [(gates * HIDDEN,)] * 2 * bias
    return [rng.standard_normal(shape) for shape in shapes]


def torch_layer(kind, parameters, reverse):
    """A function of a sequence and PyTorch's parameters that runs its layer, in one direction only.

    PyTorch has no layer that only goes backwards, so the time axis is flipped before and after.
    """

    def run(x, *state_and_parameters):
        count = len(parameters)
        state, weights = state_and_parameters[:-count], list(state_and_parameters[-count:])
        flipped = x.flip(0) if reverse else x
        state = tuple(s[None] for s in state)
        hidden = state[0] if kind is torch.gru else state
        result = kind(flipped, hidden, weights, count == 4, 1, 0.0, False, False, False)
        return result[0].flip(0) if reverse else result[0]

    return run


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gru(bias, reverse):
    rng = np.random.default_rng(0)
    weights = parameters(rng, 3, bias)

    def ours(x, h0, w_ih, w_hh, b_ih=None, b_hh=None):
        return gru(linear(x, w_ih, b_ih), h0, w_hh, b_hh, reverse=reverse)

    arrays = [rng.standard_normal((STEPS, BATCH, INPUT)), rng.standard_normal((BATCH, HIDDEN)), *weights]
    with torch.backends.mkldnn.flags(enabled=False):
        assert_equal_to_torch(ours, torch_layer(torch.gru, weights, reverse), arrays)


@pytest.mark.parametrize("bias", [False, True])
def test_gru_cell(bias):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((BATCH, INPUT)), rng.standard_normal((BATCH, HIDDEN)), *parameters(rng, 3, bias)]
    assert_equal_to_torch(gru_cell, torch.gru_cell, arrays)


def test_a_padded_gru_equals_a_packed_one():
    rng = np.random.default_rng(0)
    lengths = [5, 2, 3]
    mask = np.arange(STEPS)[:, None] < np.array(lengths)
    w_ih, w_hh, b_ih, b_hh = parameters(rng, 3, True)
    layer = torch.nn.GRU(INPUT, HIDDEN, bidirectional=True).double()
    for suffix in ("", "_reverse"):
        for name, value in {"weight_ih": w_ih, "weight_hh": w_hh, "bias_ih": b_ih, "bias_hh": b_hh}.items():
            getattr(layer, f"{name}_l0{suffix}").data = torch.tensor(value)
    x, h0 = rng.standard_normal((STEPS, BATCH, INPUT)), rng.standard_normal((BATCH, HIDDEN))
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), lengths, enforce_sorted=False)
    packed_outputs, final = layer(packed, torch.tensor(np.stack([h0, h0])))
    expected = torch.nn.utils.rnn.pad_packed_sequence(packed_outputs)[0].detach().numpy()
    for direction, reverse in enumerate([False, True]):
        outputs = gru(linear(x, w_ih, b_ih), h0, w_hh, b_hh, mask, reverse=reverse).numpy()
        part = expected[..., direction * HIDDEN : (direction + 1) * HIDDEN]
        np.testing.assert_allclose(outputs[mask], part[mask], rtol=1e-12)
        np.testing.assert_allclose(outputs[0 if reverse else -1], final[direction].detach().numpy(), rtol=1e-12)
