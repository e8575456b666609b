"""States read through the output layer, and how alike heads are, beside plain NumPy."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make, matrix
from tinygrad_attn_models.data import END
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope

import tinygrad_attn as ta

TEXT = [4, 6, 5, 7, 6, 5, 8]


@pytest.mark.parametrize("name", ["bahdanau", "transformer", "seq2seq", "luong general global feeding"])
def test_the_last_state_says_what_the_model_says(name):
    data = microscope(make(name), SOURCE, TARGET).data
    lens = data["vocabulary"]
    for t, token in enumerate(data["tokens"]):
        said = lens["states"][-1]["tokens"][t]
        assert [symbol for symbol, _ in said["says"]] == [symbol for symbol, _ in token["predicted"]]
        np.testing.assert_allclose([p for _, p in said["says"]], [p for _, p in token["predicted"]], rtol=1e-9)
        assert said["expected"] == pytest.approx(token["probability"], rel=1e-9)


def test_the_gradient_asks_for_the_target_and_against_what_is_likely():
    """At the input of the output layer the gradient is Wᵀ(p − y)/T."""
    data = microscope(make("bahdanau"), SOURCE, TARGET).data
    (site,) = data["sites"]
    logits, attentional = matrix(data, site, "logits", "value")[0], matrix(data, site, "attentional", "value")[0]
    weight = make("bahdanau").output.weight.array.astype(np.float64)
    bias = make("bahdanau").output.bias.array.astype(np.float64)
    np.testing.assert_allclose(attentional @ weight.T + bias, logits, rtol=1e-9)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.eye(len(weight))[[*TARGET, END]]
    asks = (y - p) / len(y) @ weight @ weight.T
    for t, token in enumerate(data["vocabulary"]["states"][-1]["tokens"]):
        order = np.argsort(-asks[t], kind="stable")
        assert [symbol for symbol, _ in token["asks"]] == [str(i) for i in order[:4]]
        assert [symbol for symbol, _ in token["drops"]] == [str(i) for i in order[::-1][:4]]
        np.testing.assert_allclose([x for _, x in token["asks"]], asks[t][order[:4]], rtol=0, atol=1e-12)
        assert (
            token["asks_expected"] == pytest.approx(asks[t][[*TARGET, END][t]], abs=1e-12)
            and token["asks_expected"] > 0
        )


def test_states_between_the_layers_go_through_the_last_norm():
    ta.manual_seed(3)
    model = GPT(9, layers=2, heads=2, d_model=8, context=10).eval()
    lens = microscope(model, TEXT).data["vocabulary"]
    assert lens["normed"] and [(each["name"], each["sublayer"]) for each in lens["states"]] == [
        ("", "embeddings"), ("blocks.0", "self_attention"), ("blocks.0", "feed_forward"),
        ("blocks.1", "self_attention"), ("blocks.1", "feed_forward"),
    ]  # fmt: skip
    weights = {name: p.array.astype(np.float64) for name, p in model.named_parameters()}
    x = weights["embedding.weight"][TEXT[:-1]] + weights["positions.weight"][: len(TEXT) - 1]
    normed = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * weights["norm.weight"]
    logits = (normed + weights.get("norm.bias", 0.0)) @ weights["embedding.weight"].T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for t, token in enumerate(lens["states"][0]["tokens"]):
        assert token["expected"] == pytest.approx(p[t, TEXT[t + 1]], rel=1e-6)


def test_how_alike_heads_are():
    data = microscope(make("transformer"), SOURCE, TARGET).data
    for site, heads in zip(data["sites"], data["heads"], strict=True):
        for part, cosines in (("value", heads["weights_alike"]), ("gradient", heads["gradients_alike"])):
            flat = matrix(data, site, "weights" if part == "value" else "scores", part).reshape(site["heads"], -1)
            expected = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in flat] for a in flat]
            np.testing.assert_allclose(cosines, expected, rtol=0, atol=1e-12)
        weights = matrix(data, site, "weights", "value")
        entropy = -np.where(weights > 0, weights * np.log(np.where(weights > 0, weights, 1.0)), 0.0).sum(-1).mean(-1)
        np.testing.assert_allclose(heads["entropy"], entropy, rtol=1e-12)
