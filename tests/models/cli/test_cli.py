"""The command line: what it does, and for every mistake one line on stderr, exit code 2 and no traceback."""

import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tinygrad_attn_models.cli
import tinygrad_attn_models.training.trainer
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.cli.parser import find_commands
from tinygrad_attn_models.data import TASKS
from tinygrad_attn_models.runs.config import CHOSEN_BY, SECTIONS, section_classes
from tinygrad_attn_models.runs.folder import BEST, LAST

import tinygrad_attn
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.samples import floats

TINY = ["data.train_size=65", "data.valid_size=8", "data.test_size=8", "training.epochs=1", "model.hidden_size=8",
        "model.embedding_size=4", "decoding.max_length=12"]  # fmt: skip


def refused(capsys, arguments, *words):
    """The command fails with one line on stderr that holds all the words."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1, captured.err
    for word in words:
        assert str(word) in captured.err, captured.err
    return captured


def type_in(monkeypatch, content):
    """Put bytes on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


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


# -- the streams -----------------------------------------------------------------------------------------------------


def test_a_terminal_that_cannot_show_hangul(trained):
    ended = subprocess.run(
        [sys.executable, "-m", "models", "translate", str(trained), "2026년 11월 22일"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True,
    )  # fmt: skip
    assert b"Traceback" not in ended.stderr
    ended = subprocess.run(
        [sys.executable, "-c", "from tinygrad_attn_models.cli.main import main; main(['gradcheck', '\u2192'])"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"}, check=False,
    )  # fmt: skip
    assert b"\\u2192" in ended.stderr and b"Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_stream_that_is_closed(trained, closed):
    command = f"'{sys.executable}' -m models translate '{trained}' {'1' if closed == '>&-' else ''} {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert b"Traceback" not in ended.stderr


# -- train -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--out", "--resume"])
def test_a_folder_without_a_name(capsys, option):
    refused(capsys, ["train", option, ""], option, "variable")


def test_train_and_translate(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--out", str(run), "--set", *TINY]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert lines[0] == "dates, human to iso: train 65, valid 8, test 8"
    assert any(line.startswith("step 2/2 ") and "tokens/s" in line and "left" in line for line in lines)
    assert sum(" → " in line for line in lines) == 4
    assert any(line.startswith("Exact match: ") and "% of 8 unseen test pairs" in line for line in lines)
    assert f"    python -m models translate {run}" in output
    assert main(["translate", str(run), "22 Nov 2026"]) == 0


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
    refused(capsys, command, "is not empty", f"--resume {run}")
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
        (["--config", "dates", "--data", "nowhere"], ["needs data.source and data.target too"]),
        (["--data", "nowhere"], ["--data needs --source and --target"]),
        (["--source", "ko"], ["give --data too"]),
        (["--resume", "nowhere"], ["no run folder nowhere"]),
        (["--resume", "nowhere", "--out", "x", "--quick"], ["leave out --out and --quick"]),
        (["--out", "/dev/null/run", "--set", *TINY], ["/dev/null/run", "cannot be made"]),
    ],
)
def test_mistakes_in_training(capsys, arguments, words):
    refused(capsys, ["train", *arguments], *words)


def test_packages_that_are_missing_are_named_before_training(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("matplotlib", "rich") else object())
    refused(capsys, ["train"], "train needs matplotlib, rich: pip install 'tinygrad-attn[models]'")


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


# -- translate -------------------------------------------------------------------------------------------------------


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


def test_the_progress_of_standard_input_goes_to_stderr(trained, capsys, monkeypatch):
    lines = [f"{day} Nov 2026" for day in range(1, 29)] * 5
    assert main(["translate", str(trained), *lines]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr("tinygrad_attn_models.console.sentences.INTERVAL", 0.0)
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


# -- gradcheck -------------------------------------------------------------------------------------------------------


def test_gradcheck_prints_a_table(capsys):
    assert main(["gradcheck", "tanh", "mul", "--samples", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "gradient", "double", "kernel", "formula"]
    assert [line.split()[0] for line in lines[1:3]] == ["tanh", "mul"]
    assert lines[2].endswith(r"z = x \odot y")
    assert all(float(number) < 1e-5 for number in lines[1].split()[1:4])
    assert "2 of 2 ops pass" in lines[4]


def cube(derivative):
    """An op made directly, not by @op, which would register it for the whole process."""
    made = Op(lambda x: x * x * x, "z = x^3", samples=floats(), errors=(), outputs=1, saves=(), floating=False)
    made.name = "cube"
    made.vjp("x", r"3 x^2 \odot \bar z", derivative)
    return made


def test_gradcheck_leaves_out_what_an_op_does_not_have(capsys, monkeypatch):
    ops = {"cube": cube(lambda g, x: 3.0 * x * x * g), **registered_ops()}
    monkeypatch.setattr(tinygrad_attn, "registered_ops", lambda: ops)
    assert main(["gradcheck", "argmax", "cube", "tanh", "--samples", "2"]) == 0
    rows = [line.split()[1:4] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert rows[0] == ["–", "–", "–"]  # no derivative
    assert float(rows[1][0]) < 1e-5
    assert rows[1][2] == "–"  # no kernel
    assert float(rows[2][2]) < 1e-9


def test_gradcheck_fails_for_a_wrong_derivative(capsys, monkeypatch):
    ops = {"cube": cube(lambda g, x: 2.0 * x * g), **registered_ops()}
    monkeypatch.setattr(tinygrad_attn, "registered_ops", lambda: ops)
    assert main(["gradcheck", "cube", "tanh"]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out.splitlines()[1]
    assert "1 of 2 ops pass" in captured.out
    assert captured.err.startswith("FAILED cube")


def test_an_unknown_op(capsys):
    refused(capsys, ["gradcheck", "sotfmax"], "'sotfmax'", "did you mean softmax")
    refused(capsys, ["gradcheck", "tanh", "--samples", "0"], "--samples", "at least 1")


# -- all commands ----------------------------------------------------------------------------------------------------


COMMANDS = find_commands()


def test_the_commands_are_the_files_of_the_folder():
    folder = Path(tinygrad_attn_models.cli.__file__).parent
    assert set(COMMANDS) == {path.stem for path in folder.glob("*.py")} - {"__init__", "main", "options", "parser"}
    for command in COMMANDS.values():
        assert command.__doc__.strip().endswith(".") and isinstance(command.NEEDS, tuple)


def test_an_unknown_command_or_option(capsys):
    refused(capsys, ["trian"], "'trian'", "did you mean train?")
    refused(capsys, ["gradcheck", "--sample", "3", "--sed", "0"], "--sed", "did you mean --seed?")
    refused(capsys, ["evaluate", "x", "--split", "tset"], "'test', 'valid'", "did you mean test?")
    refused(capsys, [], "COMMAND")


def test_a_command_whose_packages_are_missing_is_not_listed_and_says_how_to_get_them(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    extras = {package for command in COMMANDS.values() for package in command.NEEDS}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in extras else find_spec(name))
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    listed = {name for name in COMMANDS if f"\n    {name}" in output}
    assert listed == {name for name, command in COMMANDS.items() if not command.NEEDS}
    assert listed == {"bench", "gradcheck", "profile", "settings"}
    assert "pip install 'tinygrad-attn[models]' brings compare, evaluate," in output
    for arguments in (["translate"], ["train", "--help"], ["lab", "--sed"]):
        refused(capsys, arguments, f"error: {arguments[0]} needs ", "pip install 'tinygrad-attn[models]'")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["gradcheck", "tanh", "--samples", "1"], 0), (["settings"], 0), (["bench", "tiny"], 2), (["profile", "tiny"], 2)],
)
def test_commands_need_no_package_but_those_that_they_name(arguments, code):
    """Those that name none run where NumPy and numba are alone."""
    extras = {package for command in COMMANDS.values() for package in command.NEEDS} | {"tokenizers"}
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({sorted(extras)}))\n"
    run = f"from tinygrad_attn_models.cli.main import main\nsys.exit(main({arguments}))"
    done = subprocess.run([sys.executable, "-c", hidden + run], capture_output=True, text=True, check=False)
    assert (done.returncode, "No module" in done.stderr) == (code, False), done.stderr


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"tinygrad-attn {tinygrad_attn.__version__}\n"


# -- settings --------------------------------------------------------------------------------------------------------


def lines_of(output, section):
    """The names of the settings printed below a heading."""
    (block,) = [block for block in output.split("\n\n") if block.startswith(f"[{section}] ")]
    return [line.split()[0] for line in block.splitlines()[1:]]


def test_every_setting_is_printed_once_for_each_model_and_task(capsys):
    assert main(["settings"]) == 0
    output = capsys.readouterr().out
    for section in SECTIONS:
        for name, settings in section_classes(section).items():
            printed = lines_of(output, section)
            if name:
                choice = f"{section}.{CHOSEN_BY[section]}"
                printed += [choice, *lines_of(output, f"{choice}={name}")]
            assert sorted(printed) == sorted(setting.name for setting in settings.describe()), name
    assert (
        "  training.beta1               float  0.9        Adam's decay of the mean of gradients; at least 0," in output
    )


def test_the_settings_of_one_section_model_or_task(capsys):
    assert main(["settings", "transformer"]) == 0
    output = capsys.readouterr().out
    assert "model.dropout" in output and "model.heads" in output
    assert "model.score" not in output and "training." not in output
    assert main(["settings", "decoding"]) == 0
    assert capsys.readouterr().out.startswith("[decoding]  How a trained model translates.\n  decoding.batch_size ")
    refused(capsys, ["settings", "lung"], "'lung'", "did you mean luong?")
    refused(capsys, ["settings", "zzz"], "there are data, copy, dates")


def test_a_file_is_imported_before_any_command(capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom tinygrad_attn_models.data.sequences import *\n"
        "from tinygrad_attn_models.data.task import register_task\nfrom tinygrad_attn_models.setting import *\n"
        '@register_task\n@dataclass(frozen=True)\nclass Shout(SequenceTask):\n    "Shouting."\n'
        "    kind: str = constant('shout')\n    loudness: int = setting(3, 'how loud', minimum=1)\n",
        encoding="utf-8",
    )
    try:
        assert main(["settings", "shout", "--import", str(file)]) == 0
        assert "data.loudness      int  3      how loud; at least 1" in capsys.readouterr().out
    finally:
        TASKS._found.pop("shout", None)
    file.write_text("\n1 / 0\n", encoding="utf-8")
    refused(capsys, ["settings", "--import", file], file, "line 2", "ZeroDivisionError: division by zero")


def test_help_needs_no_engine():
    code = (
        "import sys\nfrom tinygrad_attn_models.cli.main import main\n"
        "for arguments in (['train', '--help'], ['--version'], ['train', '--sett']):\n"
        "    try:\n        main(arguments)\n    except SystemExit:\n        pass\n"
        "assert not {'numpy', 'numba', 'matplotlib', 'rich'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--resume RUN" in done.stdout


def test_a_reader_who_has_enough(trained):
    """As in ``python -m models translate RUN --file F | head -1``."""
    command = [sys.executable, "-m", "models", "translate", str(trained)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write(b"22 Nov 2026\n" * 200)
        process.stdin.close()
        errors = process.stderr.read()
        assert process.wait() == 141
    assert errors == b""
