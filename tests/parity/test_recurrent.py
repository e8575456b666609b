from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops.fused.attention_gru import attention_gru  # noqa: E402
from tinygrad_attn.ops.fused.gru import gru, gru_cell  # noqa: E402
from tinygrad_attn.ops.fused.linear import linear  # noqa: E402
from tinygrad_attn.ops.fused.lstm import lstm, lstm_cell  # noqa: E402
from tinygrad_attn.ops.joining import cat  # noqa: E402
from tinygrad_attn.ops.shape import unsqueeze  # noqa: E402

INPUT, HIDDEN, BATCH, STEPS = 3, 4, 3, 5


def parameters(rng, gates, bias):
    shapes = [(gates * HIDDEN, INPUT), (gates * HIDDEN, HIDDEN)] + [(gates * HIDDEN,)] * 2 * bias
    return [rng.standard_normal(shape) for shape in shapes]


def in_time(run, reverse):
    """``run``, a function of a sequence, of other arguments, with its axis of time turned round before and after.

    PyTorch has no layer that goes only backwards.
    """
    return (lambda x, *rest: run(x.flip(0), *rest).flip(0)) if reverse else run


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gru(bias, reverse):
    rng = np.random.default_rng(0)

    def ours(x, h0, w_ih, w_hh, b_ih=None, b_hh=None):
        return gru(linear(x, w_ih, b_ih), h0, w_hh, b_hh, reverse=reverse)[0]

    def theirs(x, h0, *weights):
        return torch.gru(x, h0[None], weights, bias, 1, 0.0, False, False, False)[0]

    arrays = [rng.standard_normal((STEPS, BATCH, INPUT)), rng.standard_normal((BATCH, HIDDEN))]
    assert_equal_to_torch(ours, in_time(theirs, reverse), [*arrays, *parameters(rng, 3, bias)])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_lstm(bias, reverse):
    rng = np.random.default_rng(0)

    def ours(x, h0, c0, w_ih, w_hh, b_ih=None, b_hh=None):
        outputs, _, cell = lstm(linear(x, w_ih, b_ih), h0, c0, w_hh, b_hh, reverse=reverse)
        return cat([unsqueeze(cell, 0), outputs] if reverse else [outputs, unsqueeze(cell, 0)])

    def theirs(x, h0, c0, *weights):
        outputs, _, cell = torch.lstm(x, (h0[None], c0[None]), weights, bias, 1, 0.0, False, False, False)
        return torch.cat([outputs, cell])

    arrays = [rng.standard_normal((STEPS, BATCH, INPUT))] + [rng.standard_normal((BATCH, HIDDEN)) for _ in range(2)]
    assert_equal_to_torch(ours, in_time(theirs, reverse), [*arrays, *parameters(rng, 4, bias)])


@pytest.mark.parametrize("bias", [False, True])
def test_gru_cell(bias):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((BATCH, INPUT)), rng.standard_normal((BATCH, HIDDEN)), *parameters(rng, 3, bias)]
    assert_equal_to_torch(gru_cell, torch.gru_cell, arrays)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_lstm_cell(which, bias):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((BATCH, INPUT))] + [rng.standard_normal((BATCH, HIDDEN)) for _ in range(2)]
    assert_equal_to_torch(
        lambda x, h, c, *weights: lstm_cell(x, (h, c), *weights)[which],
        lambda x, h, c, *weights: torch.lstm_cell(x, (h, c), *weights)[which],
        [*arrays, *parameters(rng, 4, bias)],
    )


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
        outputs = gru(linear(x, w_ih, b_ih), h0, w_hh, b_hh, mask, reverse=reverse)[0].numpy()
        part = expected[..., direction * HIDDEN : (direction + 1) * HIDDEN]
        np.testing.assert_allclose(outputs[mask], part[mask], rtol=1e-12)
        np.testing.assert_allclose(outputs[0 if reverse else -1], final[direction].detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_gru(masked):
    """The usual decoder in PyTorch: additive attention, then a GRU's cell, at each step."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4, 2), (3, 3), (3, 5, 6), (3, 5, 4), (4, 3), (4,), (9, 8), (9, 3), (9,), (9,)]
    operands = [rng.standard_normal(shape) for shape in shapes]
    mask = np.arange(5) < np.array([5, 2, 3])[:, None] if masked else np.ones((3, 5), np.bool_)

    def theirs(x, h, values, keys, w_query, energy, *cell):
        outputs = []
        for t in range(4):
            scores = torch.tanh((h @ w_query.T)[:, None] + keys) @ energy
            weights = torch.softmax(scores.masked_fill(~torch.from_numpy(mask), -torch.inf), -1)
            context = torch.bmm(weights[:, None], values)[:, 0]
            h = torch.gru_cell(torch.cat([x[:, t], context], -1), h, *cell)
            outputs.append(torch.cat([h, context, weights], -1))
        return torch.stack(outputs, 1)

    def ours(*operands):
        return cat(attention_gru(*operands, mask if masked else None), -1)

    assert_equal_to_torch(ours, theirs, operands, tolerance=1e-10)
