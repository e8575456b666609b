"""The whole layer: what passes each residual connection, beside plain definitions and another run."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta

TEXT = [4, 6, 5, 7, 6, 5, 8]


def layers_of(model, *texts):
    data = microscope(model, *texts).data
    assert data["check"]["ok"], data["check"]["failures"]
    (layers,) = data["layers"]
    return layers, data


def transformer(**options):
    ta.manual_seed(3)
    return Transformer(9, 8, d_model=8, heads=2, encoder_layers=2, decoder_layers=2, d_ff=12, **options)


def test_shares_are_of_the_vectors_whose_norms_paths_shows():
    layers, data = layers_of(make("transformer"), SOURCE, TARGET)
    paths = {(each["module"], each["sublayer"]): each for each in data["paths"][0]["layers"]}
    assert [stack["name"] for stack in layers["stacks"]] == ["encoder", "decoder"] and layers["norm_first"] is False
    for each in (each for stack in layers["stacks"] for each in stack["sublayers"]):
        for name in ("skip", "branch", "total"):
            assert each[name] == pytest.approx(np.linalg.norm(paths[each["module"], each["sublayer"]][name]), rel=1e-12)
        assert each["skip_share"] + each["branch_share"] == pytest.approx(1.0, abs=1e-12)
        # ⟨s, s + b⟩ follows from the three norms.
        s, b, total = (each[name] ** 2 for name in ("skip", "branch", "total"))
        assert each["skip_share"] == pytest.approx((total + s - b) / (2 * total), rel=1e-9)
        assert each["skip"] == pytest.approx(each["arrives"], rel=1e-12)  # a sum passes the gradient on as it is


@pytest.mark.parametrize("norm_first", [True, False])
def test_pre_and_post_norm(norm_first):
    layers, data = layers_of(transformer(norm_first=norm_first), SOURCE, TARGET)
    assert layers["norm_first"] is norm_first
    for stack in layers["stacks"]:
        for above, below in zip(stack["sublayers"][1:], stack["sublayers"], strict=False):
            # Pre-norm: the input of one sublayer is the sum of the one below. Post-norm: it has gone through a norm.
            assert above["total"] == pytest.approx(below["arrives"] if norm_first else below["norm_output"], rel=1e-12)
            if not norm_first:
                assert below["norm_input"] == pytest.approx(below["arrives"], rel=1e-12)
    names = [each["name"] for each in data["check"]["identities"]]
    assert names.count("skip_passes_unchanged") == 10 and names.count("branches_add_up") == 8


def test_queries_keys_and_values_bring_the_gradient_of_the_attention():
    """In self-attention all three maps read the same x, so that its gradient is the sum of theirs."""
    layers, _ = layers_of(make("transformer"), SOURCE, TARGET)
    for each in (each for stack in layers["stacks"] for each in stack["sublayers"]):
        parts = {part["name"]: part["norm"] for part in each["parts"]}
        assert set(parts) == (set() if each["sublayer"] == "feed_forward" else {"Q", "K", "V"})
        if each["sublayer"] == "self_attention":
            assert each["branch"] <= sum(parts.values()) * (1 + 1e-12)
            assert each["branch"] >= 2 * max(parts.values()) - sum(parts.values())
        if each["sublayer"] == "attention":  # keys and values are of the encoder's output
            assert each["branch"] == pytest.approx(parts["Q"], rel=1e-12)


def test_of_a_language_model():
    ta.manual_seed(3)
    layers, _ = layers_of(GPT(9, layers=3, heads=2, d_model=8, context=10).eval(), TEXT)
    (stack,) = layers["stacks"]
    assert layers["norm_first"] is True and len(stack["sublayers"]) == 6


def test_a_model_without_residual_connections_has_none():
    assert microscope(make("bahdanau"), SOURCE, TARGET).data["layers"] == []
