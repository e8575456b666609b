"""The gradient at the embeddings, token by token: what plain NumPy says, and what erasing a symbol does."""

import numpy as np
import plain_models
import pytest
from looked_at import FEEDING, SOURCE, TARGET, make, plain
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record import single_tokens
from tinygrad_attn_models.microscope.record.arrays import decoded

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

TEXT = [4, 6, 5, 7, 6, 5, 8]


def numbers(data, side, kind):
    return decoded(data["arrays"][data["embeddings"]["sides"][side][kind]])


def losses(name, weights, source, read):
    """The loss of each token, complex."""
    logits = plain(name)(weights, source, read, plain_models.Probe())
    highest = logits.real.max(axis=-1, keepdims=True)
    expected = [*TARGET, END]
    return np.log(np.exp(logits - highest).sum(axis=-1)) + highest[:, 0] - logits[np.arange(len(expected)), expected]


@pytest.mark.parametrize("name", ["bahdanau", "transformer", "seq2seq", *FEEDING])
@pytest.mark.parametrize("side", ["source", "target"])
def test_every_token_and_symbol_is_that_of_plain_numpy(name, side):
    data = microscope(make(name), SOURCE, TARGET).data
    weights = plain_models.float64_weights(make(name))
    texts = {"source": SOURCE, "target": [START, *TARGET]}
    # A row for each place, so that one place can move alone.
    weight = f"{side}_embedding.weight"
    rows = weights[weight] = weights[weight][texts[side]]
    texts[side] = list(range(len(rows)))
    gradients = np.zeros((len(TARGET) + 1, *rows.shape))
    for cell in np.ndindex(rows.shape):
        moved = rows.astype(complex)
        moved[cell] += 1j * plain_models.H
        found = losses(name, {**weights, weight: moved}, *texts.values())
        gradients[:, cell[0], cell[1]] = found.imag / plain_models.H
    size = np.abs(gradients).max()
    np.testing.assert_allclose(
        numbers(data, side, "norms"), np.linalg.norm(gradients, axis=-1), rtol=0, atol=1e-10 * size
    )
    np.testing.assert_allclose(numbers(data, side, "effects"), (gradients * rows).sum(-1), rtol=0, atol=1e-10 * size)
    shown = data["embeddings"]["sides"][side]
    mean = gradients.mean(axis=0)
    np.testing.assert_allclose(shown["total_norms"], np.linalg.norm(mean, axis=-1), rtol=0, atol=1e-10 * size)
    np.testing.assert_allclose(shown["total_effects"], (mean * rows).sum(-1), rtol=0, atol=1e-10 * size)
    for j in range(len(rows)):
        erased = rows.copy()
        erased[j] = 0.0
        change = losses(name, {**weights, weight: erased}, *texts.values()).real.mean() - data["meta"]["loss"]
        assert shown["erased"][j] == pytest.approx(change, abs=1e-12)


def test_no_token_depends_on_a_symbol_after_it():
    ta.manual_seed(3)
    data = microscope(GPT(9, layers=2, heads=2, d_model=8, context=10).eval(), TEXT).data
    assert set(data["embeddings"]["sides"]) == {"target"}
    norms = numbers(data, "target", "norms")
    later = np.triu(np.ones(norms.shape, bool), 1)
    assert (norms[later] == 0.0).all() and (norms[~later] > 0.0).all()


def test_the_mean_of_the_tokens_is_an_identity_of_the_badge():
    check = microscope(make("transformer"), SOURCE, TARGET).data["check"]
    found = [each for each in check["identities"] if each["name"] == "tokens_mean_is_gradient"]
    assert len(found) == 2 and all(each["holds"] for each in found)


def test_of_long_texts_the_tokens_of_the_largest_loss(monkeypatch):
    monkeypatch.setattr(single_tokens, "_OPS", 0)
    monkeypatch.setattr(single_tokens, "_LEAST", 2)
    data = microscope(make("bahdanau"), SOURCE, TARGET).data
    losses = [token["loss"] for token in data["tokens"]]
    assert data["embeddings"]["tokens"] == sorted(np.argsort(losses)[-2:].tolist())
    assert not [each for each in data["check"]["identities"] if each["name"] == "tokens_mean_is_gradient"]


def test_a_model_that_looks_nothing_up():
    from tinygrad_attn_models.interface import LanguageModel

    from tinygrad_attn import nn

    class OneHot(LanguageModel):
        def __init__(self):
            super().__init__()
            self.output = nn.Linear(9, 9)

        def forward(self, text, *, need_weights=False):
            return self.output(F.one_hot(text, 9).to(self.output.weight.dtype))

    data = microscope(OneHot(), TEXT).data
    assert data["embeddings"] is None and data["check"]["ok"]
