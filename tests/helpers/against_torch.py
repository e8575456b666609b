"""Holds a function of this package to its counterpart in PyTorch: value, gradients, and gradients of the gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tinygrad_attn.autograd import grad
from tinygrad_attn.tensor import Tensor


def assert_equal_to_torch(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: list[np.ndarray | None],
    *,
    double: bool = True,
    tolerance: float = 1e-12,
) -> None:
    """Call both with ``arrays``, floating ones as leaves that require a gradient, and compare all that comes of it."""
    rng = np.random.default_rng(0)
    mine = [None if a is None else Tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]
    other = [None if a is None else torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    z, expected = ours(*mine), theirs(*other)
    assert z.shape == tuple(expected.shape)
    _assert_close("value", z.array, expected.detach().numpy(), tolerance)
    mine = [x for x in mine if x is not None and x.requires_grad]
    other = [x for x in other if x is not None and x.requires_grad]
    seed = np.asarray(rng.standard_normal(z.shape))
    g, expected_g = Tensor(seed.copy(), requires_grad=True), torch.tensor(seed, requires_grad=True)
    # The kernels serve a gradient that is not to be differentiated, the rules one that is.
    found = [
        grad(z, mine, g.detach(), retain_graph=True),
        grad(z, mine, g, create_graph=True),
    ]
    gradients = torch.autograd.grad(expected, other, expected_g, create_graph=double)
    for kind, of_kind in zip(("kernel", "rule"), found, strict=True):
        for position, (x, y) in enumerate(zip(of_kind, gradients, strict=True)):
            _assert_close(f"gradient {position} by {kind}", x.array, y.detach().numpy(), tolerance)
    if not double:
        return
    seeds = [np.asarray(rng.standard_normal(tuple(y.shape))) for y in gradients]
    kept = [(x, y, s) for x, y, s in zip(found[1], gradients, seeds, strict=True) if y.requires_grad]
    if not kept:  # every gradient is a constant
        return
    second = grad([x for x, _, _ in kept], [*mine, g], [Tensor(s) for _, _, s in kept], allow_unused=True)
    expected_second = torch.autograd.grad(
        [y for _, y, _ in kept], [*other, expected_g], [torch.tensor(s) for _, _, s in kept], allow_unused=True
    )
    for position, (x, y, like) in enumerate(zip(second, expected_second, [*mine, g], strict=True)):
        zero = np.zeros(like.shape)
        value, wanted = zero if x is None else x.array, zero if y is None else y.numpy(force=True)
        _assert_close(f"second gradient {position}", value, wanted, tolerance)


def _assert_close(what: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)
