"""One step with the gradient: what it predicts, beside the loss of a model whose weights have really moved."""

import numpy as np
import plain_models
import pytest
from looked_at import SOURCE, TARGET, make, plain
from tinygrad_attn_models.console.errors import CommandError
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record.build import build

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F
from tinygrad_attn.optim import SGD, Adam


def stepped(name, optimizer, rate):
    """The model in float64 after one step of the engine's own optimiser."""
    model = make(name).to(ta.float64).eval()
    logits = model(ta.tensor([SOURCE]), ta.ones(1, len(SOURCE)).bool(), ta.tensor([[START, *TARGET]]))
    F.cross_entropy(logits.squeeze(0), ta.tensor([*TARGET, END])).backward()
    optimizer(model.parameters(), lr=rate).step()
    return model


@pytest.mark.parametrize(("name", "optimizer"), [("sgd", SGD), ("adam", Adam)])
def test_the_loss_after_a_step_is_that_of_plain_numpy(name, optimizer):
    data = microscope(make("bahdanau"), SOURCE, TARGET).data
    (steps,) = (each for each in data["steps"] if each["optimizer"] == name)
    for n in (0, 5, len(steps["rates"]) - 1):
        weights = {key: p.array for key, p in stepped("bahdanau", optimizer, steps["rates"][n]).named_parameters()}
        loss = plain_models.loss(plain("bahdanau"), weights, SOURCE, TARGET).real
        assert steps["losses"][n] == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("name", ["bahdanau", "transformer", "seq2seq"])
def test_small_steps_do_what_the_gradient_says(name):
    data = microscope(make(name), SOURCE, TARGET).data
    squared = sum(parameter["gradient_norm"] ** 2 for parameter in data["parameters"])
    assert data["steps"][0]["slope"] == pytest.approx(-squared, rel=1e-12)
    for steps in data["steps"]:
        real = np.array(steps["losses"]) - data["meta"]["loss"]
        shares = real / (np.array(steps["rates"]) * steps["slope"])
        assert shares[0] == pytest.approx(1.0, abs=0.02)
        assert abs(shares[0] - 1.0) < abs(shares[4] - 1.0)  # the smaller, the straighter


@pytest.mark.parametrize(("name", "optimizer"), [("sgd", SGD), ("adam", Adam)])
def test_a_step_that_is_asked_for(name, optimizer):
    before = make("bahdanau")
    data = build(before, SOURCE, TARGET, step={"optimizer": name, "rate": 0.01})
    taken, first = data["meta"]["step"], microscope(make("bahdanau"), SOURCE, TARGET).data
    slope = next(each["slope"] for each in first["steps"] if each["optimizer"] == name)
    assert taken["before"] == first["meta"]["loss"] and taken["predicted"] == pytest.approx(
        taken["before"] + 0.01 * slope
    )
    weights = {key: p.array for key, p in stepped("bahdanau", optimizer, 0.01).named_parameters()}
    loss = plain_models.loss(plain("bahdanau"), weights, SOURCE, TARGET).real
    assert data["meta"]["loss"] == pytest.approx(loss, rel=1e-9) and data["check"]["ok"]
    np.testing.assert_array_equal(before.output.weight.array, make("bahdanau").output.weight.array)  # only a copy moved


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"optimizer": "lion", "rate": 0.1}, "no step of 'lion'; choose sgd or adam"),
        ({"optimizer": ["sgd"], "rate": 0.1}, r"no step of .*; choose sgd or adam"),
        ({"optimizer": {}, "rate": 0.1}, r"no step of .*; choose sgd or adam"),
        ({"optimizer": "sgd", "rate": -1}, "a number from 0 on, got -1"),
        ({"optimizer": "sgd", "rate": True}, "a number from 0 on"),
        ({"optimizer": "sgd"}, "a number from 0 on, got None"),
    ],
)
def test_a_step_that_cannot_be(step, message):
    with pytest.raises(CommandError, match=message):
        build(make("bahdanau"), SOURCE, TARGET, step=step)
