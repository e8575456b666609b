from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.recurrent.attention_gru import DecoderOperands, attention_gru, attention_gru_backward, run

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
OUTPUTS = ("states", "contexts", "weights")


def sample(seed, batch, steps, length, size, inputs=3, value_size=5, key_size=4, dtype=np.float64):
    """All operands but the mask, and the mask."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, steps, inputs), (batch, size), (batch, length, value_size), (batch, length, key_size)]
    shapes += [(key_size, size), (key_size,), (3 * size, inputs + value_size), (3 * size, size), (3 * size,)]
    shapes += [(3 * size,)]
    operands = [(rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype) for shape in shapes]
    return DecoderOperands(*operands), rng.random((batch, length)) < 0.7


@examples
@given(
    st.integers(0, 1000),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([np.float32, np.float64]),
)
def test_outputs_equal_the_twin(seed, batch, steps, length, size, dtype):
    operands, mask = sample(seed, batch, steps, length, size, dtype=dtype)
    found = attention_gru(operands, mask)
    expected = run(DecoderOperands(*(operand.astype(np.float64) for operand in operands)), mask)
    for name, wanted in zip(OUTPUTS, expected, strict=True):
        array = getattr(found, name)
        assert array.dtype == dtype
        np.testing.assert_allclose(array, wanted, rtol=0, atol=TOLERANCE[dtype], err_msg=name)


@pytest.mark.parametrize("given_outputs", [(0,), (1,), (2,), (0, 1, 2)])
def test_gradients_equal_central_differences(given_outputs):
    operands, mask = sample(0, 2, 3, 4, 2)
    mask[0] = False
    rng = np.random.default_rng(1)
    decoded = attention_gru(operands, mask)
    gs = [rng.standard_normal(decoded[i].shape) if i in given_outputs else None for i in range(3)]
    found = attention_gru_backward(gs, decoded, operands)
    for name, operand, gradient in zip(found._fields, operands, found, strict=True):
        for place in np.ndindex(operand.shape):
            kept, sides = operand[place], []
            for moved in (kept + 1e-5, kept - 1e-5):
                operand[place] = moved
                outputs = run(operands, mask)
                sides.append(sum((z * g).sum() for z, g in zip(outputs, gs, strict=True) if g is not None))
            operand[place] = kept
            difference = (sides[0] - sides[1]) / 2e-5
            np.testing.assert_allclose(gradient[place], difference, rtol=0, atol=1e-8, err_msg=f"{name}{place}")


def test_what_the_mask_hides_is_never_looked_at():
    operands, mask = sample(0, 3, 2, 5, 4)
    mask[1] = False
    operands.values[~mask], operands.keys[~mask] = np.nan, np.nan
    decoded = attention_gru(operands, mask)
    assert all(np.isfinite(array).all() for array in decoded)
    np.testing.assert_array_equal(decoded.contexts[1], 0.0)
    np.testing.assert_array_equal(decoded.weights[1], 0.0)
    gradients = attention_gru_backward(tuple(np.ones_like(array) for array in decoded[:3]), decoded, operands)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@compiled_only
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_number_of_threads(dtype):
    operands, mask = sample(0, 33, 3, 7, 66, 40, 50, 35, dtype)

    def results():
        decoded = attention_gru(operands, mask)
        gs = [np.ones_like(array) for array in decoded[:3]]
        return [*decoded, *attention_gru_backward(gs, decoded, operands)]

    assert_same_bits(results)
