"""The gradient by the way it enters the encoder, and by branch of each layer: right, and adding up."""

import numpy as np
import plain_models
import pytest
from looked_at import FEEDING, SOURCE, TARGET, make, plain
from tinygrad_attn_models.interface import Translator
from tinygrad_attn_models.luong import Luong
from tinygrad_attn_models.microscope import microscope

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import at_step, mark

NAMES = ["bahdanau", "luong concat local-p", "luong location local-m", *FEEDING, "transformer", "seq2seq"]


def paths_of(model, **options):
    (paths,) = microscope(model, SOURCE, TARGET, **options).data["paths"]
    return paths


@pytest.mark.parametrize("name", NAMES)
def test_each_way_is_that_of_plain_numpy(name):
    paths = paths_of(make(name))
    directions = ("forward", "backward") if name == "bahdanau" else ("forward",)
    width = 8 if name == "transformer" else 6
    passed = plain(name), plain_models.float64_weights(make(name)), SOURCE, TARGET
    expected = {
        way: np.linalg.norm(rows, axis=1) for way, rows in plain_models.ways(*passed, directions, width).items()
    }
    size = expected["total"].max()
    np.testing.assert_allclose(paths["total"], expected.pop("total"), rtol=0, atol=1e-11 * size)
    for way, norms in expected.items():
        np.testing.assert_allclose(paths["ways"].get(way, 0.0), norms, rtol=0, atol=1e-11 * size, err_msg=way)
    assert paths["off"] <= 1e-12  # the vectors add up
    assert (np.array(paths["total"]) <= sum(map(np.array, paths["ways"].values())) + 1e-15).all()


def test_nearly_all_comes_as_values_and_little_by_the_start():
    paths = paths_of(make("bahdanau"))
    assert min(paths["ways"]["value"]) > 3.0 * max(*paths["ways"]["key"], *paths["ways"]["start"])


@pytest.mark.parametrize(("cell", "layers"), [("rnn", 1), ("gru", 2), ("lstm", 2)])
def test_layers_and_cells(cell, layers):
    ta.manual_seed(2)
    paths = paths_of(Luong(9, 8, 5, 6, cell=cell, layers=layers))
    assert set(paths["ways"]) == {"value", "key", "start"} and paths["off"] <= 1e-12
    assert min(paths["total"]) > 0.0


def test_a_wrong_derivative_is_followed_as_it_is():
    right, broken = (paths_of(make("bahdanau"), broken=name) for name in (None, "softmax-without-second-term"))
    assert broken["off"] <= 1e-12
    assert broken["ways"]["key"] != right["ways"]["key"]


@pytest.mark.parametrize("name", ["transformer", "bahdanau"])
def test_the_branches_of_each_layer(name):
    layers = paths_of(make(name))["layers"]
    kinds = [(layer["module"].split(".")[-3:], layer["sublayer"]) for layer in layers]
    encoder = [(["encoder", "layers", str(i)], kind) for i in (0, 1) for kind in ("self_attention", "feed_forward")]
    decoder = [
        (["decoder", "layers", str(i)], kind)
        for i in (0, 1)
        for kind in ("self_attention", "attention", "feed_forward")
    ]
    assert kinds == ([*encoder, *decoder] if name == "transformer" else [])
    for layer in layers:
        assert (
            len(layer["skip"])
            == len(layer["tokens"])
            == len(SOURCE if "encoder" in layer["module"] else TARGET) + ("decoder" in layer["module"])
        )
        skip, branch, total = (np.array(layer[part]) for part in ("skip", "branch", "total"))
        assert (total <= skip + branch + 1e-15).all() and (skip > 0.0).all()


def test_the_gradient_of_a_layers_input_is_the_sum_of_its_branches():
    """That of the encoder's first layer is the gradient of the embedded source."""
    model = make("transformer")
    (first, *_) = paths_of(model)["layers"]
    model = model.to(ta.float64).eval()
    found = []
    embed = type(model)._embed

    class Kept(type(model)):
        def _embed(self, *arguments):
            found.append(embed(self, *arguments))
            found[-1].retain_grad()
            return found[-1]

    model.__class__ = Kept
    source, target = ta.tensor([SOURCE]), ta.tensor([[1, *TARGET]])
    logits = model(source, ta.ones(1, len(SOURCE)).bool(), target)
    nn.functional.cross_entropy(logits.squeeze(0), ta.tensor([*TARGET, 2])).backward()
    np.testing.assert_allclose(first["total"], np.linalg.norm(found[0].grad.numpy()[0], axis=1), rtol=1e-10)


class Own(Translator):
    """A user's model: cells in a loop, values and keys, and a sum of the states that it need not announce."""

    def __init__(self, announced):
        super().__init__()
        self.announced = announced
        self.source, self.target = nn.Embedding(9, 6), nn.Embedding(8, 6)
        self.cell, self.output = nn.GRUCell(6, 6), nn.Linear(6, 8)
        self.score = nn.DotScore()

    def forward(self, source, source_mask, target_in, *, need_weights=False):
        return self.read(self.start(self.encode(source, source_mask)), target_in)

    def encode(self, source, source_mask):
        h, states = ta.zeros(1, 6, dtype=self.output.weight.dtype), []
        for t, x in enumerate(ta.unbind(self.source(source), 1)):
            with at_step(t):
                h = mark("state", self.cell(x, h))
            states.append(h)
        return mark("encoded", ta.stack(states, 1))

    def start(self, memory):
        first = memory.sum(1, keepdim=True)
        return memory, mark("start", first) if self.announced else first

    def step(self, state, token, *, need_weights=False):
        return self.read(state, token.unsqueeze(1)).squeeze(1), state, {}

    def read(self, state, tokens):
        memory, first = state
        context, _ = nn.attention(self.target(tokens) + first, memory, memory, score=self.score)
        return self.output(context)


@pytest.mark.parametrize(("announced", "last"), [(True, "start"), (False, "other")])
def test_a_users_own_encoder(announced, last):
    ta.manual_seed(0)
    paths = paths_of(Own(announced))
    assert set(paths["ways"]) == {"value", "key", last} and paths["off"] <= 1e-12
    assert all(min(norms) > 0.0 for norms in paths["ways"].values())


def test_without_announced_states_there_are_no_paths():
    class Silent(Own):
        def encode(self, source, source_mask):
            return ta.tanh(self.source(source))

    assert microscope(Silent(True), SOURCE, TARGET).data["paths"] == []
