"""A module's parameters are counted without their memory, however many there are."""

import pytest
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import load_config

from tinygrad_attn import nn, random

LAYERS = {
    "Linear": lambda: nn.Linear(3, 4),
    "Embedding": lambda: nn.Embedding(7, 3),
    "LSTM": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "LayerNorm": lambda: nn.LayerNorm(5),
    "RMSNorm": lambda: nn.RMSNorm((2, 5)),
    "MultiheadAttention": lambda: nn.MultiheadAttention(8, 2, kdim=3, vdim=5),
    "Transformer": lambda: nn.Transformer(8, 2, 2, 3, 16),
    "LearnedPositionalEncoding": lambda: nn.LearnedPositionalEncoding(9, 4),
    "Sequential": lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    before = random.get_state()
    counted = nn.count_parameters(LAYERS[name])
    assert random.get_state() == before  # nothing is drawn
    assert counted == sum(parameter.numel() for parameter in LAYERS[name]().parameters())


@pytest.mark.parametrize(
    "settings",
    [
        ["model.name=bahdanau"],
        ["model.name=seq2seq", "model.layers=3", "model.cell=gru"],
        *(["model.name=luong", f"model.score={score}", "model.attention=local-p"] for score in nn.SCORES),
        ["model.name=transformer", "model.tied_output=true", "model.shared_embeddings=true",
         "data.shared_vocabulary=true", "model.d_model=16", "model.positions=learned"],
    ],
)  # fmt: skip
def test_models(settings):
    model = load_config(None, settings).model

    def make():
        return MODELS[model.name].from_settings(model, 20, 20)

    assert nn.count_parameters(make) == sum(parameter.numel() for parameter in make().parameters())


def test_a_module_that_no_memory_holds():
    assert nn.count_parameters(lambda: nn.Linear(10**20, 10**20, bias=False)) == 10**40
    assert nn.Linear(2, 3).weight.numel() == 6  # afterwards all is as before
    with pytest.raises(ZeroDivisionError):
        nn.count_parameters(lambda: 1 / 0)
    assert nn.Linear(2, 3).weight.numel() == 6
