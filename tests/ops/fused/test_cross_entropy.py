from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.check import gradcheck, gradgradcheck
from tinygrad_attn.modes import unfused
from tinygrad_attn.ops.fused.cross_entropy import cross_entropy, nll_loss
from tinygrad_attn.ops.fused.softmax import log_softmax
from tinygrad_attn.tensor import Tensor


def logits(seed, *shape):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 6))
def test_the_gradient_of_a_row_sums_to_zero_and_pulls_toward_the_target(seed, rows, classes):
    x, target = logits(seed, rows, classes), np.random.default_rng(seed).integers(0, classes, rows)
    (gradient,) = grad(cross_entropy(x, target), x)
    np.testing.assert_allclose(gradient.array.sum(axis=1), 0.0, atol=1e-12)
    assert (gradient.array[np.arange(rows), target] < 0.0).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2]), st.sampled_from(["sum", "none"]))
def test_indices_equal_their_one_hot_probabilities(seed, smoothing, reduction):
    rng = np.random.default_rng(seed)
    x, target, weight = logits(seed, 3, 4, 2), rng.integers(0, 4, (3, 2)), rng.uniform(0.5, 2.0, 4)
    one_hot = np.moveaxis(np.eye(4)[target], -1, 1)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    np.testing.assert_allclose(
        cross_entropy(x, target, weight, **options).array, cross_entropy(x, one_hot, weight, **options).array, rtol=1e-9
    )


@pytest.mark.parametrize("mode", ["fused", "unfused", "nll_loss"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [3, 0])
def test_with_every_target_ignored_the_mean_is_zero_with_zero_gradient(mode, weighted, rows):
    x, target = logits(0, rows, 4), np.full(rows, -100)
    weight = np.ones(4) if weighted else None
    if mode == "nll_loss":
        z = nll_loss(log_softmax(x, dim=1), target, weight)
    elif mode == "unfused":
        with unfused():
            z = cross_entropy(x, target, weight)
    else:
        z = cross_entropy(x, target, weight)
    assert z.item() == 0.0
    (gradient,) = grad(z, x)
    np.testing.assert_array_equal(gradient.array, np.zeros((rows, 4)))


def test_large_logits_do_not_overflow():
    x = Tensor(np.array([[1000.0, 0.0], [-1000.0, 0.0]], np.float32), requires_grad=True)
    z = cross_entropy(x, np.array([1, 1]), reduction="none")
    np.testing.assert_array_equal(z.array, np.array([1000.0, 0.0], np.float32))
    (gradient,) = grad(z, x, np.ones(2, np.float32))
    np.testing.assert_array_equal(gradient.array, np.array([[1.0, -1.0], [0.0, 0.0]], np.float32))


def test_a_class_of_no_probability_costs_nothing_unless_it_is_the_target():
    x = np.array([[-np.inf, 0.0, 0.0]])
    assert cross_entropy(x, [1]).item() == pytest.approx(np.log(2.0))
    assert cross_entropy(x, [0]).item() == np.inf


def test_logits_are_kept_and_probabilities_are_not():
    x = logits(0, 5, 4)
    z = cross_entropy(x, np.array([0, 1, 2, 3, 0]))
    kept = [value for name, value in z.node.saved.items() if name in ("lses", "divisor")]
    assert sorted(value.shape for value in kept) == [(), (5,)]


def test_small_integers_serve_as_targets():
    x = logits(0, 3, 4)
    for dtype in (np.uint8, np.int16, np.int32):
        assert cross_entropy(x, np.array([0, 3, 1], dtype)).item() == cross_entropy(x, np.array([0, 3, 1])).item()


def test_gradients_of_the_compositions():
    x, p = logits(0, 3, 4), Tensor(np.random.default_rng(0).uniform(0.1, 1.0, (3, 4)), requires_grad=True)
    weight, target = Tensor(np.random.default_rng(1).uniform(0.5, 2.0, 4), requires_grad=True), np.array([0, -100, 3])
    for function, inputs in (
        (lambda x, p, w: cross_entropy(x, p, w, label_smoothing=0.1), [x, p, weight]),
        (lambda x, w: nll_loss(x, target, w), [x, weight]),
        (lambda x, w: nll_loss(x, target, w, reduction="none"), [x, weight]),
    ):
        gradcheck(function, inputs)
        gradgradcheck(function, inputs)


@pytest.mark.parametrize("function", [cross_entropy, nll_loss])
@pytest.mark.parametrize(
    ("target", "options", "error", "match"),
    [
        ([0, 4], {}, IndexError, "target 4 is out of range for 4 classes"),
        ([0, -1], {}, IndexError, "target -1 is out of range for 4 classes, and ignore_index is -100"),
        ([0, 1, 2], {}, ValueError, r"target must have shape \(2,\) for input \(2, 4\), it has \(3,\)"),
        (np.array([0.0, 1.0]), {}, TypeError, r"class indices, integers; it is float64 of shape \(2,\)"),
        (
            [0, 1],
            {"weight": np.ones(3)},
            ValueError,
            r"weight must have shape \(4,\), one for each class, it has \(3,\)",
        ),
        ([0, 1], {"reduction": "batchmean"}, ValueError, "reduction must be 'mean', 'sum' or 'none', got 'batchmean'"),
        ([0, 1], {"size_average": True}, TypeError, "size_average"),
        ([0, 1], {"reduce": True}, TypeError, "reduce"),
    ],
)
def test_errors(function, target, options, error, match):
    with pytest.raises(error, match=match):
        function(np.ones((2, 4)), target, **options)


@pytest.mark.parametrize("target", [[0, 1], np.ones((2, 4))])
def test_the_label_smoothing_is_a_share(target):
    with pytest.raises(ValueError, match=r"label_smoothing must be from 0 to 1, got 1\.5"):
        cross_entropy(np.ones((2, 4)), target, label_smoothing=1.5)
    with unfused(), pytest.raises(ValueError, match=r"label_smoothing must be from 0 to 1, got 1\.5"):
        cross_entropy(np.ones((2, 4)), target, label_smoothing=1.5)


def test_deprecated_arguments_by_position_are_refused_too():
    with pytest.raises(TypeError):
        cross_entropy(np.ones((2, 4)), [0, 1], None, True)


@pytest.mark.parametrize(
    ("input", "target", "options", "error", "match"),
    [
        (np.ones((2, 4)), np.ones((2, 4), int), {}, TypeError, r"shape \(2, 4\) must hold probabilities .*int64"),
        (np.ones((2, 4)), np.ones((2, 4)), {"ignore_index": 1}, ValueError, "ignore_index 1 has no meaning"),
        (np.ones((2, 4)), np.ones((2, 4)), {"weight": np.ones(2)}, ValueError, r"weight must have shape \(4,\)"),
        (np.ones((2, 4)), np.ones((2, 4)), {"reduction": "all"}, ValueError, "got 'all'"),
        (np.ones(()), np.ones(()), {}, ValueError, r"its shape is \(\)"),
        (np.ones((2, 4), int), [0, 1], {}, TypeError, "input must hold floats, it is int64"),
    ],
)
def test_errors_of_probabilities(input, target, options, error, match):
    with pytest.raises(error, match=f"cross_entropy: .*{match}"):
        cross_entropy(input, target, **options)
