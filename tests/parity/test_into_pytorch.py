"""The README's classes carry a run into PyTorch: its weights load by name, and the logits are ours."""

import re
from pathlib import Path

import numpy as np
import pytest
from tinygrad_attn_models import load
from tinygrad_attn_models.data import START, train_tokenizers
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, Run

from tinygrad_attn import Tensor, manual_seed

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Into PyTorch\n")[2].partition("\n## ")[0]
FIRST, *MODELS, GPT2 = re.findall(r"```py\n(.*?)```", SECTION, re.DOTALL)
SETTINGS = {
    "Bahdanau": {"model.embedding_size": 5, "model.hidden_size": 6},
    "Luong": {"model.name": "luong", "model.embedding_size": 5, "model.hidden_size": 6, "model.layers": 2},
    "Transformer": {
        "model.name": "transformer", "model.d_model": 8, "model.heads": 2, "model.encoder_layers": 2,
        "model.decoder_layers": 1, "model.d_ff": 12,
    },
}  # fmt: skip


@pytest.fixture
def make_run(tmp_path):
    """A function that writes a run with random weights, as training would, and returns its folder."""

    def make(settings):
        config = load_config(None, {"data.train_size": 50, **settings})
        run = Run(tmp_path / "run", config, *train_tokenizers(config.data.load(), config.data))
        run.create()
        run.describe()
        manual_seed(0)
        run.save(BEST, run.build().state_dict())
        return run.directory

    return make


def test_every_model_of_the_readme_has_a_test():
    assert [re.search(r"class (\w+)", code)[1] for code in MODELS] == list(SETTINGS)


@pytest.mark.parametrize(("code", "settings"), list(zip(MODELS, SETTINGS.values(), strict=True)), ids=SETTINGS)
def test_the_logits_are_ours(make_run, code, settings):
    folder = make_run(settings)
    names = {}
    exec(FIRST.replace("runs/dates-bahdanau", str(folder)) + code, names)
    source, target_in = np.array([[5, 9, 4, 7], [6, 4, 4, 8]]), np.array([[START, 4, 6], [START, 9, 5]])
    theirs = names["model"].eval()(torch.from_numpy(source), torch.from_numpy(target_in)).detach().numpy()
    ours = load(folder).module(Tensor(source), Tensor(np.ones(source.shape, bool)), Tensor(target_in)).detach().numpy()
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)


def test_a_gpt_goes_on_in_transformers(make_run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers", reason="the gpt2 extra is not installed")
    settings = {"model.name": "gpt", "model.layers": 2, "model.heads": 2, "model.d_model": 8, "model.context": 96}
    folder = make_run({**settings, "data.kind": "stories", "data.train_size": 400})
    monkeypatch.chdir(tmp_path)
    names = {"torch": torch}
    exec(GPT2.replace("runs/stories-gpt", str(folder)), names)
    assert capsys.readouterr().out.startswith(names["run"].tokenizers[1].decode(names["ids"][0].tolist()))
    assert "<unk>" not in names["run"].tokenizers[1].decode(names["ids"][0].tolist())
    assert all(parameter.grad is not None for parameter in names["model"].parameters())
    theirs = names["model"].eval()(names["ids"]).logits.detach().numpy()
    ours, here = (
        model(Tensor(names["ids"].numpy())).detach().numpy() for model in (names["run"].module, names["here"])
    )
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours, here)
