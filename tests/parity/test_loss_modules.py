"""The losses, activations and containers as modules, beside PyTorch's: values, gradients, states, text of errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

from against_torch import assert_equal_to_torch  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn import nn  # noqa: E402

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
Y[0] = X[0]  # kinks, where both are equal
P, Q = RNG.uniform(0.05, 0.95, (2, 4, 3))
LABELS = np.array([2, 0, -100, 1])
FACTORS = RNG.uniform(0.5, 2.0, 3)

LOSSES: list[tuple[str, dict[str, Any], np.ndarray, np.ndarray]] = [
    ("MSELoss", {}, X, Y),
    ("L1Loss", {}, X, Y),
    ("SmoothL1Loss", {}, X, Y),
    ("SmoothL1Loss", {"beta": 0.3}, X, Y),
    ("SmoothL1Loss", {"beta": 0.0}, X, Y),
    ("HuberLoss", {"delta": 0.7}, X, Y),
    ("KLDivLoss", {}, np.log(P), Q),
    ("KLDivLoss", {"log_target": True}, np.log(P), np.log(Q)),
    ("BCELoss", {"weight": FACTORS}, P, Q),
    ("BCEWithLogitsLoss", {"weight": FACTORS, "pos_weight": FACTORS[::-1].copy()}, X, Q),
    ("NLLLoss", {"weight": FACTORS}, np.log(P), LABELS),
    ("NLLLoss", {"ignore_index": 1}, np.log(P), np.abs(LABELS) % 3),
    ("CrossEntropyLoss", {"weight": FACTORS, "label_smoothing": 0.1}, X, LABELS),
    ("CrossEntropyLoss", {}, X, Q / Q.sum(1, keepdims=True)),
]


def in_torch(options: dict[str, Any]) -> dict[str, Any]:
    return {n: torch.tensor(v) if isinstance(v, np.ndarray) else v for n, v in options.items()}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options", "input", "target"), LOSSES)
def test_losses(name: str, options: dict[str, Any], input: np.ndarray, target: np.ndarray, reduction: str) -> None:
    ours = getattr(nn, name)(**options, reduction=reduction)
    theirs = getattr(torch.nn, name)(**in_torch(options), reduction=reduction)
    # PyTorch's second derivative of BCELoss adds 1e-12 to a denominator; ours is held to finite differences.
    assert_equal_to_torch(ours, theirs, [input, target], double=name != "BCELoss")
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_batchmean() -> None:
    assert_equal_to_torch(nn.KLDivLoss("batchmean"), torch.nn.KLDivLoss(reduction="batchmean"), [np.log(P), Q])


@pytest.mark.parametrize("name", ["SmoothL1Loss", "HuberLoss", "L1Loss"])
def test_infinite_differences_have_a_slope(name: str) -> None:
    x = np.array([np.inf, -np.inf, 0.3])
    assert_equal_to_torch(getattr(nn, name)("none"), getattr(torch.nn, name)(reduction="none"), [x, np.zeros(3)])


def test_probabilities_of_exactly_0_and_1() -> None:
    x, y = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    ours, theirs = nn.BCELoss(reduction="sum"), torch.nn.BCELoss(reduction="sum")
    assert_equal_to_torch(lambda p: ours(p, y), lambda p: theirs(p, torch.tensor(y)), [x], double=False, tolerance=1e-8)
    target = ta.tensor(y, requires_grad=True)
    ours(ta.tensor(x), target).backward()  # infinite in PyTorch, though the loss is linear in the target
    assert target.grad.tolist() == [100.0, 100.0, -100.0, -100.0]


@pytest.mark.parametrize(
    ("name", "options", "input", "target", "message"),
    [
        ("MSELoss", {}, X, Y[:2], r"mse_loss: target must have input's shape \(4, 3\), it has \(2, 3\)"),
        ("L1Loss", {}, X, Y[:2], r"l1_loss: target must have input's shape"),
        ("SmoothL1Loss", {}, X, Y[:, :1], r"smooth_l1_loss: target must have input's shape"),
        ("HuberLoss", {}, X, Y[0], r"huber_loss: target must have input's shape"),
        ("BCELoss", {}, X, Q, r"binary_cross_entropy: input must lie within 0 and 1; for logits there is"),
        ("BCELoss", {"weight": X}, P[:2], Q[:2], r"binary_cross_entropy: weight of shape \(4, 3\) does not broadcast"),
        ("CrossEntropyLoss", {}, X, LABELS + 2, r"target"),
        ("NLLLoss", {"weight": np.ones(4)}, X, LABELS, r"weight"),
    ],
)
def test_errors(name: str, options: dict[str, Any], input: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises((ValueError, IndexError), match=message):
        getattr(nn, name)(**options)(ta.tensor(input), ta.tensor(target))


def test_options_of_functions_that_cannot_be() -> None:
    functional = nn.functional
    for bad in (-1.0, float("nan"), "x", True):
        with pytest.raises((ValueError, TypeError), match=r"^smooth_l1_loss: beta must"):
            functional.smooth_l1_loss(X, Y, beta=bad)
        with pytest.raises((ValueError, TypeError), match=r"^huber_loss: delta must"):
            functional.huber_loss(X, Y, delta=bad)
    with pytest.raises(ValueError, match=r"^huber_loss: delta must be above 0"):
        functional.huber_loss(X, Y, delta=0.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ReLU", {}), ("LeakyReLU", {"negative_slope": 0.2}), ("ELU", {"alpha": 0.5}), ("GELU", {}),
        ("GELU", {"approximate": "tanh"}), ("SiLU", {}), ("Softplus", {"beta": 2.0, "threshold": 1.0}), ("Tanh", {}),
        ("Sigmoid", {}), ("LogSigmoid", {}), ("Softmax", {"dim": 0}), ("LogSoftmax", {"dim": -1}), ("Flatten", {}),
        ("Flatten", {"start_dim": 0, "end_dim": 1}), ("Identity", {"anything": 1}),
    ],
)  # fmt: skip
def test_activations(name: str, options: dict[str, Any]) -> None:
    x = RNG.standard_normal((4, 3, 2))
    assert_equal_to_torch(getattr(nn, name)(**options), getattr(torch.nn, name)(**options), [x])


@given(st.data())
def test_containers(data: st.DataObject) -> None:
    """The same operations leave the same names and modules in the same order."""
    number = data.draw(st.integers(1, 4))

    def layers(of: Any) -> list[Any]:
        return [of.Linear(2, 2), of.ReLU(), of.LayerNorm(2), of.Tanh()][:number]

    kinds = data.draw(st.sampled_from(["Sequential", "ModuleList", "ModuleDict"]))
    index = data.draw(st.integers(-number, number - 1))
    part = slice(*data.draw(st.tuples(st.none() | st.integers(-4, 4), st.none() | st.integers(-4, 4))))
    described = []
    for of in (nn, torch.nn):
        if kinds == "ModuleDict":
            made = of.ModuleDict({f"layer{i}": layer for i, layer in enumerate(layers(of))})
            made["more"] = of.Identity()
            made.update({"layer0": of.Sigmoid()})
            del made["more"]
            found = [*made.keys()]
        else:
            made = of.Sequential(*layers(of)) if kinds == "Sequential" else of.ModuleList(layers(of))
            made.append(of.Sigmoid()).extend([of.Identity()])
            made[index] = of.GELU()
            found = [type(layer).__name__ for layer in made[part]] + [type(made[index]).__name__, len(made)]
        described.append((found, [(n, type(m).__name__) for n, m in made.named_children()], list(made.state_dict())))
    assert described[0] == described[1]


def test_sequential_by_name() -> None:
    made = nn.Sequential({"first": nn.Linear(2, 3), "second": nn.ReLU()})
    assert list(made.state_dict()) == ["first.weight", "first.bias"] and made(ta.ones(4, 2)).shape == (4, 3)
