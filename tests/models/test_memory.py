"""What cannot fit into memory is refused with both figures, and the estimates are not too high."""

import tracemalloc

import numpy as np
import pytest
from commands import refused
from tinygrad_attn_models import memory
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.data import Batches, collate
from tinygrad_attn_models.evaluation.metrics import token_loss
from tinygrad_attn_models.memory import TooLargeError, machine_memory, readable, refuse_beyond_memory
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import load_config

from tinygrad_attn import Tensor

HUGE = 10**20


def test_sizes_are_readable():
    assert [readable(n) for n in (0, 999, 1000, 25_300_000_000, 4 * 10**20, 10**30)] == [
        "0 bytes", "999 bytes", "1 KB", "25.3 GB", "400 EB", "10^30 bytes",
    ]  # fmt: skip
    assert machine_memory() > 10**8
    refuse_beyond_memory(1, "a byte", "lower it")
    with pytest.raises(TooLargeError, match=r"it would take about 10\^40 bytes of memory; there are .*B; lower x"):
        refuse_beyond_memory(10**40, "it", "lower x")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.hidden_size=1000000000"], ["25,000,000,", "parameters", "400 EB", "lower model.hidden_size"]),
        ([f"model.embedding_size={HUGE}"], ["lower model.embedding_size"]),
        (["model.name=luong", "model.score=location", f"model.max_length={HUGE}"], ["lower model.max_length"]),
        (["model.name=luong", "model.layers=1000000"], ["model.layers: expected at most 1000"]),
        (["model.name=transformer", f"model.d_ff={HUGE}"], ["lower model.d_ff"]),
        (["model.name=transformer", f"model.d_model={8 * HUGE}"], ["lower model.d_model"]),
        (["model.name=transformer", f"model.encoder_layers={HUGE}"], ["model.encoder_layers: expected at most 1000"]),
        (["model.name=transformer", f"model.decoder_layers={HUGE}"], ["model.decoder_layers: expected at most 1000"]),
        (
            ["model.name=transformer", "model.positions=learned", f"model.max_length={HUGE}"],
            ["lower model.max_length"],
        ),
        (["data.kind=copy", f"data.train_size={HUGE}"], ["pairs of about 10 symbols", "lower data.train_size"]),
        ([f"data.train_size={HUGE}"], ["generated pairs", "lower data.train_size"]),
        (["data.kind=reverse", f"data.valid_size={HUGE}"], ["data.valid_size"]),
        (["data.kind=copy", f"data.longest={HUGE}"], ["or the lengths"]),
        ([f"decoding.beam={HUGE}"], ["decoding.beam: expected at most 10000"]),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be(capsys, tmp_path, settings, words):
    sizes = ["data.train_size=20", "data.valid_size=2", "data.test_size=2"]
    refused(capsys, ["train", "--out", tmp_path / "run", "--set", *sizes, *settings], *words)
    assert not (tmp_path / "run").exists()


def test_batches_that_cannot_be(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 10**7)
    small = ["data.train_size=2000", "data.valid_size=2", "data.test_size=2"]
    refused(capsys, ["train", "--out", tmp_path / "run", "--set", *small, f"training.batch_size={HUGE}"],
            "and its training would take", "lower training.batch_size")  # fmt: skip


@pytest.mark.parametrize("settings", [["training.epochs=1" + "0" * 20], [f"training.batch_size={HUGE}"],
                                      [f"data.max_length={HUGE}"], [f"decoding.batch_size={HUGE}"],
                                      [f"data.vocabulary_size={HUGE}"], [f"training.patience={HUGE}"],
                                      [f"training.average={HUGE}", "training.epochs=1"],
                                      ["model.name=luong", "model.attention=local-p", f"model.window={HUGE}"],
                                      ])  # fmt: skip
def test_huge_settings_that_harm_nothing(tmp_path, capsys, monkeypatch, settings):
    sizes = ["data.train_size=20", "data.valid_size=2", "data.test_size=2", "model.hidden_size=4"]
    monkeypatch.setattr("tinygrad_attn_models.training.trainer.Trainer.finished", property(lambda t: t.position.epoch))
    assert main(["train", "--out", str(tmp_path / "run"), "--set", *sizes, "decoding.max_length=12", *settings]) == 0


def test_a_beam_that_cannot_be(trained, capsys, monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 10**6)
    refused(capsys, ["translate", trained, "1", "--beam", "10000"], "a beam of width 10,000 for 1 sentence at once")


def test_a_line_that_cannot_be(trained, capsys, monkeypatch):
    monkeypatch.setattr("tinygrad_attn_models.runs.folder.machine_memory", lambda: 10**5)
    assert main(["translate", str(trained), "1 May 2020", "1" * 1000]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 2
    assert "error: text 2 has 1,000 symbols, and reading it would take about 240 KB of memory" in captured.err


TINY = {
    "seq2seq": ["model.cell=gru"],
    "seq2seq, two layers": ["model.name=seq2seq", "model.layers=2"],
    "bahdanau": [],
    "luong": ["model.score=concat"],
    "transformer": ["model.d_model=32", "model.d_ff=64", "model.encoder_layers=2", "model.decoder_layers=2"],
}


@pytest.mark.parametrize("name", TINY)
def test_training_keeps_about_what_is_estimated(name):
    settings = load_config(None, [f"model.name={name.partition(',')[0]}", *TINY[name]]).model
    model = MODELS[settings.name].from_settings(settings, 20, 20)
    examples = [([5] * 20, [6] * 19)] * 32
    batch = collate(examples, range(32))

    def step():
        for parameter in model.parameters():
            parameter.grad = None
        token_loss(model(Tensor(batch.source), Tensor(batch.source_mask), Tensor(batch.target_in)), batch).backward()

    step()  # compiles the kernels
    for parameter in model.parameters():
        parameter.grad = None
    tracemalloc.start()
    step()
    kept = tracemalloc.get_traced_memory()[1] / 4 - sum(parameter.numel() for parameter in model.parameters())
    tracemalloc.stop()
    sources, targets = Batches(examples, batch_size=32).largest()
    assert (sources, targets) == (640, 640)
    estimated = (sources + targets) * settings.activations() + 2 * targets * 20
    assert 0.5 * kept < estimated < 1.02 * kept


def test_batches_of_many_epochs_are_counted_at_once():
    lengths = np.random.default_rng(0).integers(1, 30, (9000, 2)).tolist()
    examples = [([5] * source, [5] * target) for source, target in lengths]
    for options in ({"batch_size": 64}, {"batch_size": 400, "batch_type": "tokens"}):
        for chosen in (examples[:500], examples):
            batches = Batches(chosen, **options)
            assert batches.count_all(3) == sum(batches.count(epoch) for epoch in range(3))
    assert Batches(examples, batch_size=64).count_all(10**20) == 10**20 * Batches(examples, batch_size=64).count(0)
