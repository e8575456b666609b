"""The command train: what it makes and shows, and one line for every mistake."""

import os
import sys
import threading

import pytest
import tinygrad_attn_models.cli
import tinygrad_attn_models.training.trainer
from commands import TINY, refused
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.program import command_line, quoted
from tinygrad_attn_models.runs.folder import BEST


@pytest.fixture
def parallel(tmp_path):
    """A folder of parallel text."""
    folder = tmp_path / "parallel"
    folder.mkdir()
    for split, count in (("train", 40), ("valid", 4), ("test", 4)):
        for language, word in (("ko", "가나"), ("en", "ab")):
            lines = [" ".join(word[(i >> bit) & 1] for bit in range(1 + i % 4)) for i in range(count)]
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("option", ["--out", "--resume"])
def test_a_folder_without_a_name(capsys, option):
    refused(capsys, ["train", option, ""], option, "variable")


def test_train_and_translate(drawn, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--out", str(run), "--set", *TINY]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert lines[0] == "dates, human to iso: train 65, valid 8, test 8"
    assert any(line.startswith("step 2/2 ") and "tokens/s" in line and "left" in line for line in lines)
    assert sum(" → " in line for line in lines) == 4
    assert any(line.startswith("Exact match: ") and "% of 8 unseen test pairs" in line for line in lines)
    assert f"    python -m models translate {run}" in output
    log = (run / "train.log").read_text(encoding="utf-8")
    assert "Exact match: " in log and sum(" → " in line for line in log.splitlines()) == 4
    steps = [line for line in lines if line.startswith("step ")]
    assert [line for line in log.splitlines()[1:] if line.strip()] == [line for line in lines if line not in steps]
    assert main(["train", "--resume", str(run)]) == 0
    again = (run / "train.log").read_text(encoding="utf-8")
    assert again.startswith(log) and len(again) > len(log)
    assert main(["translate", str(run), "22 Nov 2026"]) == 0


def test_a_model_that_is_chosen_alone_says_which_defaults_it_takes(tmp_path, capsys):
    tiny = [setting for setting in TINY if not setting.startswith("model.")]
    sizes = ["model.d_model=8", "model.heads=2", "model.encoder_layers=1"]
    chosen = ["--set", *tiny, "training.max_steps=1", "model.name=transformer", *sizes, "model.d_ff=8"]
    assert main(["train", "--out", str(tmp_path / "first"), *chosen, "model.decoder_layers=1"]) == 0
    (note,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: "))
    assert "model.name=transformer takes that model's defaults: model.dropout=0.0 model.positions=sinusoidal" in note
    assert "model.heads" not in note and note.endswith("python -m models settings transformer")
    assert main(["train", "--out", str(tmp_path / "other"), "--set", *TINY, "training.max_steps=1"]) == 0
    assert "Note: " not in capsys.readouterr().out


def test_symbols_that_are_mostly_unknown_are_noted(parallel, tmp_path, capsys):
    first = ["train", "--data", str(parallel), "--source", "ko", "--target", "en", "--out", str(tmp_path / "first")]
    assert main([*first, "--set", "training.epochs=1", "data.tokenizer=words"]) == 0
    assert "unknown" not in capsys.readouterr().err
    reversed_languages = ["--data", str(parallel), "--source", "en", "--target", "ko", "--out", str(tmp_path / "other")]
    assert main(["train", "--from", str(tmp_path / "first"), *reversed_languages]) == 0
    error = capsys.readouterr().err
    assert "note: 100 % of the source's and 100 % of the target's symbols are unknown to its vocabulary" in error
    assert "data.tokenizer=bpe" in error


def test_train_on_parallel_text(parallel, tmp_path, capsys):
    with (parallel / "train.ko").open("a", encoding="utf-8") as file:
        file.write("\n")
    with (parallel / "train.en").open("a", encoding="utf-8") as file:
        file.write("b a\n")
    run = tmp_path / "run"
    options = ["--data", str(parallel), "--source", "ko", "--target", "en", "--quick"]
    assert main(["train", *options, "--out", str(run), "--set", "model.hidden_size=8"]) == 0
    output = capsys.readouterr().out
    assert "parallel, ko to en: train 40 (1 skipped: a side is empty)" in output
    assert (run / BEST).exists()
    log = (run / "train.log").read_text(encoding="utf-8")
    assert f"{command_line(*sys.argv[1:])}\n" in log.splitlines(keepends=True)[0]
    assert "Settings chosen from the data" in log and "40 (1 skipped: a side is empty)" in log
    assert main(["translate", str(run), "가 나"]) == 0


def test_a_config_of_the_package_takes_its_data_from_the_command_line(parallel, tmp_path, capsys):
    settings = ["training.epochs=1", "model.hidden_size=8", "model.embedding_size=4", "data.vocabulary_size=12"]
    options = ["--config", "tatoeba-bahdanau", "--data", str(parallel), "--out", str(tmp_path / "run")]
    assert main(["train", *options, "--set", *settings]) == 0
    output = capsys.readouterr().out
    assert "parallel, ko to en: train 40" in output
    assert "bahdanau" in output


def test_a_new_folder_is_made_in_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for expected in ("dates-bahdanau", "dates-bahdanau-2"):
        assert main(["train", "--set", *TINY]) == 0
        assert (tmp_path / "runs" / expected / BEST).exists()
    assert "runs/dates-bahdanau-2" in capsys.readouterr().out


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    step = tinygrad_attn_models.training.trainer.Trainer.step

    def stop_after_two(self, batch):
        self.interruption.requested = self.position.step == 1
        return step(self, batch)

    monkeypatch.setattr(tinygrad_attn_models.training.trainer.Trainer, "step", stop_after_two)
    command = ["train", "--out", str(run), "--set", *TINY, "training.batch_size=16"]
    assert main(command) == 130
    output = capsys.readouterr().out
    assert "Stopped in epoch 1, at step 2 of 5, and saved" in output
    assert f"python -m models train --resume {run}" in output
    refused(capsys, command, "is not empty", "continue it with: ", f"train --resume {quoted(run)}; or name another")
    refused(capsys, ["translate", run, "x"], "no epoch is finished yet", f"--resume {run}")
    monkeypatch.undo()
    assert main(["train", "--resume", str(run)]) == 0
    assert "continuing at step 2" in capsys.readouterr().out
    assert (run / BEST).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sett", "a=b"], ["--sett", "did you mean --set?"]),
        (["--set", "training.epoch=3"], ["training.epoch", "did you mean training.epochs?"]),
        (["--set", "training.epochs=many"], ["training.epochs", "expected int"]),
        (["--set", "epochs"], ["expected section.key=value"]),
        (["--config", "none.toml"], ["none.toml", "No such file"]),
        (["--data", "nowhere", "--source", "ko", "--target", "en"], ["nowhere", "does not exist"]),
        (["--config", "date"], ["there is no config 'date'", "did you mean dates?", "copy-bahdanau"]),
        (["--config", "tatoeba-bahdanau"], ["needs data.directory too", "give the folder with --data"]),
        (["--config", "dates", "--data", "nowhere"], ["there is no file or folder nowhere"]),
        (["--data", "nowhere"], ["there is no file or folder nowhere"]),
        (["--source", "ko"], ["give --data too"]),
        (["--resume", "nowhere"], ["no run folder nowhere"]),
        (["--resume", "nowhere", "--out", "x", "--quick"], ["leave out --out and --quick"]),
        (["--out", f"{__file__}/run", "--set", *TINY], [f"{__file__}/run", "cannot be made"]),
    ],
)
def test_mistakes_in_training(capsys, arguments, words):
    refused(capsys, ["train", *arguments], *words)


def test_packages_that_are_missing_are_named_before_training(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("matplotlib", "rich") else object())
    refused(capsys, ["train"], 'train needs matplotlib, rich: pip install "tinygrad-attn[models]"')


def break_utf8(folder):
    (folder / "train.ko").write_bytes("가\n".encode() + b"\xff\n")
    return ["train.ko, line 2", "0xff is not UTF-8"]


def make_unequal(folder):
    with (folder / "valid.en").open("a", encoding="utf-8") as file:
        file.write("a b\n")
    return ["valid.ko has 4 lines", "valid.en has 5 lines"]


def remove_a_file(folder):
    (folder / "test.en").unlink()
    return ["test.en does not exist", "the folder has test.ko"]


def remove_all_files(folder):
    for path in folder.iterdir():
        path.unlink()
    return ["train.ko does not exist", "the folder is empty"]


def empty_a_column(folder):
    (folder / "train.en").write_text("\n" * 40, encoding="utf-8")
    return ["train.en have no pair with text on both sides in 40 lines"]


@pytest.mark.parametrize("damage", [break_utf8, make_unequal, remove_a_file, remove_all_files, empty_a_column])
def test_text_that_cannot_be_used(capsys, parallel, damage):
    words = damage(parallel)
    refused(capsys, ["train", "--data", parallel, "--source", "ko", "--target", "en"], *words)


def test_pairs_too_long_for_training(capsys, parallel, tmp_path):
    arguments = ["train", "--data", parallel, "--source", "ko", "--target", "en", "--out", tmp_path / "run"]
    refused(capsys, [*arguments, "--set", "data.max_length=0"], "data.max_length", "at least 1")
    (parallel / "train.en").write_text("abc\n" * 40, encoding="utf-8")
    refused(capsys, [*arguments, "--set", "data.max_length=2"], "all 40 are longer than max_length=2")
    assert not (tmp_path / "run").exists()  # nothing is left behind that a second try would stumble over


def test_a_quick_run_of_a_config_with_a_long_warmup(tmp_path, capsys, monkeypatch):
    sizes = ["model.d_model=8", "model.heads=2", "model.d_ff=8", "data.valid_size=4", "data.test_size=4"]
    monkeypatch.setattr(tinygrad_attn_models.training.trainer.Trainer, "train", lambda self: False)
    command = ["train", "--config", "copy-transformer", "--quick", "--out", str(tmp_path / "run")]
    assert main([*command, "--set", *sizes]) == 130
    assert "3 epochs, 96 steps" in capsys.readouterr().out
    # A warm-up that is asked for is not shortened.
    refused(capsys, [*command, "--set", *sizes, "training.warmup=96"], "training.warmup", "number of steps, 96, got 96")


def test_data_that_the_config_does_not_read(parallel, tmp_path, capsys):
    text = tmp_path / "poem.txt"
    text.write_text("a line\n" * 99, encoding="utf-8")
    words = ["train", "--config", "gpt", "--data", str(parallel), "--source", "ko", "--target", "en"]
    refused(capsys, words, "gpt is a language model, which reads one text, and --data")
    refused(capsys, words[:5], "gpt is a language model")
    refused(capsys, ["train", "--config", "dates", "--data", text], "dates is a translator, which reads parallel text")
    refused(capsys, [*words[:3], "--data", text, "--set", "model.name=luong"], "gpt is a translator")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="of POSIX")
def test_a_text_from_a_pipe(tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("some words in a line\n" * 40, encoding="utf-8"))
    writer.start()
    sizes = ["model.layers=1", "model.d_model=8", "model.heads=2", "model.context=8", "training.batch_size=2"]
    short = ["training.epochs=1", "data.epoch_windows=4", "training.warmup=0"]
    run = tmp_path / "run"
    assert main(["train", "--data", str(pipe), "--out", str(run), "--set", *sizes, *short]) == 0
    writer.join()
    assert "pipe: train 756, valid 84 characters" in capsys.readouterr().out and (run / BEST).exists()


def test_a_folder_needs_its_languages(parallel, capsys):
    refused(capsys, ["train", "--data", parallel], "--data needs --source and --target", "or name a")
