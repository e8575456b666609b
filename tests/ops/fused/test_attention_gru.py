from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.modes import no_grad, unfused
from tinygrad_attn.ops.fused.additive import additive_score
from tinygrad_attn.ops.fused.attention_gru import attention_gru
from tinygrad_attn.tensor import Tensor

BATCH, STEPS, LENGTH = 2, 3, 4
SHAPES = [
    (BATCH, STEPS, 2), (BATCH, 3), (BATCH, LENGTH, 5), (BATCH, LENGTH, 4), (4, 3), (4,), (9, 7), (9, 3), (9,), (9,),
]  # fmt: skip


def operands(seed=0):
    """All operands but the mask, each with a gradient."""
    rng = np.random.default_rng(seed)
    return [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in SHAPES]


@given(st.integers(0, 2**32 - 1))
def test_a_sequence_is_its_steps(seed):
    x, h, *others = operands(seed)
    mask = np.random.default_rng(seed).random((BATCH, LENGTH)) < 0.7
    with no_grad():
        together = attention_gru(x, h, *others, mask)
        for t in range(STEPS):
            alone = attention_gru(x.array[:, t : t + 1], h, *others, mask)
            for one, all_steps in zip(alone, together, strict=True):
                np.testing.assert_allclose(one.array[:, 0], all_steps.array[:, t], rtol=1e-12, atol=1e-14)
            h = alone[0][:, 0]


def test_each_output_alone_can_start_backward():
    for which in range(3):
        found = []
        for _ in range(2):
            inputs = operands()
            z = attention_gru(*inputs)[which]
            gradients = grad(z, inputs, np.cos(np.arange(z.array.size)).reshape(z.shape), allow_unused=True)
            found.append([None if g is None else g.array for g in gradients])
        with unfused():
            inputs = operands()
            z = attention_gru(*inputs)[which]
            gradients = grad(z, inputs, np.cos(np.arange(z.array.size)).reshape(z.shape), allow_unused=True)
        for fused, primitive, shape in zip(found[0], gradients, SHAPES, strict=True):
            expected = np.zeros(shape) if primitive is None else primitive.array
            np.testing.assert_allclose(fused, expected, rtol=1e-9, atol=1e-12)


def test_unfused_runs_in_primitives():
    with unfused():
        states, _, weights = attention_gru(*operands())
    assert states.node.op.name == "stack"
    fused = attention_gru(*operands())
    assert fused[0].node.op.name == "attention_gru"
    np.testing.assert_allclose(fused[0].array, states.array, rtol=1e-12)
    np.testing.assert_allclose(fused[2].array, weights.array, rtol=1e-12)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_write_to_an_output_is_noticed_by_backward(which):
    inputs = operands()
    z = attention_gru(*inputs)[which]
    z.detach()[0] = 0.0
    with pytest.raises(RuntimeError, match=r"attention_gru.* saved its output"):
        grad(z, inputs[0], np.ones(z.shape))


def test_float32_stays():
    for z in attention_gru(*(Tensor(operand.array.astype(np.float32)) for operand in operands())):
        assert z.dtype == np.float32


def test_the_errors_are_the_same_in_primitives():
    inputs = operands()
    inputs[7] = inputs[6]
    with (
        unfused(),
        pytest.raises(ValueError, match=r"attention_gru: .* w_hh must have shape \(9, 3\), it has \(9, 7\)"),
    ):
        attention_gru(*inputs)
    with unfused(), pytest.raises(ValueError, match=r"additive_score: the shapes must be .* \(2, 3\)"):
        additive_score(Tensor(np.ones((2, 3))), Tensor(np.ones((2, 4, 3))), Tensor(np.ones(3)))
