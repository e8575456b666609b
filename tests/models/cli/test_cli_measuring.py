"""The commands evaluate and compare, and translate's beam: what they print, and one line for every mistake."""

import json
import re
import shutil
import sys

import pytest
import tinygrad_attn_models.runs.folder
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.evaluation.report import EVALUATION


def refused(capsys, arguments, *words):
    """The command fails with one line on stderr that holds all the words."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.count("\n") == 1, errors
    for word in words:
        assert str(word) in errors, errors


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs" / "first")


# -- translate -------------------------------------------------------------------------------------------------------


def test_the_n_best_with_their_scores(run, capsys):
    assert main(["translate", str(run), "22 Nov 2026", "", "1/2/2020", "--n-best", "3", "--beam", "4"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["1"] * 3 + ["3"] * 3
    scores = [float(row[1]) for row in rows]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert len({row[2] for row in rows[:3]}) == 3
    assert main(["translate", str(run), "22 Nov 2026", "--beam", "4"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == rows[0][2]


def test_the_lines_of_many_batches_are_counted_on(run, capsys, monkeypatch):
    monkeypatch.setattr("tinygrad_attn_models.cli.translate._POOL", 1)
    monkeypatch.setattr("tinygrad_attn_models.cli.translate.SentenceProgress", Noted)
    assert main(["translate", str(run), *["1/2/2020"] * 70, "--n-best", "1"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [int(row[0]) for row in rows] == list(range(1, 71))
    assert (Noted.total, Noted.done) == (70, 70)


class Noted:
    """Progress that is remembered."""

    def __init__(self, total):
        Noted.total, Noted.done = total, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def advance(self, sentences):
        Noted.done += sentences


def test_a_picture_of_attention(run, tmp_path, capsys):
    picture = tmp_path / "attention.png"
    assert main(["translate", str(run), "", "22 Nov 2026", "--attention", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("\n") == 2


def test_mistakes_in_translating(run, tmp_path, capsys):
    refused(capsys, ["translate", run, "x", "--beam", "0"], "--beam", "at least 1")
    refused(capsys, ["translate", run, "x", "--n-best", "3", "--beam", "2"], "--n-best 3", "raise --beam 2")
    refused(capsys, ["translate", run, "x", "--length-penalty", "-1"], "decoding.length_penalty", "at least 0")
    refused(capsys, ["translate", run, "", "--attention", tmp_path / "a.png"], "nothing to draw", "no sentence")
    refused(capsys, ["translate", run, "1", "--attention", "/dev/null/a.png"], "/dev/null")


# -- evaluate --------------------------------------------------------------------------------------------------------


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
    refused(capsys, ["evaluate", run], "pip install 'tinygrad-attn[models]'")


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


# -- compare ---------------------------------------------------------------------------------------------------------


def test_compare_runs(run, tmp_path, capsys):
    assert main(["evaluate", str(run)]) == 0
    second = shutil.copytree(run, run.with_name("second"))
    assert main(["evaluate", str(second), "--beam", "3", "--bleu-tokenizer", "none"]) == 0
    (second / "log.csv").unlink()
    (second / "run.json").unlink()
    capsys.readouterr()
    picture = tmp_path / "both.png"
    assert main(["compare", str(run), str(second), "--out", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:5] == ["run", "model", "parameters", "BLEU", "chrF"]
    first_row, second_row = lines[1].split(), lines[2].split()
    assert first_row[:2] == ["first", "bahdanau"]
    assert "greedy" in first_row
    assert first_row[-2:] == ["0", "0:00"] or ":" in first_row[-1]
    assert "beam 3, length penalty 0.6" in lines[2]
    assert second_row[-1] == "–"  # nobody knows how long it took
    assert any(line.startswith("Note: BLEU is not computed alike") for line in lines)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_mistakes_in_comparing(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["compare"], "RUN")
    refused(capsys, ["compare", tmp_path / "none"], "there is no run folder")
    refused(capsys, ["compare", run], "is not evaluated yet", f"python -m models evaluate {run}")
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    refused(capsys, ["compare", run, run], "is named twice")
    refused(capsys, ["compare", run, "--split", "valid"], "is not evaluated on valid yet")
    (run / "log.csv").write_text("epoch,loss\n1,x\n", encoding="utf-8")
    refused(capsys, ["compare", run], "log.csv is damaged")
    assert not (tmp_path / "comparison.png").exists()
