"""The command compare: its table and picture, and one line for every mistake."""

import shutil

import pytest
from commands import refused
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import UserError


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs" / "first")


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
    (run / "log.csv").write_text("epoch,valid_loss\n1,0.125\n", encoding="utf-8")  # not what the checkpoint has
    refused(capsys, ["compare", run], "log.csv is damaged: epoch 1 is another in last.safetensors")
    assert not (tmp_path / "comparison.png").exists()


@pytest.mark.parametrize("words", [["evaluate"], ["compare"], ["compare", "--split", "valid"]])
def test_what_there_is_of_a_language_model_instead(storyteller, capsys, words):
    refused(
        capsys, [words[0], storyteller, *words[1:]], f"{storyteller} is a language model (gpt)",
        "is in log.csv there", "run.json", f"this measures any text: python -m models score {storyteller} TEXT",
    )  # fmt: skip
    with pytest.raises(UserError, match="no BLEU to measure or compare"):
        load(storyteller).evaluate()


def test_a_folder_without_weights_is_not_evaluated_yet(tmp_path, capsys):
    refused(capsys, ["compare", tmp_path], "is not evaluated yet")
