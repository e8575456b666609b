from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops import loss  # noqa: E402
from tinygrad_attn.ops.fused.cross_entropy import cross_entropy, nll_loss  # noqa: E402

F = torch.nn.functional
REDUCTIONS = ["mean", "sum", "none"]
LAYOUTS = [(4,), (3, 4), (2, 4, 3), (2, 4, 3, 2), (1, 1)]


def targets_of(shape, rng, ignore_index):
    """Class indices for logits of ``shape``, one in three of them ignored."""
    dim = 0 if len(shape) == 1 else 1
    target = np.asarray(rng.integers(0, shape[dim], shape[:dim] + shape[dim + 1 :]))
    if target.ndim and target.size > 1:
        target.reshape(-1)[::3] = ignore_index
    return target


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 1])
@pytest.mark.parametrize("shape", LAYOUTS)
def test_cross_entropy_of_classes(shape, ignore_index, weighted, smoothing, reduction):
    rng = np.random.default_rng(0)
    target = targets_of(shape, rng, ignore_index)
    weight = rng.uniform(0.5, 2.0, shape[0 if len(shape) == 1 else 1]) if weighted else None
    options = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": smoothing}
    assert_equal_to_torch(
        lambda x: cross_entropy(x, target, weight, **options),
        lambda x: F.cross_entropy(x, torch.tensor(target), None if weight is None else torch.tensor(weight), **options),
        [rng.standard_normal(shape)],
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", LAYOUTS)
def test_cross_entropy_of_probabilities(shape, weighted, smoothing, reduction):
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2.0, shape[0 if len(shape) == 1 else 1]) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    assert_equal_to_torch(
        lambda x, y, w: cross_entropy(x, y, w, **options),
        lambda x, y, w: F.cross_entropy(x, y, w, **options),
        [rng.standard_normal(shape), rng.uniform(0.0, 1.0, shape), weight],
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 1])
@pytest.mark.parametrize("shape", LAYOUTS)
def test_nll_loss(shape, ignore_index, weighted, reduction):
    rng = np.random.default_rng(0)
    target = targets_of(shape, rng, ignore_index)
    weight = rng.uniform(0.5, 2.0, shape[0 if len(shape) == 1 else 1]) if weighted else None
    options = {"ignore_index": ignore_index, "reduction": reduction}
    assert_equal_to_torch(
        lambda x: nll_loss(x, target, weight, **options),
        lambda x: F.nll_loss(x, torch.tensor(target), None if weight is None else torch.tensor(weight), **options),
        [rng.standard_normal(shape)],
        double=False,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_mse_loss(shape, reduction):
    rng = np.random.default_rng(0)
    assert_equal_to_torch(
        lambda x, y: loss.mse_loss(x, y, reduction=reduction),
        lambda x, y: F.mse_loss(x, y, reduction=reduction),
        [np.asarray(rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))],
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pos_weighted", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_binary_cross_entropy_with_logits(shape, pos_weighted, weighted, reduction):
    rng = np.random.default_rng(0)
    logits = np.asarray(rng.standard_normal(shape))
    logits.reshape(-1)[0] = 0.0
    weight = torch.tensor(rng.uniform(0.5, 2.0, shape[-1:])) if weighted else None
    pos_weight = torch.tensor(rng.uniform(0.5, 2.0, shape[-1:])) if pos_weighted else None
    numpy = {
        "weight": None if weight is None else weight.numpy(),
        "pos_weight": None if pos_weight is None else pos_weight.numpy(),
    }
    assert_equal_to_torch(
        lambda x, y: loss.binary_cross_entropy_with_logits(x, y, reduction=reduction, **numpy),
        lambda x, y: F.binary_cross_entropy_with_logits(
            x, y, reduction=reduction, weight=weight, pos_weight=pos_weight
        ),
        [logits, np.asarray(rng.uniform(0.0, 1.0, shape))],
    )


@pytest.mark.parametrize("value", [0.0, 30.0, -30.0, 800.0, -800.0])
def test_logsigmoid(value):
    assert_equal_to_torch(loss.logsigmoid, F.logsigmoid, [np.array([value, value / 3])])


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 2)])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_div(shape, log_target, reduction):
    rng = np.random.default_rng(0)
    target = rng.standard_normal(shape) if log_target else rng.uniform(0.1, 1.0, shape)
    assert_equal_to_torch(
        lambda x, y: loss.kl_div(x, y, reduction=reduction, log_target=log_target),
        lambda x, y: F.kl_div(x, y, reduction=reduction, log_target=log_target),
        [rng.standard_normal(shape), target],
    )


def test_kl_div_counts_a_probability_of_zero_as_nothing():
    x, y = np.log([0.25, 0.75]), np.array([0.0, 1.0])
    value = loss.kl_div(x, y, reduction="sum").item()
    assert value == pytest.approx(F.kl_div(torch.tensor(x), torch.tensor(y), reduction="sum").item(), rel=1e-15)
