from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops.fused.normalize import cosine_similarity, layer_norm, normalize  # noqa: E402
from tinygrad_attn.ops.fused.rms_norm import rms_norm  # noqa: E402

F = torch.nn.functional
rng = np.random.default_rng(0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize(
    ("leading", "normalized"), [((), (5,)), ((3,), (5,)), ((2, 3), (4, 5)), ((0,), (5,)), ((3,), (1,))]
)
def test_layer_norm(leading, normalized, weight, bias):
    w = rng.standard_normal(normalized) if weight else None
    b = rng.standard_normal(normalized) if bias else None
    # A row of one element has variance 0, where the derivatives are the larger the smaller eps is.
    eps = 0.1 if normalized == (1,) else 1e-5
    assert_equal_to_torch(
        lambda x, w, b: layer_norm(x, normalized, w, b, eps),
        lambda x, w, b: F.layer_norm(x, normalized, w, b, eps),
        [rng.standard_normal((*leading, *normalized)), w, b],
        double=weight or not bias,  # PyTorch has no second gradient with a bias alone
    )


@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize(("leading", "normalized"), [((), (5,)), ((2, 3), (4, 5)), ((0,), (5,))])
def test_rms_norm(leading, normalized, weight, eps):
    assert_equal_to_torch(
        lambda x, w: rms_norm(x, normalized, w, eps),
        lambda x, w: F.rms_norm(x, normalized, w, eps),
        [rng.standard_normal((*leading, *normalized)), rng.standard_normal(normalized) if weight else None],
    )


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("dim", [0, 1, -1, (0, 2)])
def test_normalize(p, dim):
    assert_equal_to_torch(
        lambda x: normalize(x, p=p, dim=dim), lambda x: F.normalize(x, p=p, dim=dim), [rng.standard_normal((3, 4, 2))]
    )


def test_normalize_below_eps():
    assert_equal_to_torch(
        lambda x: normalize(x, dim=0, eps=10.0),
        lambda x: F.normalize(x, dim=0, eps=10.0),
        [rng.standard_normal((3, 4))],
    )


@pytest.mark.parametrize(
    ("first", "second", "dim"),
    [
        ((3, 4), (3, 4), 1),
        ((3, 4), (3, 4), 0),
        ((4,), (3, 4), -1),
        ((3, 1), (3, 4), 1),
        ((2, 1, 4), (3, 4), 0),
        ((5,), (5,), 0),
    ],
)
def test_cosine_similarity(first, second, dim):
    assert_equal_to_torch(
        lambda a, b: cosine_similarity(a, b, dim=dim),
        lambda a, b: F.cosine_similarity(a, b, dim=dim),
        [rng.standard_normal(first), rng.standard_normal(second)],
    )
