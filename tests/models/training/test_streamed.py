"""Training on text that is not held: the bits are those of text in memory, also after a stop, and evaluation reads one
split alone."""

import numpy as np
import pytest
from small_models import small_model
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.data import cache, encode, file_text, prepare, text, train_tokenizers
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import LAST, Run
from tinygrad_attn_models.trained import TrainedModel
from tinygrad_attn_models.training.trainer import Trainer
from weights import assert_same, weights

PAIRS = {
    "data.kind": "parallel", "data.source": "a", "data.target": "b", "data.tokenizer": "words", "data.max_length": 7,
    "model.embedding_size": 4, "model.hidden_size": 6, "decoding.max_length": 10,
    "training.epochs": 2, "training.batch_type": "tokens", "training.batch_size": 60,
}  # fmt: skip
TEXT = small_model("gpt") | {
    "data.kind": "text", "data.tokenizer": "words", "data.epoch_windows": 40, "training.batch_size": 8,
    "training.epochs": 2,
}  # fmt: skip


@pytest.fixture(params=["pairs", "text"])
def settings(request, tmp_path):
    """The settings of a run, whose text is in files."""
    generator = np.random.default_rng(0)
    for split, size in (("train", 120), ("valid", 8), ("test", 6)):
        rows = [list(map(str, generator.integers(20, size=1 + i % 9))) for i in range(size)]
        for language, order in (("a", 1), ("b", -1)):
            (tmp_path / f"{split}.{language}").write_text("\n".join(" ".join(row[::order]) for row in rows), "utf-8")
    if request.param == "pairs":
        return PAIRS | {"data.directory": str(tmp_path)}
    return TEXT | {"data.file": str(tmp_path / "train.a")}


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """From this call on all text counts as large."""
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))

    def begin():
        for module in (encode, prepare):
            monkeypatch.setattr(module, "MANY_PAIRS", 1)
        for module in (encode, prepare, text):
            monkeypatch.setattr(module, "MANY_CHARACTERS", 1)
        monkeypatch.setattr(file_text, "_PIECE", 100)
        monkeypatch.setattr(file_text, "_BLOCK", 50)

    return begin


def trainer_of(folder, settings):
    config = load_config(None, settings)
    found = config.data.load()
    run = Run(folder, config, *train_tokenizers(found, config.data))
    run.create()
    return Trainer(run, found, PlainProgress())


def test_the_bits_are_those_of_text_in_memory_also_after_a_stop(tmp_path, settings, streamed):
    held = trainer_of(tmp_path / "held", settings)
    assert held.train()
    assert not (tmp_path / "cache").exists()
    streamed()
    whole = trainer_of(tmp_path / "whole", settings)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) >= 2
    assert whole.train()
    assert_same(weights(whole), weights(held))
    assert whole.run.data == held.run.data

    stopped = trainer_of(tmp_path / "stopped", settings)
    step = stopped.step

    def interrupted(*batches):
        stopped.interruption.requested = stopped.position.step == 3
        return step(*batches)

    stopped.step = interrupted
    assert not stopped.train()
    run, arrays, position = Run.open(stopped.run.directory, LAST)
    resumed = Trainer(run, run.config.data.load(), PlainProgress())
    resumed.resume(arrays, position)
    assert resumed.train()
    assert_same(weights(resumed), weights(held))
    assert resumed.finish()


@pytest.mark.parametrize("settings", ["pairs"], indirect=True)
def test_an_evaluation_needs_its_split_alone(tmp_path, settings, streamed):
    trainer = trainer_of(tmp_path / "run", settings)
    assert trainer.train()
    for name in ("train.a", "train.b", "valid.a", "valid.b"):
        (tmp_path / name).unlink()
    assert TrainedModel.load(tmp_path / "run").evaluate("test").scores.pairs == 6
