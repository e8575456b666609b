from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn import random
from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.modes import unfused
from tinygrad_attn.ops.fused.attention import attention as scores_op
from tinygrad_attn.ops.fused.attention import scaled_dot_product_attention as attention
from tinygrad_attn.ops.fused.multihead import multihead_attention
from tinygrad_attn.record import record
from tinygrad_attn.tensor import Tensor


def operands(seed, *shapes, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in shapes]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_weights_are_a_distribution_over_what_the_mask_leaves(seed, queries, keys):
    q, k, v = operands(seed, (2, queries, 3), (2, keys, 3), (2, keys, 4))
    mask = np.random.default_rng(seed).random((2, queries, keys)) < 0.6
    output, weights = attention(q, k, v, mask, need_weights=True)
    assert (weights.array[~mask] == 0.0).all()
    np.testing.assert_allclose(weights.array.sum(-1), mask.any(-1), rtol=1e-12)
    np.testing.assert_allclose(output.array, weights.array @ v.array, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_row_with_nothing_to_attend_to_is_zero_and_passes_nothing_back(kind):
    q, k, v = operands(0, (3, 2), (4, 2), (4, 5))
    mask = np.ones((3, 4), bool)
    mask[1] = False
    output, weights = attention(q, k, v, mask if kind == "bool" else np.where(mask, 0.0, -np.inf), need_weights=True)
    assert (output.array[1] == 0.0).all()
    assert (weights.array[1] == 0.0).all()
    gradients = grad(output, [q, k, v], np.ones((3, 5)))
    assert all(np.isfinite(g.array).all() for g in gradients)
    assert (gradients[0].array[1] == 0.0).all()
    assert (gradients[0].array[0] != 0.0).any()


def test_causal_is_the_lower_triangle():
    q, k, v = operands(0, (2, 3, 4), (2, 5, 4), (2, 5, 4))
    triangle = np.tri(3, 5, dtype=bool)
    np.testing.assert_array_equal(attention(q, k, v, is_causal=True).array, attention(q, k, v, triangle).array)


def test_gradients_for_every_kind_of_mask():
    q, k, v = operands(0, (2, 3, 2), (4, 2), (2, 4, 3))
    (bias,) = operands(1, (3, 4))
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    for function, inputs in (
        (lambda q, k, v: attention(q, k, v), [q, k, v]),
        (lambda q, k, v: attention(q, k, v, mask, scale=0.5), [q, k, v]),
        (lambda q, k, v: attention(q, k, v, is_causal=True, need_weights=True), [q, k, v]),
        (attention, [q, k, v, bias]),
    ):
        gradcheck(function, inputs)
        gradgradcheck(function, inputs)


def test_dropout_drops_weights_and_returns_those_that_were_used():
    q, k, v = operands(0, (50, 4), (60, 4), (60, 3), dtype=np.float32)
    whole = attention(q, k, v, need_weights=True)[1].array
    random.manual_seed(0)
    output, weights = attention(q, k, v, dropout_p=0.5, need_weights=True)
    assert output.dtype == np.float32
    kept = weights.array != 0.0
    assert 1300 < kept.sum() < 1700
    np.testing.assert_allclose(weights.array[kept], 2.0 * whole[kept], rtol=1e-6)
    np.testing.assert_allclose(output.array, weights.array @ v.array, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_causal", [False, True])
def test_dropout_drops_the_same_weights_however_attention_is_computed(is_causal):
    """In the kernel, in primitives, and with the weights returned; forward, backward and backward again."""
    q, k, v = operands(0, (3, 2, 5, 4), (3, 2, 6, 4), (2, 6, 3))

    def run(**options):
        random.manual_seed(0)
        z = attention(q, k, v, dropout_p=0.4, is_causal=is_causal, **options)
        z = z[0] if options else z
        first = grad((z * z).sum(), [q, k, v], create_graph=True)
        return z, *first, *grad((first[0] * first[0]).sum(), [q, k, v])

    with unfused():
        expected = run()
    for found in (run(), run(need_weights=True)):
        for ours, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.array, exact.array, rtol=1e-9, atol=1e-12)


def repeat(x, groups):
    """Every head as often as query heads share it."""
    return x.unsqueeze(-3).expand(*x.shape[:-2], groups, *x.shape[-2:]).reshape(*x.shape[:-3], -1, *x.shape[-2:])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 3))
def test_grouped_queries_attend_as_to_repeated_keys_and_values(seed, shared, groups, causal, kind):
    q, k, v = operands(seed, (2, shared * groups, 3, 2), (2, shared, 4, 2), (2, shared, 4, 3))
    rng = np.random.default_rng(seed)
    mask = [
        None,
        rng.random((3, 4)) < 0.7,
        rng.standard_normal((shared * groups, 3, 4)),
        rng.random((2, 1, 1, 4)) < 0.7,
    ]
    options = {"is_causal": True} if causal else {"attn_mask": mask[kind]}
    expected = attention(q, repeat(k, groups), repeat(v, groups), **options)
    g = rng.standard_normal(expected.shape)
    wanted = [expected, *grad(expected, [q, k, v], g)]

    def run(**more):
        z = attention(q, k, v, enable_gqa=True, **options, **more)
        z = z[0] if more else z
        return [z, *grad(z, [q, k, v], g, retain_graph=True), *grad(z, [q, k, v], Tensor(g), create_graph=True)]

    with unfused():
        found = run()
    for all_of in (found, run(), run(need_weights=True)):
        for ours, exact in zip(all_of, [*wanted, *wanted[1:]], strict=True):
            np.testing.assert_allclose(ours.array, exact.array, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("needs", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 4), (2, 2, 3, 4), ()])
def test_a_bias_of_the_scores_has_the_same_gradients_whether_it_needs_one_or_not(shape, needs):
    q, k, v = operands(0, (2, 2, 3, 2), (2, 2, 4, 2), (2, 2, 4, 3))
    bias = Tensor(np.random.default_rng(1).standard_normal(shape), requires_grad=needs)
    leaves = [q, k, v, bias] if needs else [q, k, v]

    def attend(*leaves):
        return attention(*leaves[:3], leaves[3] if needs else bias)

    z, exact = attend(*leaves), attention(q, k, v, bias, need_weights=True)[0]
    g = np.random.default_rng(2).standard_normal(z.shape)
    found, expected = [z, *grad(z, leaves, g)], [exact, *grad(exact, leaves, g)]
    for ours, one in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.array, one.array, rtol=1e-9, atol=1e-12)
    gradcheck(attend, leaves)
    gradgradcheck(attend, leaves)


def test_empty():
    q, k, v = operands(0, (0, 2), (4, 2), (4, 5))
    assert attention(q, k, v).shape == (0, 5)
    q, k, v = operands(0, (3, 2), (0, 2), (0, 5))
    output = attention(q, k, v, np.ones((3, 0), bool))
    np.testing.assert_array_equal(output.array, np.zeros((3, 5)))


@pytest.mark.parametrize(
    ("shapes", "options", "error", "match"),
    [
        (((3, 2), (4, 3), (4, 5)), {}, ValueError, "query and key must have the same width, they have 2 and 3"),
        (((3, 2), (4, 2), (5, 5)), {}, ValueError, "4 keys, 5 values"),
        (((2, 3, 2), (3, 4, 2), (4, 5)), {}, ValueError, r"do not broadcast: query \(2, 3, 2\), key \(3, 4, 2\)"),
        (((2,), (4, 2), (4, 5)), {}, ValueError, r"query must have at least two axes, its shape is \(2,\)"),
        (((3, 2), (4, 2), (4, 5)), {"attn_mask": np.ones((3, 5), bool)}, ValueError, r"\(3, 5\) .* \(3, 4\)"),
        (((3, 2), (4, 2), (4, 5)), {"attn_mask": np.ones((2, 3, 4), bool)}, ValueError, r"\(2, 3, 4\) .* \(3, 4\)"),
        (((3, 2), (4, 2), (4, 5)), {"attn_mask": np.ones((3, 4), int)}, TypeError, "attn_mask must be bool .*int64"),
        (((3, 2), (4, 2), (4, 5)), {"attn_mask": np.ones((3, 4), bool), "is_causal": True}, ValueError, "not both"),
        (((3, 2), (4, 2), (4, 5)), {"enable_gqa": True}, ValueError, r"enable_gqa needs an axis of heads .*\(3, 2\)"),
        (((4, 3, 2), (3, 4, 2), (3, 4, 5)), {"enable_gqa": True}, ValueError, "3 heads of key .* divide the 4 heads"),
        (((4, 3, 2), (2, 4, 2), (4, 4, 5)), {"enable_gqa": True}, ValueError, "as many heads, they have 2 and 4"),
        (((4, 3, 2), (0, 4, 2), (0, 4, 5)), {"enable_gqa": True}, ValueError, "0 heads .* do not divide"),
        (((3, 2), (4, 2), (4, 5)), {"dropout_p": 2.0}, ValueError, "from 0 to 1, got 2.0"),
    ],
)
def test_errors(shapes, options, error, match):
    with pytest.raises(error, match=match):
        attention(*operands(0, *shapes), **options)


def test_a_mask_of_more_digits_than_the_query_is_refused():
    q, k, v = operands(0, (3, 2), (4, 2), (4, 5), dtype=np.float32)
    with pytest.raises(TypeError, match=r"float32 as query, .*float64"):
        attention(q, k, v, np.ones((3, 4), np.float64))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="key must hold floats, it is int64"):
        attention(np.ones((3, 2)), np.ones((4, 2), np.int64), np.ones((4, 2)))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("crossed", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_multihead_attention_is_its_reference(batch_first, crossed, causal):
    shape = (2, 5) if batch_first else (5, 2)
    memory_shape = (2, 7) if batch_first else (7, 2)
    leaves = operands(0, (*shape, 8), (*memory_shape, 16)) if crossed else [*operands(0, (*shape, 24)), None]
    mask = np.random.default_rng(1).random((2, 1, 1, 7 if crossed else 5)) < 0.5
    mask[1] = False

    def attend():
        return multihead_attention(*leaves, mask, heads=2, is_causal=causal, batch_first=batch_first)

    z = attend()
    with unfused():
        expected = attend()
    np.testing.assert_allclose(z.array, expected.array, rtol=1e-12, atol=1e-13)
    assert (z.array.transpose((0, 1, 2) if batch_first else (1, 0, 2))[1] == 0.0).all()
    inputs = [x for x in leaves if x is not None]
    g = np.random.default_rng(2).standard_normal(z.shape)
    for ours, one in zip(grad(z, inputs, g), grad(expected, inputs, g), strict=True):
        np.testing.assert_allclose(ours.array, one.array, rtol=1e-12, atol=1e-13)


def test_a_mask_and_a_bias_of_the_ops_have_their_own_dtypes():
    q, k, v = operands(0, (1, 1, 3, 4), (1, 1, 3, 4), (1, 1, 3, 4))
    (projected,) = operands(1, (1, 3, 12))
    seen, added = np.ones((3, 3), bool), np.zeros((3, 3))
    for call, name in (
        (lambda *masks: scores_op(q, k, v, *masks, scale=1.0), "scaled_dot_product_attention"),
        (lambda *masks: multihead_attention(projected, None, *masks, heads=1), "multihead_attention"),
    ):
        assert np.isfinite(call(seen, added).array).all()
        for masks, message in (
            ((None, seen), "bias must be float64 as query, it is bool"),
            ((None, added.astype(np.float32)), "bias must be float64 as query, it is float32"),
            ((added, None), r"mask must be bool \(True = may attend\), it is float64"),
            ((added > 0, np.zeros((2, 3))), r"bias of shape \(2, 3\) does not broadcast"),
            ((np.ones((2, 3), bool), None), r"mask of shape \(2, 3\) does not broadcast"),
        ):
            with pytest.raises((TypeError, ValueError), match=f"^{name}: {message}"):
                call(*masks)
    with pytest.raises(TypeError, match=r"attn_mask must be bool \(True = may attend\) or float64 as query, it is int"):
        attention(q, k, v, np.ones((3, 3), int))


def test_scores_are_compared_only_for_those_who_look_on(monkeypatch):
    q, k, v = operands(0, (3, 4), (3, 4), (3, 4))
    compared = []
    monkeypatch.setattr(np, "array_equal", lambda *arrays: compared.append(arrays) or False)
    _, weights = attention(q, k, v, np.eye(3), need_weights=True)
    assert not compared
    with record() as tape:
        _, seen = attention(q, k, v, np.eye(3), need_weights=True)
    assert len(compared) == 1 and tape is not None
    np.testing.assert_allclose(seen.array, weights.array, rtol=0, atol=0)
