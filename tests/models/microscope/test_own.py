"""A model and a score from a user's file: the microscope shows the tensors that they announce."""

import numpy as np
import plain_models
import pytest
from from_file import module_from
from looked_at import SOURCE, TARGET, matrix
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.snippets import render_snippet
from tinygrad_attn_models.microscope.page.terminal import print_microscope

import tinygrad_attn as ta

SCORE = r"""
@nn.SCORES.register("weighted_dot")
class WeightedDotScore(nn.Score):
    formula = r"e_{tj} = \textstyle\sum_c w_c Q_{tc} K_{jc}"
    gradient_formulas = {
        "Q": r"\bar Q_{tc} = \textstyle\sum_j \bar e_{tj} w_c K_{jc}",
        "K": r"\bar K_{jc} = \textstyle\sum_t \bar e_{tj} w_c Q_{tc}",
    }
    snippets = {
        ("scores", "value"): (
            "print(np.sum(w * q * k))", {"q": "Q value query_row", "k": "K value key_row", "w": "w weight all"}
        ),
    }
    recipes = {
        "scores": ("sum", "c", ("*", ("w", "c"), ("Q", "t", "c"), ("K", "j", "c"))),
        "Q": ("sum", "j", ("*", ("de", "t", "j"), ("w", "c"), ("K", "j", "c"))),
        "K": ("sum", "t", ("*", ("de", "t", "j"), ("w", "c"), ("Q", "t", "c"))),
    }

    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(ta.linspace(0.5, 1.5, size))

    def scores(self, query, projected):
        query, key = mark("query", query), mark("key", projected)
        return (query * mark("parameter", self.w, symbol="w")) @ key.transpose(1, 2)

    @staticmethod
    def witness(query, key, parameters):
        return np.einsum("...tc,...jc,c->...tj", query, key, parameters["w"])

    @staticmethod
    def witness_gradients(gradient, query, key, parameters):
        return {
            "Q": np.einsum("...tj,...jc,c->...tc", gradient, key, parameters["w"]),
            "K": np.einsum("...tj,...tc,c->...jc", gradient, query, parameters["w"]),
        }
"""
BARE = """
class WeightedDotScore(nn.Score):
    def __init__(self, size):
        super().__init__()

    def scores(self, query, projected):
        return (query * query) @ projected.transpose(1, 2)
"""
MODEL = """
import numpy as np
import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import mark
from tinygrad_attn_models.interface import Translator

{score}

class Own(Translator):
    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(9, 6), nn.Embedding(8, 6)
        self.score, self.output = WeightedDotScore(6), nn.Linear(6, 8)

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        memory = self.encode(source, source_mask)
        return self.read(memory, target_in)

    def encode(self, source, source_mask):
        return ta.tanh(self.source(source))

    def start(self, memory):
        return memory

    def step(self, state, token, *, need_weights=False):
        return self.read(state, token.unsqueeze(1)).squeeze(1), state, {{}}

    def read(self, memory, tokens):
        {attention}
        return self.output(context)
"""
ATTENTION = "context, _ = nn.attention(self.target(tokens), memory, memory, score=self.score)"
SILENT = "context = ta.softmax(self.target(tokens) @ memory.transpose(1, 2), -1) @ memory"
HALF = "context = mark('weights', ta.softmax(self.target(tokens) @ memory.transpose(1, 2), -1)) @ memory"


@pytest.fixture
def make(tmp_path, own_registries):
    """A function that makes the model of a file that is written for it."""

    def make(score=BARE, attention=ATTENTION):
        file = tmp_path / "own.py"
        file.write_text(MODEL.format(score=score, attention=attention), encoding="utf-8")
        module = module_from(file)
        ta.manual_seed(0)
        return module.Own()

    return make


def forward(w, source, target_in, probe):
    """The model with the weighted score, in plain NumPy."""
    memory = np.tanh(w["source.weight"][source])
    keys, values = probe("attention", "K", memory[None]), probe("attention", "V", memory[None])
    query = w["target.weight"][target_in][None]
    weighted = w["score.w"]
    context = plain_models.attend(probe, lambda q, k: (q * weighted) @ k.swapaxes(1, 2), query, keys, values)[0]
    return plain_models.linear(context, w, "output")


def test_an_own_model_with_an_own_score(make, capsys):
    model = make(SCORE)
    found = microscope(model, SOURCE, TARGET)
    data = found.data
    (site,) = data["sites"]
    assert (site["id"], site["score"], site["role"]) == ("attention", "weighted_dot", "cross")
    assert data["check"]["ok"] and data["check"]["unknown_ops"] == []
    assert "inner_products_agree" in {identity["name"] for identity in data["check"]["identities"]}
    passed = forward, plain_models.float64_weights(model), SOURCE, TARGET
    values = plain_models.values(*passed)
    assert set(site["tensors"]) == {tensor for _, tensor in values}
    for (place, tensor), expected in values.items():
        np.testing.assert_allclose(matrix(data, site, tensor, "value"), expected, rtol=1e-11)
        gradient = plain_models.gradient(*passed, place, tensor, expected.shape)
        np.testing.assert_allclose(matrix(data, site, tensor, "gradient"), gradient, atol=1e-11 * abs(gradient).max())
    assert site["tensors"]["scores"]["latex"] == type(model.score).formula
    exec(render_snippet(data, site, "scores", "value", (0, 1, 2)), {})
    assert float(capsys.readouterr().out) == pytest.approx(values["attention", "scores"][0, 1, 2], rel=1e-12)
    assert type(model.score).formula in found.html().replace("\\\\", "\\")


def test_a_wrong_witness_turns_the_badge_red(make):
    model = make(SCORE.replace('"...tc,...jc,c->...tj", query, key', '"...tc,...jc,c->...tj", 2 * query, key'))
    failures = microscope(model, SOURCE, TARGET).data["check"]["failures"]
    assert [(failure["kind"], failure["tensor"]) for failure in failures] == [("recomputed", "scores")]


def test_a_score_that_tells_nothing_of_itself(make):
    data = microscope(make(BARE), SOURCE, TARGET).data
    (site,) = data["sites"]
    assert site["score"] == "WeightedDotScore" and "Q" not in site["tensors"] and site["recipes"] == {}
    assert data["check"]["ok"] and data["check"]["recomputed"] > 0  # softmax, weighted sum and all ops
    assert site["tensors"]["scores"]["latex"] == "" and site["tensors"]["weights"]["latex"]


def test_a_model_that_announces_nothing(make, capsys):
    found = microscope(make(attention=SILENT), SOURCE, TARGET)
    assert found.data["sites"] == [] and found.data["check"]["ok"]
    print_microscope(found.data)
    assert "announces no attention (see tinygrad_attn.modes.mark)" in capsys.readouterr().out
    assert "announces no attention" in found.html()


def test_a_model_that_announces_a_part(make):
    with pytest.raises(UserError, match="Own announces weights of a call of attention, and no value and no scores"):
        microscope(make(attention=HALF), SOURCE, TARGET)
