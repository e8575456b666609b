from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.autograd import grad  # noqa: E402
from tinygrad_attn.ops import activation as ops  # noqa: E402
from tinygrad_attn.tensor import Tensor  # noqa: E402

CALLS = [
    ("relu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("softplus", {}),
    ("softplus", {"beta": 2.0, "threshold": 3.0}),
    ("softplus", {"beta": -0.5}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("leaky_relu", {"negative_slope": -0.3}),
    ("elu", {}),
    ("elu", {"alpha": 0.3}),
]
each_call = pytest.mark.parametrize(("name", "options"), CALLS)


def both(name, options):
    ours, theirs = getattr(ops, name), getattr(torch.nn.functional, name)
    return lambda x: ours(x, **options), lambda x: theirs(x, **options)


@each_call
@pytest.mark.parametrize("shape", [(), (0,), (40,), (3, 4, 5)])
def test_value_and_derivatives(name, options, shape):
    x = np.asarray(np.random.default_rng(0).standard_normal(shape) * 3)
    assert_equal_to_torch(*both(name, options), [x])


@each_call
def test_kinks_and_extremes(name, options):
    ours, theirs = both(name, options)
    x = np.array([0.0, -0.0, 1.5, 1e-300, -1e-300, 30.0, -30.0, 800.0, -800.0, 1e5, -1e5, np.nan])
    mine, other = Tensor(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
    z, expected = ours(mine), theirs(other)
    np.testing.assert_allclose(z.array, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    (wanted,) = torch.autograd.grad(expected, other, torch.ones_like(expected))
    for create_graph in (False, True):
        (found,) = grad(z, mine, np.ones_like(x), retain_graph=True, create_graph=create_graph)
        np.testing.assert_allclose(found.array, wanted.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "softplus"])
def test_infinities(name):
    ours, theirs = both(name, {})
    x = np.array([np.inf, -np.inf])
    assert np.array_equal(ours(Tensor(x)).array, theirs(torch.tensor(x)).numpy())
