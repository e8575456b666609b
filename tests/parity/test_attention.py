from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops.fused.attention import scaled_dot_product_attention  # noqa: E402

theirs = torch.nn.functional.scaled_dot_product_attention
QUERY, KEY, VALUE = (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)


def operands(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.fixture(autouse=True)
def primitives_only():
    # PyTorch's fused kernels have no second derivative.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    "shapes", [(QUERY, KEY, VALUE), ((4, 5), (6, 5), (6, 7)), ((1, 5), (1, 5), (1, 5)), ((6, 5), (4, 5), (4, 1))]
)
def test_without_mask(shapes, is_causal, scale):
    options = {"is_causal": is_causal, "scale": scale}
    assert_equal_to_torch(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, **options),
        lambda q, k, v: theirs(q, k, v, **options),
        operands(np.random.default_rng(0), *shapes),
    )


@pytest.mark.parametrize("shape", [(4, 6), (1, 6), (2, 1, 1, 6), (2, 3, 4, 6)])
def test_bool_mask(shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < 0.5
    mask[..., 0] = True  # PyTorch gives nan where nothing is left
    assert_equal_to_torch(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask),
        lambda q, k, v: theirs(q, k, v, attn_mask=torch.tensor(mask)),
        operands(rng, QUERY, KEY, VALUE),
    )


@pytest.mark.parametrize("shape", [(4, 6), (2, 1, 1, 6), (2, 3, 4, 6)])
def test_float_mask_with_gradient(shape):
    rng = np.random.default_rng(0)
    assert_equal_to_torch(
        scaled_dot_product_attention, theirs, [*operands(rng, QUERY, KEY, VALUE), rng.standard_normal(shape)]
    )


def test_float32_mask_of_float64_operands():
    rng = np.random.default_rng(0)
    mask = rng.standard_normal((4, 6)).astype(np.float32)
    assert_equal_to_torch(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask),
        lambda q, k, v: theirs(q, k, v, attn_mask=torch.tensor(mask)),
        operands(rng, QUERY, KEY, VALUE),
    )
    with pytest.raises(TypeError, match="float32 as query, it is float64"):
        scaled_dot_product_attention(
            *(x.astype(np.float32) for x in operands(rng, QUERY, KEY, VALUE)), mask.astype(np.float64)
        )


def test_a_row_without_keys_is_zeros_in_both():
    mask = np.ones((4, 6), bool)
    mask[1] = False
    assert_equal_to_torch(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask),
        lambda q, k, v: theirs(q, k, v, attn_mask=torch.tensor(mask)),
        operands(np.random.default_rng(0), QUERY, KEY, VALUE),
    )


def test_float_mask_with_infinities():
    rng = np.random.default_rng(0)
    mask = np.where(rng.random((4, 6)) < 0.5, -np.inf, rng.standard_normal((4, 6)))
    mask[:, 0] = 0.0
    assert_equal_to_torch(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, mask),
        lambda q, k, v: theirs(q, k, v, torch.tensor(mask)),
        operands(rng, QUERY, KEY, VALUE),
    )


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}], ids=str)
@pytest.mark.parametrize("shared", [1, 2, 3, 6])
def test_grouped_queries(shared, options):
    assert_equal_to_torch(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, enable_gqa=True, **options),
        lambda q, k, v: theirs(q, k, v, enable_gqa=True, **options),
        operands(np.random.default_rng(0), (2, 6, 4, 5), (2, shared, 7, 5), (2, shared, 7, 3)),
    )
