"""The microscope over a Transformer by each setting for what came after the paper: green, with nothing left unknown."""

import numpy as np
import pytest
from looked_at import HEADS, SOURCE, TARGET
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta

EACH = [
    {"norm_first": True}, {"norm": "rms"}, {"activation": "gelu"}, {"activation": "swiglu"}, {"positions": "learned"},
    {"positions": "rotary"}, {"positions": "alibi"}, {"positions": "none"}, {"kv_heads": 1}, {"kv_heads": 2},
    {"qk_norm": True}, {"bias": False},
    {"norm_first": True, "norm": "rms", "activation": "swiglu", "positions": "rotary", "kv_heads": 2, "qk_norm": True,
     "bias": False, "tied_output": True},
]  # fmt: skip


@pytest.mark.parametrize("options", EACH, ids=str)
def test_every_setting(options):
    ta.manual_seed(3)
    model = Transformer(9, 8, d_model=16, heads=HEADS, encoder_layers=1, decoder_layers=1, d_ff=12, **options)
    for path, parameter in model.named_parameters():  # as in a trained one
        if "norm" in path and path.endswith("weight"):
            parameter.array[:] = np.linspace(0.5, 2.0, parameter.numel())
    shown = microscope(model.eval(), SOURCE, TARGET)
    check = shown.data["check"]
    assert check["ok"], check["failures"]
    assert check["unknown_ops"] == [] and check["replayed"] > 50 and check["worst"] <= 1e-5
    assert [site["id"] for site in shown.data["sites"]] == [
        "encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.multihead_attn",
    ]  # fmt: skip
    assert {site["heads"] for site in shown.data["sites"]} == {HEADS}
    biased = [site["score"] for site in shown.data["sites"]]
    assert biased == (["biased_dot"] * 2 if options.get("positions") == "alibi" else ["scaled_dot"] * 2) + [
        "scaled_dot"
    ]
