from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops.fused import softmax as ops  # noqa: E402
from tinygrad_attn.tensor import Tensor  # noqa: E402

both_functions = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


@both_functions
@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((), 0),
        ((), -1),
        ((5,), 0),
        ((3, 5), -1),
        ((3, 5), 0),
        ((2, 3, 5), 1),
        ((2, 3, 5), -3),
        ((0, 5), 1),
        ((5, 0), 1),
    ],
)
def test_value_and_derivatives(name, shape, dim):
    ours, theirs = getattr(ops, name), getattr(torch, name)
    x = np.asarray(np.random.default_rng(0).standard_normal(shape) * 3)
    assert_equal_to_torch(lambda x: ours(x, dim), lambda x: theirs(x, dim), [x])


@both_functions
@pytest.mark.parametrize("dim", [0, 1])
def test_infinities_and_nan(name, dim):
    inf, nan = np.inf, np.nan
    x = np.array(
        [[-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [-inf, 0, 1], [inf, inf, 0], [0, -inf, -inf], [0, 1, nan]]
    )
    x = x if dim == 1 else x.T.copy()
    found, expected = getattr(ops, name)(Tensor(x), dim), getattr(torch, name)(torch.tensor(x), dim)
    np.testing.assert_allclose(found.array, expected.numpy(), rtol=1e-14)


@both_functions
def test_large_values_do_not_overflow(name):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e300, 1e300, 0.0]])
    found, expected = getattr(ops, name)(Tensor(x), -1), getattr(torch, name)(torch.tensor(x), -1)
    np.testing.assert_allclose(found.array, expected.numpy(), rtol=1e-13)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("mask_shape", [(2, 3, 5), (5,), (3, 1), (2, 1, 5), ()])
def test_masked_softmax_is_softmax_over_minus_inf(mask_shape, dim):
    mask = np.asarray(np.random.default_rng(1).random(mask_shape) < 0.7)
    x = np.random.default_rng(0).standard_normal((2, 3, 5))
    full = torch.tensor(mask).broadcast_to(x.shape)

    def theirs(x):
        weights = torch.softmax(x.masked_fill(~full, -np.inf), dim)
        # Where nothing is left PyTorch's own has nan, here it is 0.
        return torch.where(full.any(dim, keepdim=True), weights, 0.0) if full.any() else x * 0.0

    some_row_empty = bool((~full.any(dim)).any())
    assert_equal_to_torch(lambda x: ops.masked_softmax(x, mask, dim), theirs, [x], double=not some_row_empty)
