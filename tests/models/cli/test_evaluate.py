"""The command evaluate: what it prints and keeps, and one line for every mistake."""

import json
import re
import shutil
import sys

import pytest
import tinygrad_attn_models.cli
import tinygrad_attn_models.training.trainer
from commands import refused
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.evaluation.report import EVALUATION


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs" / "first")


def test_evaluate_prints_tables_and_keeps_the_figures(run, capsys):
    assert main(["evaluate", str(run), "--beam", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "test set"
    assert [word in lines[0] for word in ("BLEU", "chrF", "exact match", "token accuracy*", "perplexity*")] == [
        True
    ] * 5
    assert lines[1].split()[:2] == ["all", "10"]
    assert lines[2].startswith("source of ")
    assert "* teacher-forced" in "\n".join(lines)
    assert "Decoding:        beam 2, length penalty 0.6" in lines
    assert any(line.startswith("BLEU: ") and "tok:char" in line for line in lines)
    assert (run / "bleu_by_length_test.png").exists()
    stored = json.loads((run / EVALUATION).read_text(encoding="utf-8"))
    assert stored["test"]["decoding"]["beam"] == 2


def test_the_files_of_a_run_are_those_that_are_documented(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    names = re.findall(r"^``(.+?)``", tinygrad_attn_models.runs.folder.__doc__, re.MULTILINE)
    patterns = [re.escape(name).replace("N", r"\d+").replace("_S", "_(test|valid)") for name in names]
    for path in run.iterdir():
        assert any(re.fullmatch(pattern, path.name) for pattern in patterns), path.name


def test_evaluate_in_json(run, capsys):
    options = ["--split", "valid", "--json", "--bleu-tokenizer", "none", "--bleu-lowercase"]
    assert main(["evaluate", str(run), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["scores"]["pairs"], found["decoding"]["beam"]) == ("valid", 8, 1)
    assert "case:lc" in found["bleu_signature"]
    assert "tok:none" in found["bleu_signature"]
    assert json.loads((run / EVALUATION).read_text(encoding="utf-8"))["valid"] == found


def test_mistakes_in_evaluating(run, tmp_path, capsys, monkeypatch):
    refused(capsys, ["evaluate", tmp_path / "none"], "there is no run folder", "none")
    refused(capsys, ["evaluate", run, "--split", "tset"], "--split", "'tset'", "'test', 'valid'")
    refused(capsys, ["evaluate", run, "--bleu-tokenizer", "14a"], "--bleu-tokenizer", "'14a'")
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    refused(capsys, ["evaluate", run], 'pip install "tinygrad-attn[models]"')


def test_data_that_has_gone(parallel_run, capsys):
    run, folder = parallel_run
    (folder / "test.en").write_text("", encoding="utf-8")
    (folder / "test.ko").write_text("", encoding="utf-8")
    refused(capsys, ["evaluate", run], "test.ko", "are empty")
    shutil.rmtree(folder)
    refused(capsys, ["evaluate", run], folder, "does not exist")


@pytest.fixture
def parallel_run(tmp_path, capsys):
    """A run on parallel text, and the folder of the text."""
    folder = tmp_path / "text"
    folder.mkdir()
    for split, count in (("train", 8), ("valid", 2), ("test", 2)):
        for language, words in (("ko", "가 나"), ("en", "a b")):
            (folder / f"{split}.{language}").write_text(f"{words}\n" * count, encoding="utf-8")
    run = tmp_path / "run"
    options = ["--data", str(folder), "--source", "ko", "--target", "en", "--out", str(run)]
    sizes = ["model.embedding_size=4", "model.hidden_size=4", "training.epochs=1", "decoding.max_length=4"]
    assert main(["train", *options, "--set", *sizes]) == 0
    capsys.readouterr()
    return run, folder
