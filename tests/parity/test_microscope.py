"""The gradients at every place of attention that the microscope shows, beside those of PyTorch's autograd."""

import numpy as np
import pytest

import tinygrad_attn as ta
from models.bahdanau import Bahdanau
from models.luong import Luong
from models.microscope import microscope
from models.microscope.arrays import decoded
from models.transformer import Transformer

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

SOURCE, TARGET = [4, 6, 5, 7], [5, 4, 6]


def make(name):
    ta.manual_seed(5)
    if name == "bahdanau":
        return Bahdanau(9, 8, 5, 6)
    if name == "transformer":
        return Transformer(9, 8, d_model=8, heads=4, encoder_layers=2, decoder_layers=2, d_ff=12)
    return Luong(9, 8, 5, 6, score=name)


def scores_of(site, q, k, weights):
    """The scores by their formula, on tensors of PyTorch."""
    if site["score"] in ("additive", "concat"):
        return torch.tanh(q[:, :, None] + k[:, None]) @ weights["v"]
    if site["score"] == "location":
        return q @ weights["W"].T
    return site["scale"] * (q @ k.transpose(-1, -2))


@pytest.mark.parametrize("name", ["bahdanau", "dot", "scaled_dot", "general", "concat", "location", "transformer"])
def test_gradients_at_a_place_of_attention(name):
    data = microscope(make(name), SOURCE, TARGET).data

    def array(number):
        return torch.from_numpy(decoded(data["arrays"][number]))

    assert data["sites"]
    for site in data["sites"]:
        tensors = site["tensors"]
        leaves = {
            tensor: array(tensors[tensor]["value"]).requires_grad_() for tensor in ("Q", "K", "V") if tensor in tensors
        }
        weights = {name: array(number) for name, number in site["weights"].items()}
        scores = scores_of(site, leaves["Q"], leaves.get("K"), weights)
        scores.retain_grad()
        masked = scores if site["mask"] is None else scores.masked_fill(~array(site["mask"]), -torch.inf)
        alpha = torch.softmax(masked, -1)
        alpha.retain_grad()
        context = alpha @ leaves["V"]
        torch.testing.assert_close(context, array(tensors["context"]["value"]), rtol=0, atol=1e-12)
        context.backward(array(tensors["context"]["gradient"]))
        for tensor, found in {**leaves, "scores": scores, "weights": alpha}.items():
            np.testing.assert_allclose(
                decoded(data["arrays"][tensors[tensor]["gradient"]]), found.grad.numpy(), rtol=1e-6, atol=1e-12
            )
