"""Every op that adds many float32 numbers, forward or backward, beside float64.

A chain of a million float32 additions is wrong in the fourth digit.
"""

import numpy as np
import pytest
from bits import compiled_only

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

pytestmark = compiled_only
EPS = float(np.finfo(np.float32).eps)
ROWS = 1_000_000


def numbers(*shape, offset=0.1, seed=0):
    return (np.random.default_rng(seed).random(shape) + offset).astype(np.float32)


def error(found, expected):
    return float(np.abs(np.asarray(found, np.float64) / expected - 1).max())


REDUCTIONS = {
    "sum": lambda x: x.sum(0),
    "sum of two axes": lambda x: x.reshape(1_000, 1_000, 2).sum((0, 1)),
    "sum over the outer axes": lambda x: x.reshape(1_000, 2, 1_000).sum((0, 2)),
    "sum of a transposed one": lambda x: x.T.sum(1),
    "mean": lambda x: x.mean(0),
    "var": lambda x: x.var(0),
    "std": lambda x: x.std(0),
    "norm": lambda x: ta.linalg.vector_norm(x, 2, 0),
    "norm 1": lambda x: ta.linalg.vector_norm(x, 1, 0),
    "norm 3": lambda x: ta.linalg.vector_norm(x, 3, 0),
    "logsumexp": lambda x: ta.logsumexp(x, 0),
    "cumsum": lambda x: x.cumsum(0),
    "einsum": lambda x: ta.einsum("ij->j", x),
    "mse_loss": lambda x: F.mse_loss(x, ta.zeros(*x.shape, dtype=x.dtype)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_reduction_of_a_million_rows(name):
    x = numbers(ROWS, 2)
    found, expected = REDUCTIONS[name](ta.Tensor(x)), REDUCTIONS[name](ta.Tensor(x.astype(np.float64)))
    assert found.dtype == np.float32
    assert error(found.array, expected.array) < 16 * EPS


GRADIENTS = {
    "add": ((2,), lambda x, w: x + w),
    "mul": ((2,), lambda x, w: x * w),
    "mul in the middle": ((1_000, 1, 2), lambda x, w: x.reshape(1_000, 1_000, 2) * w),
    "mul by a scalar": ((), lambda x, w: x * w),
    "where": ((2,), lambda x, w: ta.where(x > 0, w, x)),
    "repeat": ((1, 2), lambda x, w: x * w.repeat(ROWS, 1)),
    "expand": ((2,), lambda x, w: x * w.expand(ROWS, 2)),
    "index": ((3, 2), lambda x, w: x * w[np.arange(ROWS) % 3]),
    "gather": ((3, 2), lambda x, w: x * ta.gather(w, 0, np.arange(ROWS)[:, None].repeat(2, 1) % 3)),
    "embedding": ((3, 2), lambda x, w: x * F.embedding(ta.tensor(np.arange(ROWS) % 3), w)),
    "linear's bias": ((2,), lambda x, w: x * F.linear(x, ta.ones(2, 2, dtype=x.dtype), w)),
    "layer_norm's weight": ((2,), lambda x, w: F.layer_norm(x, (2,), w, ta.zeros(2, dtype=x.dtype)) * (x - 0.6)),
    "layer_norm's bias": ((2,), lambda x, w: x * F.layer_norm(x, (2,), ta.ones(2, dtype=x.dtype), w)),
    "prelu-like": ((1,), lambda x, w: ta.maximum(w * x, x * 0.5)),
    "cumsum": ((ROWS,), lambda x, w: w.cumsum(0)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_gradient_of_an_operand_that_a_million_rows_use(name):
    shape, compute = GRADIENTS[name]

    def gradient(dtype):
        w = ta.ones(*shape, dtype=dtype, requires_grad=True)
        compute(ta.Tensor(numbers(ROWS, 2).astype(dtype)), w).sum().backward()
        return w.grad.array

    found, expected = gradient(np.float32), gradient(np.float64)
    assert found.dtype == np.float32 and found.shape == shape
    assert error(found, expected) < 64 * EPS


def test_cross_entropy_of_many_rows_and_of_many_classes():
    for shape in ((200_000, 3), (1, 600_000)):
        x, target = numbers(*shape), np.arange(shape[0]) % shape[1]
        for reduction in ("sum", "mean"):
            found = F.cross_entropy(ta.Tensor(x), ta.tensor(target), reduction=reduction)
            expected = F.cross_entropy(ta.Tensor(x.astype(np.float64)), ta.tensor(target), reduction=reduction)
            assert error(found.array, expected.array) < 16 * EPS


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e7])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_the_variance_of_nearly_equal_large_numbers(offset, dim):
    x = (np.random.default_rng(0).integers(0, 64, (3_000, 5)) + offset).astype(np.float32)
    expected = x.astype(np.float64).var(dim, ddof=1)
    assert error(ta.Tensor(x).var(dim).array, expected) < 32 * EPS
    assert error(ta.Tensor(x).std(dim).array, np.sqrt(expected)) < 32 * EPS
    assert error(ta.var_mean(ta.Tensor(x), dim)[0].array, expected) < 32 * EPS


def test_the_variance_of_equal_numbers_is_nothing():
    for value in (0.1, 1e7 / 3, -3e8):
        x = np.full((1_001, 3), value, np.float32)
        for dim in (0, 1, None):
            # What is left is the square of a rounding, not the root of one, and never below 0.
            assert 0 <= float(ta.Tensor(x).var(dim).max().array) <= (EPS * value) ** 2
            assert np.isfinite(ta.Tensor(x).std(dim).array).all()


def test_the_mean_of_twenty_million_ones():
    assert ta.Tensor(np.ones((20_000_000, 2), np.float32)).mean(0).tolist() == [1.0, 1.0]
