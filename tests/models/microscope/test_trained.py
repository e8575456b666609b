"""The microscope over trained models: every kind of check has something to check, and finds it right."""

import numpy as np
import plain_models
import pytest
from bits import compiled_only
from looked_at import matrix, plain
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.data import train_tokenizers
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record.schema import SCHEMA
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.trainer import Trainer

from tinygrad_attn.nn import SCORES

SETTINGS = {
    "data.train_size": 600,
    "data.valid_size": 10,
    "data.test_size": 10,
    "training.epochs": 4,
    "training.batch_size": 20,
    "training.learning_rate": 0.01,
    "decoding.max_length": 12,
}
SMALL = {"model.embedding_size": 8, "model.hidden_size": 16}
WINDOW = 2
MODELS = {
    "bahdanau": {"model.name": "bahdanau", **SMALL},
    **{
        f"luong {score} global": {"model.name": "luong", "model.score": score, **SMALL} for score in SCORES
    },
    **{
        f"luong general {attention}": {
            "model.name": "luong", "model.attention": attention, "model.window": WINDOW, **SMALL
        }
        for attention in ("local-m", "local-p")
    },
    "transformer": {
        "model.name": "transformer", "model.d_model": 16, "model.heads": 4, "model.encoder_layers": 2,
        "model.decoder_layers": 2, "model.d_ff": 32,
    },
}  # fmt: skip
"""By the names of `looked_at`."""
SITES = {"transformer": 6}

pytestmark = [compiled_only, pytest.mark.slow]


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def looked(name, tmp_path_factory):
    """A model that has learnt a little, and what the microscope shows of it on a pair of the test set."""
    config = load_config(None, {**SETTINGS, **MODELS[name]})
    text = config.data.load()
    run = Run(tmp_path_factory.mktemp("runs") / "run", config, *train_tokenizers(text, config.data))
    run.create()
    trainer = Trainer(run, text, PlainProgress())
    untrained = [parameter.array.copy() for parameter in trainer.model.parameters()]
    assert trainer.train()
    trainer.finish()
    run, model = Run.load(run.directory)
    assert all(
        not np.array_equal(before, after.array) for before, after in zip(untrained, model.parameters(), strict=True)
    )
    source, target = text.test[0]
    return model, microscope(model, source, target, run=run).data


def test_the_badge_is_green_and_every_check_has_checked(looked, name):
    model, data = looked
    check = data["check"]
    assert data["schema"] == SCHEMA and data["meta"]["model"] == type(model).__name__
    assert check["ok"] and check["failing"] == 0, check["failures"]
    sites = SITES.get(name, 1)
    assert len(data["sites"]) == sites
    tensors = 5 if "location" in name else 6  # which has no keys
    assert len(check["cells"]) == sites * tensors * 2 + 8  # two cells of each, and of eight parameters
    assert check["compared"] > len(check["cells"]) // 2
    assert 0.0 < check["worst"] <= 1e-5
    assert check["recomputed"] > 1000 and check["recomputed_worst"] <= 1e-10
    assert check["replayed"] > 100 and check["replayed_worst"] <= 1e-10 and check["unknown_ops"] == []
    for site in data["sites"]:
        held = {identity["name"] for identity in check["identities"] if identity["site"] == site["id"]}
        assert held >= {"softmax_rows_sum_to_zero", "values_sum_as_outputs"}
        if site["score"] in ("dot", "scaled_dot", "general"):
            assert "inner_products_agree" in held
        if site["score"] in ("additive", "concat"):
            assert "additive_sums_agree" in held
        assert ("masked_are_zero" in held) == (site["role"] == "causal" or "local" in name)
    assert all(identity["holds"] for identity in check["identities"])


def test_values_and_sampled_gradients_are_those_of_plain_numpy(looked, name):
    model, data = looked
    source, target = data["source"]["ids"], data["target"]["ids"]
    passed = plain(name, WINDOW), plain_models.float64_weights(model), source, target
    assert data["meta"]["loss"] == pytest.approx(plain_models.loss(*passed).real, rel=1e-12)
    values = plain_models.values(*passed)
    rng = np.random.default_rng(0)
    for site in data["sites"]:
        for tensor in site["tensors"]:
            where = f"{tensor} at {site['id']}"
            value, gradient = (matrix(data, site, tensor, part) for part in ("value", "gradient"))
            np.testing.assert_allclose(value, values[site["id"], tensor], rtol=1e-9, atol=1e-12, err_msg=where)
            size = abs(gradient).max()
            assert size > 0.0, where
            largest = int(abs(gradient).argmax())
            for flat in (largest, *rng.integers(gradient.size, size=4)):
                cell = tuple(int(i) for i in np.unravel_index(flat, gradient.shape))
                expected = plain_models.derivative(*passed, site["id"], tensor, cell)
                assert gradient[cell] == pytest.approx(expected, rel=0, abs=1e-10 * size), f"{where} {cell}"


def test_every_mistake_of_the_gallery_shows(looked, name):
    model, data = looked
    mistakes = ["softmax-without-second-term"]
    if name in ("bahdanau", "luong concat global"):
        mistakes.append("additive-without-tanh")
    if name == "transformer":
        mistakes.append("layernorm-gamma-outside")  # training has moved the γ apart
    for broken in mistakes:
        check = microscope(model, data["source"]["ids"], data["target"]["ids"], broken=broken).data["check"]
        assert not check["ok"] and any(failure["kind"] == "replayed" for failure in check["failures"])
        assert any(not cell["holds"] for cell in check["cells"])  # central differences tell, too
