"""A tiny trained run, made once for all tests of the models."""

import dataclasses
import shutil

import pytest
from small_models import STORIES, small_model
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.console.working import DELAYS
from tinygrad_attn_models.data import TASKS, TOKENIZERS, train_tokenizers
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, Run
from tinygrad_attn_models.training import continuation, translation
from tinygrad_attn_models.training.trainer import Trainer

import tinygrad_attn as ta
from tinygrad_attn.nn import SCORES

TINY = {
    "data.train_size": 80,
    "data.valid_size": 8,
    "data.test_size": 10,
    "model.embedding_size": 4,
    "model.hidden_size": 6,
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.learning_rate": 0.01,
    "decoding.max_length": 12,
}


def new_trainer(folder, config):
    text = config.data.load()
    run = Run(folder, config, *train_tokenizers(text, config.data))
    run.create()
    return Trainer(run, text, PlainProgress())


@pytest.fixture
def drawn():
    """For a test whose training ends with its pictures; `tiny_run` has them too."""


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """Elsewhere training ends without its pictures, half a second each time."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(translation, "draw", lambda *_: "")
        monkeypatch.setattr(continuation, "draw", lambda *_: None)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Nothing takes long enough to be told of, so what is printed does not depend on how fast the machine is."""
    for delay in dataclasses.fields(DELAYS):
        monkeypatch.setattr(DELAYS, delay.name, 3600.0)


@pytest.fixture
def own_registries(monkeypatch):
    """What a test registers is forgotten after it."""
    for registry in (MODELS, SCORES, TASKS, TOKENIZERS):
        assert len(registry)
        monkeypatch.setattr(registry, "_found", dict(registry._found))


@pytest.fixture(scope="session")
def storyteller(tmp_path_factory):
    """The folder of a language model's run that was never trained."""
    config = load_config(None, small_model("gpt") | STORIES)
    run = Run(tmp_path_factory.mktemp("runs") / "gpt", config, *train_tokenizers(config.data.load(), config.data))
    run.create()
    ta.manual_seed(0)
    run.save(BEST, run.build().state_dict())
    return str(run.directory)


@pytest.fixture
def make_trainer(tmp_path):
    """A function: a trainer of a new run in a folder of that name, with the tiny settings and further ones; a model
    that is named brings its own sizes."""

    def make(name="run", **settings):
        changes = {key.replace("__", "."): value for key, value in settings.items()}
        tiny = {key: x for key, x in TINY.items() if "model.name" not in changes or not key.startswith("model.")}
        config = load_config(None, {**tiny, **changes})
        return new_trainer(tmp_path / name, config)

    return make


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The folder of a finished run that translates badly, to be copied."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    trainer = new_trainer(folder, load_config(None, TINY))
    assert trainer.train()
    trainer.finish()
    return folder


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory):
    """The folder of a run that has kept checkpoints, at the steps 0, 1, 3, 10 and 20."""
    folder = tmp_path_factory.mktemp("runs") / "kept"
    assert new_trainer(folder, load_config(None, {**TINY, "training.keep_checkpoints": True})).train()
    return folder


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    """The folder of a finished run; what a test leaves in it, tests of other files do not find."""
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("runs") / "tiny")
