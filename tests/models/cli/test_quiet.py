"""-q: results and errors, and nothing else."""

import contextlib
import shutil
import warnings

import pytest
from commands import TINY
from tinygrad_attn_models.cli import main as cli
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.cli.parser import find_commands
from tinygrad_attn_models.console.progress import NoProgress, make_progress
from tinygrad_attn_models.console.working import DELAYS, quietly


@pytest.fixture
def run(trained, tmp_path):
    return str(shutil.copytree(trained, tmp_path / "run"))


def test_translate_prints_translations_alone(run, capsys, monkeypatch):
    monkeypatch.setattr(DELAYS, "lines", 0.0)
    assert main(["translate", run, "1 May 2001", "☃"]) == 0
    loud = capsys.readouterr()
    assert "warning: unknown to the model" in loud.err
    assert main(["translate", run, "-q", "1 May 2001", "☃"]) == 0
    quiet = capsys.readouterr()
    assert (quiet.out, quiet.err) == (loud.out, "")


def test_evaluate_prints_its_tables_alone(run, capsys, monkeypatch):
    monkeypatch.setattr(DELAYS, "lines", 0.0)
    assert main(["evaluate", run]) == 0
    loud = capsys.readouterr()
    assert "translated" in loud.err
    assert main(["evaluate", run, "--quiet"]) == 0
    assert capsys.readouterr() == (loud.out, "")


def test_errors_are_told(run, tmp_path, capsys):
    assert main(["translate", run, "-q", "--file", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_no_notes(run, capsys, monkeypatch):
    def command(arguments):
        warnings.warn("look", stacklevel=1)
        return 0

    for options, expected in (([], "note: look\n"), (["-q"], "")):
        parsed = cli.make_parser().parse_args(["translate", run, *options])
        parsed.command = command
        monkeypatch.setattr(
            cli, "make_parser", lambda parsed=parsed: type("P", (), {"parse_args": lambda s, w: parsed})()
        )
        assert main([]) == 0
        assert capsys.readouterr().err == expected
        monkeypatch.undo()


def test_training_shows_nothing_before_its_last_words(capsys):
    with quietly():
        progress = make_progress()
    assert isinstance(progress, NoProgress)
    progress.start(0, 3)
    progress.advance(1, loss=1.0, accuracy=0.5, tokens=3)
    progress.print("epoch 1")
    progress.stop()
    assert capsys.readouterr() == ("", "")


def test_training_tells_its_results_alone(tmp_path, capsys):
    assert main(["train", "-q", "--out", str(tmp_path / "run"), "--set", *TINY]) == 0
    result, files = capsys.readouterr().out.splitlines()
    assert result.startswith("Exact match: ") and files.startswith(f"In {tmp_path / 'run'}: ")


def test_compare_prints_its_table_alone(run, tmp_path, capsys):
    other = str(shutil.copytree(run, tmp_path / "other"))
    for folder, tokenizer in ((run, "none"), (other, "13a")):
        assert main(["evaluate", folder, "-q", "--bleu-tokenizer", tokenizer]) == 0
    capsys.readouterr()
    compared = ["compare", run, other, "--out", str(tmp_path / "picture.png")]
    assert main(compared) == 0
    loud = capsys.readouterr().out
    assert "\nNote: BLEU is not computed alike" in loud
    assert main([*compared, "-q"]) == 0
    quiet = capsys.readouterr()
    assert quiet.out.splitlines() == [line for line in loud.splitlines() if not line.startswith("Note: ")]
    assert quiet.err == ""


def _parsed_quietly(name):
    """The arguments of a command with -q and as many words as it needs."""
    for words in range(4):
        with contextlib.suppress(SystemExit):
            return cli.make_parser().parse_args([name, *["word"] * words, "-q"])
    raise AssertionError(f"{name} takes no -q")


@pytest.mark.parametrize("name", find_commands())
def test_every_command_has_it(name):
    assert _parsed_quietly(name).quiet
