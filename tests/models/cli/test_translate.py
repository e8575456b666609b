"""The command translate: texts, files and standard input, beams, and one line for every mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from children import Child
from commands import refused, type_in
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.working import DELAYS
from tinygrad_attn_models.runs.folder import BEST, LAST


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs" / "first")


def test_arguments_file_and_standard_input_give_the_same(trained, tmp_path, capsys, monkeypatch):
    texts = ["22 Nov 2026", "", "2026년 11월 22일"]
    assert main(["translate", str(trained), *texts]) == 0
    expected = capsys.readouterr().out
    assert expected.count("\n") == 3
    assert expected.splitlines()[1] == ""
    content = "\r\n".join(texts).encode("utf-8")
    (tmp_path / "texts").write_bytes(content)
    assert main(["translate", str(trained), "--file", str(tmp_path / "texts")]) == 0
    assert capsys.readouterr().out == expected
    type_in(monkeypatch, b"\xef\xbb\xbf" + content)
    assert main(["translate", str(trained)]) == 0
    assert capsys.readouterr().out == expected


def test_more_lines_than_a_batch_holds_keep_their_order(trained, capsys, monkeypatch):
    lines = [f"{day} Nov 2026" for day in range(1, 29)] * 5
    type_in(monkeypatch, "\n".join(lines).encode())
    assert main(["translate", str(trained)]) == 0
    translations = capsys.readouterr().out.splitlines()
    assert translations == translations[:28] * 5


def test_a_line_through_a_pipe_is_answered_while_the_next_is_awaited(trained):
    command = [sys.executable, "-m", "models", "translate", str(trained)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(3):
            process.stdin.write(b"22 Nov 2026\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\n")  # would wait for ever
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait() == 0


@pytest.mark.skipif(os.name == "nt", reason="there, signals to a process group end it")
@pytest.mark.slow
def test_ctrl_c_while_a_line_is_awaited(trained):
    command = [sys.executable, "-m", "models", "translate", "-q", str(trained)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"22 Nov 2026\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130
        assert process.stderr.read() == b"interrupted\n"


def test_the_size_of_batches(trained, capsys, monkeypatch):
    lines = [f"{day} Nov 2026" for day in range(1, 29)]
    assert main(["translate", str(trained), *lines]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr("tinygrad_attn_models.console.sentences.SentenceProgress", Noted)
    assert main(["translate", str(trained), "--batch-size", "5", *lines]) == 0
    assert capsys.readouterr().out == expected
    assert (Noted.total, Noted.done, Noted.largest) == (28, 28, 5)
    assert main(["evaluate", str(trained), "--batch-size", "3"]) == 0


@pytest.fixture(scope="module")
def short_sighted(tmp_path_factory):
    """A run whose model reads 12 symbols at most."""
    run = tmp_path_factory.mktemp("runs") / "learned"
    settings = ["model.name=transformer", "model.positions=learned", "model.max_length=40", "model.d_model=8",
                "model.heads=2", "model.d_ff=8", "model.encoder_layers=1", "model.decoder_layers=1",
                "data.max_length=30", "decoding.max_length=12", "data.kind=copy", "data.train_size=20",
                "data.valid_size=4", "data.test_size=4", "training.epochs=1"]  # fmt: skip
    assert main(["train", "--out", str(run), "--set", *settings]) == 0
    return run


def test_lines_that_are_too_long_are_named_and_the_others_translated(short_sighted, tmp_path, capsys, monkeypatch):
    lines = ["abc", "x" * 41, "cab", "y" * 1041, ""]
    assert main(["translate", str(short_sighted), "abc", "cab"]) == 0
    first, third = capsys.readouterr().out.splitlines()
    file = tmp_path / "texts"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["translate", str(short_sighted), "--file", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [first, "", third, "", ""]
    assert captured.err.splitlines() == [
        f"error: {file}, line 2 has 41 symbols, but this model reads 40 at most; shorten it, or train one with "
        "--set model.max_length=41",
        f"error: {file}, line 4 has 1,041 symbols, but this model reads 40 at most; shorten it, or train one with "
        "--set model.max_length=1041",
    ]
    type_in(monkeypatch, file.read_bytes())
    assert main(["translate", str(short_sighted), "--n-best", "1", "--batch-size", "1"]) == 2
    captured = capsys.readouterr()
    assert [row.split("\t")[0] for row in captured.out.splitlines()] == ["1", "3"]
    assert "error: standard input, line 4 has 1,041 symbols" in captured.err
    assert main(["translate", str(short_sighted), *lines[:3]]) == 2
    assert "error: text 2 has 41 symbols" in capsys.readouterr().err


def test_the_progress_of_standard_input_goes_to_stderr(trained, capsys, monkeypatch):
    lines = [f"{day} Nov 2026" for day in range(1, 29)] * 5
    assert main(["translate", str(trained), *lines]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(DELAYS, "lines", 0.0)
    type_in(monkeypatch, "\n".join(lines).encode())
    assert main(["translate", str(trained)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "translated 64\ntranslated 128\ntranslated 140\n"
    assert captured.out == expected


def test_an_unknown_character_is_warned_of(trained, capsys):
    assert main(["translate", str(trained), "22 Nov 2026", "22 Nov 2026 ☃ ü ☃"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: unknown to the model in '22 Nov 2026 ☃ ü ☃': ☃ ü\n"
    assert len(captured.out.splitlines()) == 2


def test_mistakes_in_translating(trained, tmp_path, capsys, monkeypatch):
    refused(capsys, ["translate"], "RUN")
    refused(capsys, ["translate", tmp_path / "none", "x"], "there is no run folder", tmp_path / "none")
    refused(capsys, ["translate", trained, "x", "--file", "y"], "not both")
    refused(capsys, ["translate", trained, "--file", tmp_path / "none"], tmp_path / "none", "No such file")
    (tmp_path / "latin1").write_bytes("1 août 2026\n".encode("latin-1"))
    refused(capsys, ["translate", trained, "--file", tmp_path / "latin1"], "latin1, line 1", "0xfb is not UTF-8")
    type_in(monkeypatch, b"fine\n\xff\n")
    refused(capsys, ["translate", trained], "standard input, line 2", "0xff is not UTF-8")


@pytest.mark.parametrize("checkpoint", [BEST, LAST])
def test_a_damaged_checkpoint(trained, tmp_path, capsys, checkpoint):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / checkpoint).write_bytes((run / checkpoint).read_bytes()[:1000])
    command = ["translate", run, "x"] if checkpoint == BEST else ["train", "--resume", run]
    refused(capsys, command, run / checkpoint, "is damaged")


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
    monkeypatch.setattr("tinygrad_attn_models.console.sentences.SentenceProgress", Noted)
    assert main(["translate", str(run), *["1/2/2020"] * 70, "--n-best", "1"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [int(row[0]) for row in rows] == list(range(1, 71))
    assert (Noted.total, Noted.done) == (70, 70)


class Noted:
    """Progress that is remembered."""

    def __init__(self, total):
        Noted.total, Noted.done, Noted.largest = total, 0, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def advance(self, sentences):
        Noted.done += sentences
        Noted.largest = max(Noted.largest, sentences)


def test_a_picture_of_attention(run, tmp_path, capsys):
    picture = tmp_path / "attention.png"
    assert main(["translate", str(run), "", "22 Nov 2026", "--attention", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("\n") == 2


def test_a_picture_in_the_format_that_its_ending_says(run, tmp_path, capsys):
    for ending, start in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        picture = tmp_path / f"a{ending}"
        assert main(["translate", str(run), "22 Nov 2026", "--attention", str(picture)]) == 0
        assert picture.read_bytes().startswith(start)
    capsys.readouterr()
    refused(capsys, ["translate", run, "x", "--attention", "a.bmp"], "ends in .png, .svg, .pdf, .jpg, got 'a.bmp'")
    refused(capsys, ["compare", run, "--out", "a.txt"], "--out", "ends in .png")


def test_mistakes_in_decoding(run, tmp_path, capsys):
    refused(capsys, ["translate", run, "x", "--beam", "0"], "--beam", "at least 1")
    refused(capsys, ["translate", run, "x", "--n-best", "3", "--beam", "2"], "--n-best 3", "raise --beam 2")
    refused(capsys, ["translate", run, "x", "--length-penalty", "-1"], "decoding.length_penalty", "at least 0")
    refused(capsys, ["translate", run, "", "--attention", tmp_path / "a.png"], "nothing to draw", "no sentence")
    refused(capsys, ["translate", run, "1", "--attention", f"{__file__}/a.png"], __file__)


def test_constraints_and_what_they_refuse(run, capsys):
    text = "22 Nov 2026"
    assert main(["translate", str(run), text, "--min-length", "12", "--unknown", "forbid", "--batch-size", "1"]) == 0
    assert len(capsys.readouterr().out.rstrip("\n")) == 12
    assert main(["translate", str(run), text, "--no-repeat-ngram-size", "1", "--beam", "3"]) == 0
    out = capsys.readouterr().out.rstrip("\n")
    assert len(set(out)) == len(out)
    refused(capsys, ["translate", run, text, "--min-length", "13"], "decoding.min_length", "max_length 12")
    refused(capsys, ["translate", run, text, "--min-length", "-1"], "--min-length", "at least 0")
    refused(capsys, ["translate", run, text, "--int8"], "decoding.int8 is for models", "Transformer")
    refused(capsys, ["translate", run, text, "--unknown", "drop"], "--unknown", "keep", "forbid")


def test_alignments_are_json_lines(run, tmp_path, capsys):
    texts, path = ["22 Nov 2026", "", "1/2/2020"], tmp_path / "a.jsonl"
    assert main(["translate", str(run), *texts, "--alignments", str(path)]) == 0
    printed = capsys.readouterr().out.split("\n")[:3]
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["line"] for record in records] == [1, 3]
    for record in records:
        assert record["translation"] == printed[record["line"] - 1] == "".join(record["target"][:-1])
        assert "".join(record["source"]) == texts[record["line"] - 1]
        (weights,) = (np.array(heads) for heads in record["attention"].values())
        assert weights.shape == (1, len(record["target"]), len(record["source"]))
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-4)
        assert max(len(str(number)) for number in weights.ravel()) <= len("0.123456")
        assert record["alignment"] == [[int(row.argmax()), t] for t, row in enumerate(weights[0][:-1])]
    refused(capsys, ["translate", run, "x", "--n-best", "2", "--alignments", path], "--alignments", "--n-best")
