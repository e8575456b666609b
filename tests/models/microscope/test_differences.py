"""Differences of the loss: kinks are found and named, sharp and tiny gradients are told from wrong ones."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.interface import Translator
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.ops import bends_within, side_of_kink

import tinygrad_attn as ta
from tinygrad_attn import nn


class Kinked(Translator):
    """logits = W relu(a), whatever the source is."""

    def __init__(self, start):
        super().__init__()
        self.a = nn.Parameter(np.array(start, np.float64))
        self.output = nn.Linear(len(start), 8)

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        logits = self.output(ta.relu(self.a))
        return logits.reshape(1, 1, 8).expand(1, target_in.shape[1], 8)

    def encode(self, source, source_mask):
        return None

    def start(self, memory):
        return None

    def step(self, state, token, *, need_weights=False):
        return ta.zeros(1, 8), None, {}


@pytest.mark.parametrize("distance", [0.0, 1e-12, -1e-12, 3e-9])
def test_a_kink_within_every_step_is_named(distance):
    ta.manual_seed(1)
    model = Kinked([distance, 1.0])
    model.a.array[1] = 1.0
    data = microscope(model, SOURCE, TARGET).data
    assert data["check"]["ok"], data["check"]["failures"]
    cells = [cell for cell in data["check"]["cells"] if cell["kink"]]
    chosen = {(cell["tensor"], cell["column"]) for cell in data["check"]["cells"]}
    if ("a", 0) in chosen:
        (cell,) = cells
        assert cell["reason"] == "kink" and not cell["resolved"]
        row = data["tape"][cell["kink"]["call"]]
        assert (row["op"], cell["kink"]["op"], cell["kink"]["cell"]) == ("relu", "relu", [0])


def largest_at_zero():
    ta.manual_seed(1)
    model = Kinked([0.0, 1.0])
    model.output.weight.array[:, 0] *= 50.0  # so that the largest gradient, which is always sampled, is that of a[0]
    return model


@pytest.mark.parametrize("distance", [1e-5, 1e-6, -1e-6, 1e-7])
def test_a_kink_beside_the_number_needs_a_smaller_step(distance):
    model = largest_at_zero()
    model.a.array[0] = distance
    data = microscope(model, SOURCE, TARGET).data
    assert data["check"]["ok"], data["check"]["failures"]


def test_a_kink_at_the_number_itself():
    model = largest_at_zero()
    model.a.array[0] = 1e-13
    data = microscope(model, SOURCE, TARGET).data
    (cell,) = (cell for cell in data["check"]["cells"] if cell["tensor"] == "a")
    assert cell["column"] == 0 and cell["reason"] == "kink" and cell["kink"]["op"] == "relu"
    assert data["check"]["unresolved_because"] == {"kink": 1} and data["check"]["ok"]
    assert cell["left"] == pytest.approx(0.0, abs=1e-3) and cell["right"] == pytest.approx(cell["gradient"], rel=1e-3)


@pytest.mark.parametrize("factor", [4.0, 8.0, 32.0])
def test_sharp_energies_are_right(factor):
    model = make("bahdanau")
    model.attention.energy.weight.array[:] *= 10.0 * factor
    check = microscope(model, SOURCE, TARGET).data["check"]
    assert check["ok"], check["failures"]


@pytest.mark.parametrize(
    "name", ["bahdanau", "luong general global", pytest.param("transformer", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("factor", [1e-5, 1e5])
def test_saturated_and_tiny_gradients_have_their_reason(name, factor):
    model = make(name)
    for path, parameter in model.named_parameters():
        if any(part in path for part in ("energy", "score", "in_proj")):
            parameter.array[:] *= factor
    check = microscope(model, SOURCE, TARGET).data["check"]
    assert check["ok"], check["failures"]
    assert set(check["unresolved_because"]) <= {"rounding", "kink", "curvature"}
    assert sum(check["unresolved_because"].values()) == check["unresolved"]


def test_a_loss_that_looks_flat_between_saturated_ends_is_no_witness():
    """Every weight times 32: scores of 10⁵, so that the longer steps end where each softmax is saturated."""
    model = make("transformer")
    for parameter in model.parameters():
        parameter.array[:] *= 32.0
    check = microscope(model, SOURCE, TARGET).data["check"]
    assert check["ok"], check["failures"]


def test_how_far_an_op_is_straight():
    x = np.array([0.0, -np.inf, 2.0])
    assert not bends_within("softmax", [x], [x + 0.9]) and bends_within("softmax", [x], [x + 1.1])
    assert not bends_within("mul", [x], [x + 1e9])


def test_sides_of_kinks():
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(side_of_kink("relu", [x], {}), [-1, 0, 1])
    np.testing.assert_array_equal(side_of_kink("maximum", [x, x[::-1]], {}), [-1, 0, 1])
    np.testing.assert_array_equal(side_of_kink("clamp", [x], {"min": 0.0, "max": 1.0}), [[-1, 0, 1], [-1, -1, 1]])
    np.testing.assert_array_equal(side_of_kink("amax", [x], {"dim": 0, "keepdim": False}), [False, False, True])
    assert side_of_kink("tanh", [x], {}) is None


@pytest.mark.parametrize(
    "factor", [0.999, *(pytest.param(factor, marks=pytest.mark.slow) for factor in (1.01, -1.0, 0.0))]
)
def test_a_wrong_gradient_is_red(factor):
    """Even where no other check could see it: relu's derivative, off by a factor."""
    op = ta.ops.activation.relu
    right = op.rules["input"]
    op.vjp("input", right.formula, lambda g, z: factor * g * (z > 0), None)
    try:
        check = microscope(make("transformer"), SOURCE, TARGET).data["check"]
    finally:
        op.vjp("input", right.formula, right.function, right.kernel)
    assert check["state"] == "bad"
    assert {"difference", "replayed"} <= {failure["kind"] for failure in check["failures"]}
