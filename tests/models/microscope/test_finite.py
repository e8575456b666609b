"""NaNs and infinities are named at their source, and are no wrong derivatives."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.badge import describe_worst
from tinygrad_attn_models.microscope.page.terminal import print_microscope

import tinygrad_attn as ta

MODELS = ["bahdanau", "luong general local-p", "transformer", "seq2seq"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weights", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_weight_is_named(name, bad, weights, capsys):
    rng = np.random.default_rng(0)
    names = [path for path, _ in make(name).named_parameters()]
    for path in rng.permutation(names)[:weights]:
        model = make(name)
        parameter = dict(model.named_parameters())[path]
        place = tuple(int(rng.integers(size)) for size in parameter.shape)
        parameter.array[place] = bad
        data = microscope(model, SOURCE, TARGET).data
        check = data["check"]
        found = check["not_finite"]
        assert (found["what"], found["name"], tuple(found["cell"])) == ("weight", path, place)
        assert found["value"] == str(bad) and found["count"] == 1 and check["failures"] == []
        assert check["state"] == ("not_finite" if found["reaches"] else "good")
        print_microscope(data)
        printed = capsys.readouterr().out
        assert f"weight {path}[{', '.join(map(str, place))}], which is {bad}" in printed or not found["reaches"]
        assert "should be" not in printed


@pytest.mark.parametrize(
    ("name", "before"), [("bahdanau", "readout.weight"), ("transformer", "transformer.decoder.norm.weight")]
)
def test_an_op_is_named(name, before):
    model = make(name).to(ta.float64)
    dict(model.named_parameters())[before].array[:] *= 1e12
    model.output.weight.array[:] *= 1e300  # all finite, their products not
    data = microscope(model, SOURCE, TARGET).data
    found = data["check"]["not_finite"]
    assert data["check"]["state"] == "not_finite" and data["check"]["failures"] == []
    assert found["what"] == "op" and data["tape"][found["call"]]["op"] == found["name"] == "matmul"
    assert found["module"].endswith(".output")
    assert describe_worst(data["check"]).startswith(f"the pass is not finite since op {found['call']}, matmul in ")


def test_a_gradient_is_named():
    """The pass is finite, its gradient is not: the slope of sqrt at 0."""
    model = make("seq2seq")
    forward = type(model).forward

    class Rooted(type(model)):
        def forward(self, *arguments, **options):
            return forward(self, *arguments, **options) + ta.sqrt(self.output.bias * 0.0)

    model.__class__ = Rooted
    check = microscope(model, SOURCE, TARGET).data["check"]
    found = check["not_finite"]
    assert check["state"] == "not_finite" and found["what"] == "gradient" and found["name"] == "sqrt"
    assert "the gradient is not finite since op" in describe_worst(check)


def test_scores_masked_with_infinity_are_finite_enough():
    model = make("seq2seq")
    forward = type(model).forward

    class Masked(type(model)):
        def forward(self, *arguments, **options):
            logits = forward(self, *arguments, **options)
            row = ta.softmax(ta.tensor(np.array([0.0, -np.inf])) + self.output.bias[0], dim=0)
            return logits + row[0]

    model.__class__ = Masked
    check = microscope(model, SOURCE, TARGET).data["check"]
    assert check["state"] == "good" and check["not_finite"] is None, check["failures"]


@pytest.mark.parametrize("bad", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_a_wrong_derivative_is_red_beside_a_nan_that_does_not_reach(bad):
    model = make("transformer")
    model.source_embedding.weight.array[8, 0] = bad  # no symbol of the source
    data = microscope(model, SOURCE, TARGET).data
    assert data["check"]["state"] == "good" and not data["check"]["not_finite"]["reaches"]
    broken = microscope(model, SOURCE, TARGET, broken="softmax-without-second-term").data["check"]
    assert broken["state"] == "bad"
