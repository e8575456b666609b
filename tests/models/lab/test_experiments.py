"""Each experiment in a tiny form: it measures what it says, and judges it."""

import dataclasses
import math

import pytest
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.data import Copy
from tinygrad_attn_models.lab import translation
from tinygrad_attn_models.lab.form.experiment import Curve, Trial, find_experiments, load_experiment
from tinygrad_attn_models.lab.form.results import Results
from tinygrad_attn_models.lab.form.training import pairs_of
from tinygrad_attn_models.lab.form.verdict import judge

import tinygrad_attn as ta

TINY = {
    "broken_derivatives": {"steps": 2, "width": 8, "batch": 2, "tested": 4},
    "fixed_vector": {"longest": 3, "steps": 2, "pairs": 100, "tested": 4},
    "heads_pruned": {"width": 8, "steps": 2, "pairs": 40, "tested": 4},
    "masks": {"width": 8, "steps": 2, "pairs": 100, "tested": 4},
    "scores": {"lengths": (4, 8, 9), "hidden": 4, "steps": 2, "pairs": 100, "tested": 4},
    "teacher_forcing": {"length": 2, "hidden": 4, "steps": 2, "pairs": 100, "tested": 4},
    "translation": {"steps": (1, 2), "pairs": 40, "tested": 4},
    "gradient_distance": {"length": 4, "symbols": 3, "hidden": 8, "steps": 2, "batch": 2, "tested": 4},
    "norm_depth": {"steps": 2, "depths": (1, 2), "batch": 2, "tested": 4},
    "positions": {"steps": 2, "batch": 2, "tested": 4},
    "residuals": {"steps": 2, "depths": (1, 2), "batch": 2, "tested": 4},
    "scale": {"steps": 2, "widths": (4, 8), "batch": 2, "tested": 4},
    "softmax_saturation": {"margins": (0, 2, 8), "most_steps": 3},
}
"""The sizes of each."""


@pytest.mark.parametrize("name", TINY)
def test_tiny(name, tmp_path):
    experiment = load_experiment(name)
    sizes = dataclasses.replace(experiment.full, **TINY[name])
    results = Results(name, experiment, tmp_path, sizes)
    for case in experiment.cases:
        ta.manual_seed(0)
        trial = experiment.measure(Trial(case, 0, sizes, tmp_path))
        results.add(0, case, trial, 1.0)
        assert trial.keys() == experiment.quantities.keys()
        for key, quantity in experiment.quantities.items():
            assert isinstance(trial[key], dict) == isinstance(quantity, Curve)
    assert not any(math.isnan(each.found.mean) for each in judge(results))


def test_strings_of_other_lengths_are_in_the_symbols_of_training():
    pairs = pairs_of(Copy(train_size=50, valid_size=1, test_size=3, shortest=2, longest=4, longest_test=4))
    longer = Copy(train_size=40, valid_size=1, test_size=3, shortest=6, longest=6, longest_test=6)
    texts = [source for source, _ in longer.load().test]
    assert [pairs.tokenizers[0].decode(list(source)) for source, _ in pairs.test_of(longer)] == texts


def test_every_experiment_has_its_tiny_form():
    elsewhere = {"copy_length"}
    assert TINY.keys() | elsewhere == find_experiments().keys()


def test_translation_of_files(tmp_path, capsys):
    for split, count in (("train", 30), ("valid", 2), ("test", 3)):
        for language, text in (("ko", "하나 둘 셋"), ("en", "one two three <b>")):
            (tmp_path / f"{split}.{language}").write_text(f"{text}\n" * count, encoding="utf-8")
    sizes = {**TINY["translation"], "data": str(tmp_path), "source": "ko", "target": "en"}
    found = translation.measure(Trial("luong", 0, translation.Sizes(**sizes), tmp_path))
    assert found["bleu"].keys() == {1, 2} and 0.0 <= found["bleu"][2] <= 100.0
    assert main(["lab", "scale", "--data", str(tmp_path), "--source", "ko", "--target", "en"]) == 2
    assert capsys.readouterr().err == "error: the experiment scale reads no data; leave out --data\n"
    assert main(["lab", "translation", "--data", str(tmp_path), "--source", "ko"]) == 2
    assert "parallel text needs --target, too" in capsys.readouterr().err
    nowhere = ["--data", str(tmp_path / "none"), "--source", "ko", "--target", "en", "--out", str(tmp_path / "out")]
    assert main(["lab", "translation", *nowhere]) == 2
    assert "does not exist" in capsys.readouterr().err
