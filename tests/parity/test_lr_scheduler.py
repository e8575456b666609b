"""Schedulers beside PyTorch's: the rates of every step, of two groups, and continued from a state."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import optim, schedule  # noqa: E402
from tinygrad_attn.optim import lr_scheduler  # noqa: E402

SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [2, 5, 5], "gamma": 0.5}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 6}),
    ("LinearLR", {}),
    ("ExponentialLR", {"gamma": 0.8}),
    ("PolynomialLR", {"total_iters": 6, "power": 2.0}),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.01}),
    ("LambdaLR", {"lr_lambda": lambda step: 1.0 / (step + 1)}),
    ("LambdaLR", {"lr_lambda": [lambda step: 0.9**step, schedule.cosine(1.0, 12, 3)]}),
]


def make(of: Any, scheduler: Any, tensor: Any, name: str, options: dict[str, Any]) -> Any:
    groups = [{"params": [tensor([1.0])], "lr": 0.5}, {"params": [tensor([2.0])]}]
    return getattr(scheduler, name)(of.SGD(groups, lr=0.1), **options)


def ours(name: str, options: dict[str, Any]) -> Any:
    return make(optim, lr_scheduler, lambda x: ta.tensor(x, requires_grad=True), name, options)


def theirs(name: str, options: dict[str, Any]) -> Any:
    return make(torch.optim, torch.optim.lr_scheduler, torch.tensor, name, options)


def rates(scheduler: Any, steps: int, *metrics: float) -> list[list[float]]:
    found = []
    for step in range(steps):
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step(*([metrics[step]] if metrics else []))
    return found


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
def test_rates(name: str, options: dict[str, Any]) -> None:
    expected = rates(theirs(name, options), 12)
    found = rates(ours(name, options), 12)
    assert all(a == pytest.approx(b, rel=1e-12, abs=1e-15) for a, b in zip(found, expected, strict=True))
    first = ours(name, options)
    rates(first, 5)
    continued = ours(name, options)
    continued.load_state_dict(first.state_dict())
    assert rates(continued, 7) == found[5:]
    assert continued.get_last_lr() == [group["lr"] for group in continued.optimizer.param_groups]


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 0, "factor": 0.5, "mode": "max", "cooldown": 2},
        {"patience": 1, "threshold": 0.2, "threshold_mode": "abs", "min_lr": 0.04},
    ],
)
def test_plateaus(options: dict[str, Any]) -> None:
    metrics = [3.0, 2.0, 2.0, 2.1, 1.9, 1.89, 1.88, float("nan"), 2.0, 2.5, 1.0, 1.0, 1.0, 1.0]
    found = rates(ours("ReduceLROnPlateau", options), len(metrics), *metrics)
    expected = rates(theirs("ReduceLROnPlateau", options), len(metrics), *metrics)
    assert all(a == pytest.approx(b) for a, b in zip(found, expected, strict=True))


def test_one_after_another() -> None:
    found = []
    for of, scheduler, tensor in (
        (optim, lr_scheduler, lambda x: ta.tensor(x, requires_grad=True)),
        (torch.optim, torch.optim.lr_scheduler, torch.tensor),
    ):
        optimiser = of.SGD([tensor([1.0])], lr=0.1)
        parts = [scheduler.LinearLR(optimiser, 0.1, total_iters=4), scheduler.ExponentialLR(optimiser, 0.5)]
        found.append(rates(scheduler.SequentialLR(optimiser, parts, [4]), 8))
    assert found[0] == [pytest.approx(rate) for rate in found[1]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("StepLR", {"step_size": 0}, "StepLR: step_size must be at least 1, got 0"),
        ("StepLR", {"step_size": 1, "gamma": float("nan")}, "StepLR: gamma must be a finite number, got nan"),
        ("StepLR", {}, "StepLR: missing a required argument: 'step_size'"),
        ("LinearLR", {"start_factor": 0.0}, "LinearLR: start_factor must be above 0 and at most 1, got 0.0"),
        ("CosineAnnealingLR", {"T_max": 2.5}, "CosineAnnealingLR: T_max must be an integer, got 2.5"),
        ("LambdaLR", {"lr_lambda": [abs]}, "LambdaLR: lr_lambda must be a function, or one for each of the 2 groups"),
        ("MultiStepLR", {"milestones": 3}, r"MultiStepLR: milestones must be steps, as in \[30, 80\], got 3"),
        ("ReduceLROnPlateau", {"mode": "least"}, "ReduceLROnPlateau: mode must be 'min' or 'max', got 'least'"),
        (
            "SequentialLR",
            {"schedulers": [1], "milestones": []},
            "SequentialLR: schedulers must be a list of",
        ),
    ],
)
def test_errors(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        ours(name, options)


def test_what_is_no_optimiser_and_no_metric() -> None:
    with pytest.raises(TypeError, match="StepLR: optimizer must be an optimiser, got 3"):
        lr_scheduler.StepLR(3, 1)
    with pytest.raises(TypeError, match="step takes the metric, a number, got None"):
        ours("ReduceLROnPlateau", {}).step()
    with pytest.raises(ValueError, match="ExponentialLR: a state has"):
        ours("ExponentialLR", {"gamma": 0.5}).load_state_dict({})
