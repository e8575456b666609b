"""The experiment on copying: tiny systems through all of it, and what it measures."""

import dataclasses

import pytest
from tinygrad_attn_models.data import train_tokenizer
from tinygrad_attn_models.lab import copy_length
from tinygrad_attn_models.lab.form import running
from tinygrad_attn_models.lab.form.running import carry_out
from tinygrad_attn_models.lab.form.verdict import judge
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, Run
from tinygrad_attn_models.training.trainer import Trainer

TINY = {
    "data.valid_size": 4, "data.test_size": 4, "model.embedding_size": 4, "model.hidden_size": 6,
    "decoding.max_length": 8,
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """The experiment with two systems that learn nothing, on a few short strings."""
    monkeypatch.setattr(copy_length, "load_config", lambda path, seeds: load_config(path, seeds | TINY))
    experiment = copy_length.EXPERIMENT
    cases = {case: experiment.cases[case] for case in ("none", "dot")}
    sizes = copy_length.Sizes(train_size=30, epochs=1, lengths=(6, 7), per_length=5)
    monkeypatch.setattr(running, "draw", lambda *figure: "<svg/>")  # to draw takes long
    return dataclasses.replace(experiment, cases=cases, full=sizes, expected=experiment.expected[:0])


def test_systems_are_trained_once_and_measured_by_length(tiny, tmp_path, monkeypatch, capsys):
    results = carry_out("copy_length", tiny, tmp_path, [0, 7], quick=False)
    assert (tmp_path / "copy_length" / "copy-luong-dot-seed7" / BEST).exists()
    assert results.measured[7]["dot"]["copied"] == {6: 0.0, 7: 0.0}
    assert results.measured[0]["none"]["parameters"] < results.measured[0]["dot"]["parameters"]
    monkeypatch.setattr(Trainer, "train", lambda self: pytest.fail("trained again"))
    (tmp_path / "copy_length" / "results.json").unlink()  # the runs are still there
    again = carry_out("copy_length", tiny, tmp_path, [0, 7], quick=False)
    assert again.measured == results.measured


def test_the_judge(tmp_path):
    from tinygrad_attn_models.lab.form.results import Results

    experiment = copy_length.EXPERIMENT
    lengths = (6, 15, 17)

    def copied(short, long, longer):
        return {"parameters": 1.0, "seconds": 1.0, "copied": dict(zip(lengths, (short, long, longer), strict=True))}

    results = Results("copy_length", experiment, tmp_path, experiment.full)
    for seed, without in enumerate(((99.0, 70.0, 0.0), (99.0, 98.0, 0.0))):
        for case in experiment.cases:
            numbers = {"none": without, "additive": (100.0, 97.0, 90.0)}.get(case, (100.0, 99.0, 90.0))
            results.add(seed, case, copied(*numbers), 1.0)
    found = judge(results)
    assert [each.found.values for each in found] == [(29.0, 1.0), (97.0, 97.0), (90.0, 90.0)]
    assert [each.verdict for each in found] == ["mixed", "failed", "held"]


def test_accuracy_counts_whole_strings(tmp_path, monkeypatch):
    tokenizer = train_tokenizer("characters", ["abcdefghijklmnopqrstuvwxyz"])
    run = Run(tmp_path, load_config(None, {"data.kind": "copy"}), tokenizer, tokenizer)

    def copy_but_for_those_with_an_a(model, sentences, settings):
        a = tokenizer.encode("a")[0]
        return [sentence[:-1] if a in sentence else sentence for sentence in sentences]

    monkeypatch.setattr(copy_length, "translate", copy_but_for_those_with_an_a)
    shares = copy_length.accuracy(run, None, [2, 40], 300)
    assert shares[2] == pytest.approx((25 / 26) ** 2, abs=0.05)
    assert shares[40] == pytest.approx((25 / 26) ** 40, abs=0.1)
