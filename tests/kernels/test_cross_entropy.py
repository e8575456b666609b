from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, compiled_only, examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_in_numpy

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 2e-14}


def sample(rows, classes, dtype, seed=0):
    """Logits, targets of which some are -100, weights, and a gradient."""
    rng = np.random.default_rng(seed)
    targets = np.where(rng.random(rows) < 0.3, -100, rng.integers(0, classes, rows))
    logits = (3 * rng.standard_normal((rows, classes))).astype(dtype)
    return logits, targets, rng.random(classes).astype(dtype), rng.standard_normal(rows).astype(dtype)


@examples
@given(
    st.integers(0, 1000),
    st.integers(1, 20),
    st.integers(1, 70),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
)
def test_forward_and_backward_equal_their_formulas(seed, rows, classes, dtype, label_smoothing, weighted):
    logits, targets, weight, g = sample(rows, classes, dtype, seed)
    weight = weight if weighted else None
    losses, lse = cross_entropy(logits, targets, weight, label_smoothing=label_smoothing)
    assert losses.dtype == lse.dtype == dtype
    wide = [array if array is None else array.astype(np.float64) for array in (logits, weight)]
    expected, expected_lse, gradient = cross_entropy_in_numpy(
        wide[0], targets, wide[1], label_smoothing=label_smoothing
    )
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(lse, expected_lse, rtol=0, atol=TOLERANCE[dtype])
    before = logits.copy()
    ours = cross_entropy_backward(g, logits, targets, lse, weight, label_smoothing=label_smoothing)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, g[:, None] * gradient, rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_array_equal(logits, before)
    in_place = cross_entropy_backward(g, logits, targets, lse, weight, label_smoothing=label_smoothing, out=logits)
    assert in_place is logits
    np.testing.assert_array_equal(in_place, ours)


def test_ignored_rows_are_zero_whatever_they_hold():
    logits = np.full((2, 20), np.nan, np.float32)
    targets = np.array([7, 7], np.int32)
    losses, lse = cross_entropy(logits, targets, ignore_index=7, label_smoothing=0.1)
    gradient = cross_entropy_backward(np.ones(2, np.float32), logits, targets, lse, ignore_index=7)
    assert not losses.any() and not lse.any() and not gradient.any()


def test_masked_and_large_logits():
    logits = np.array([[-np.inf, 1000.0, 1000.0], [0.0, -np.inf, -np.inf]], np.float32)
    targets = np.array([1, 0])
    losses, lse = cross_entropy(logits, targets)
    np.testing.assert_allclose(losses, [np.log(2), 0], rtol=1e-4)
    gradient = cross_entropy_backward(np.ones(2, np.float32), logits, targets, lse)
    np.testing.assert_allclose(gradient, [[0, -0.5, 0.5], [0, 0, 0]], atol=1e-4)
    assert cross_entropy(logits, np.array([0, 0]))[0][0] == np.inf


def test_any_strides():
    logits, targets, weight, g = sample(6, 23, np.float64)
    losses, lse = cross_entropy(logits, targets, weight)
    turned = np.asfortranarray(logits), np.repeat(targets, 2)[::2], np.repeat(weight, 2)[::2]
    np.testing.assert_array_equal(cross_entropy(*turned)[0], losses)
    np.testing.assert_array_equal(
        cross_entropy_backward(np.repeat(g, 2)[::2], *turned[:2], np.repeat(lse, 2)[::2], turned[2]),
        cross_entropy_backward(g, logits, targets, lse, weight),
    )


@compiled_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 20003), (1000, 50)])
def test_same_bits_for_any_number_of_threads(shape, dtype):
    logits, targets, weight, g = sample(*shape, dtype)
    lse = cross_entropy(logits, targets)[1]
    assert_same_bits(lambda: cross_entropy(logits, targets, weight, label_smoothing=0.1))
    assert_same_bits(lambda: cross_entropy_backward(g, logits, targets, lse, weight, label_smoothing=0.1))


def test_no_rows():
    logits, targets = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    losses, lse = cross_entropy(logits, targets)
    assert losses.shape == lse.shape == (0,)
    assert cross_entropy_backward(losses, logits, targets, lse).shape == (0, 3)


def test_errors_name_the_thing():
    logits, targets, weight, g = sample(4, 5, np.float32)
    with pytest.raises(IndexError, match=r"from 0 to 4 for logits \(4, 5\), or ignore_index \(-100\), got 5 in row 2"):
        cross_entropy(logits, np.array([0, -100, 5, 1]))
    with pytest.raises(TypeError, match="targets must be integers, got float64"):
        cross_entropy(logits, targets.astype(np.float64))
    with pytest.raises(ValueError, match=r"targets must be \(4,\) .* got \(3,\)"):
        cross_entropy(logits, targets[:3])
    with pytest.raises(ValueError, match=r"logits must be \(N, V\)"):
        cross_entropy(logits[0], targets)
    with pytest.raises(TypeError, match="int64"):
        cross_entropy(logits.astype(np.int64), targets)
    with pytest.raises(ValueError, match=r"label_smoothing must be from 0 to 1, got 1\.5"):
        cross_entropy(logits, targets, label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"weight must be \(5,\) and float32"):
        cross_entropy(logits, targets, weight.astype(np.float64))
    with pytest.raises(ValueError, match=r"g must be \(4,\) and float32"):
        cross_entropy_backward(g[:3], logits, targets, g)
    with pytest.raises(ValueError, match="out must be writeable, C-contiguous"):
        cross_entropy_backward(g, logits, targets, g, out=logits[:, :3])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_pytorch(label_smoothing, weighted):
    torch = pytest.importorskip("torch")
    logits, targets, weight, g = sample(30, 37, np.float64)
    leaf = torch.from_numpy(logits).requires_grad_()
    theirs = torch.nn.functional.cross_entropy(
        leaf,
        torch.from_numpy(targets),
        torch.from_numpy(weight) if weighted else None,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    weight = weight if weighted else None
    losses, lse = cross_entropy(logits, targets, weight, label_smoothing=label_smoothing)
    np.testing.assert_allclose(losses, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)
    (gradient,) = torch.autograd.grad(theirs, leaf, torch.from_numpy(g))
    ours = cross_entropy_backward(g, logits, targets, lse, weight, label_smoothing=label_smoothing)
    np.testing.assert_allclose(ours, gradient.numpy(), rtol=1e-12, atol=1e-14)
