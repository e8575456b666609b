"""The experiment on copying: tiny systems through all of it, and what it measures."""

import pytest
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.data import train_tokenizer
from tinygrad_attn_models.lab import copy_length
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, Run
from tinygrad_attn_models.training.trainer import Trainer

TINY = {
    "data.train_size": 30, "data.valid_size": 4, "training.epochs": 1, "model.embedding_size": 4,
    "model.hidden_size": 6, "decoding.max_length": 8,
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """The experiment with two systems that learn nothing, on a few short strings."""
    monkeypatch.setattr(copy_length, "SYSTEMS", {"no attention": "copy-seq2seq", "dot": "copy-luong-dot"})
    monkeypatch.setattr(copy_length, "LENGTHS", range(6, 8))
    monkeypatch.setattr(copy_length.accuracy, "__defaults__", (range(6, 8), 5))
    monkeypatch.setattr(copy_length, "load_config", lambda path, seeds: load_config(path, seeds | TINY))


def test_table_picture_and_runs(tiny, tmp_path, capsys, monkeypatch):
    assert main(["lab", "copy_length", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    table = (tmp_path / "copy_length.txt").read_text(encoding="utf-8")
    assert table in output
    lines = table.splitlines()
    assert lines[0].split() == ["attention", "parameters", "time", "6", "7"]
    assert lines[1].startswith("no attention ") and lines[2].startswith("dot ") and len(lines) == 3
    assert (tmp_path / "copy_length.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "copy-luong-dot" / BEST).exists()

    monkeypatch.setattr(Trainer, "train", lambda self: pytest.fail("trained again"))
    assert main(["lab", "copy_length", "--out", str(tmp_path)]) == 0
    results = capsys.readouterr().out
    assert results and results in output  # the table and the files
    assert main(["lab", "copy_length", "--out", str(tmp_path), "-q"]) == 0
    assert capsys.readouterr() == (results, "")

    assert main(["lab", "copy_length", "--out", str(tmp_path), "--seed", "7"]) == 2
    assert "holds a run with other settings" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["lab", "copy_length", "--out", str(tmp_path), "--seed", "-1"])
    assert "--seed: expected a whole number of at least 0, got '-1'" in capsys.readouterr().err

    monkeypatch.setitem(TINY, "model.hidden_size", 5)
    assert main(["lab", "copy_length", "--out", str(tmp_path)]) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_quietly_only_the_results_are_printed(tiny, tmp_path, capsys):
    assert main(["lab", "copy_length", "--out", str(tmp_path), "-q"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("Strings copied without a mistake") and printed.err == ""
    assert (tmp_path / "copy_length.txt").read_text(encoding="utf-8") in printed.out


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


def test_the_experiments_are_listed_and_a_wrong_name_is_answered(capsys):
    assert main(["lab"]) == 0
    assert capsys.readouterr().out.startswith("copy_length  Copying with one context vector or with attention")
    assert main(["lab", "copy_lenght"]) == 2
    assert capsys.readouterr().err == "error: there is no experiment 'copy_lenght'; did you mean copy_length?\n"
    assert main(["lab", "runs"]) == 2
