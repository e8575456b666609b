"""What all commands have in common: help, versions, imports, streams, and one line for every mistake."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tinygrad_attn_models.cli
import tinygrad_attn_models.training.trainer
from children import Child
from commands import refused
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.cli.parser import find_commands
from tinygrad_attn_models.data import TASKS

import tinygrad_attn

COMMANDS = find_commands()


def test_the_commands_are_the_files_of_the_folder():
    folder = Path(tinygrad_attn_models.cli.__file__).parent
    assert set(COMMANDS) == {path.stem for path in folder.glob("*.py")} - {"__init__", "main", "options", "parser"}
    for command in COMMANDS.values():
        assert command.__doc__.strip().endswith(".") and isinstance(command.NEEDS, tuple)


def test_the_readme_lists_every_command():
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `python -m models (\w+)", readme, re.MULTILINE)) == set(COMMANDS)


def test_an_unknown_command_or_option(capsys):
    refused(capsys, ["trian"], "'trian'", "did you mean train?")
    refused(capsys, ["gradcheck", "--sample", "3", "--sed", "0"], "--sed", "did you mean --seed?")
    refused(capsys, ["evaluate", "x", "--split", "tset"], "'test', 'valid'", "did you mean test?")
    refused(capsys, [], "COMMAND")


def test_a_command_is_suggested_whatever_its_case(capsys):
    for typed, meant in (("Train", "train"), ("EVALUATE", "evaluate"), ("grad-check", "gradcheck")):
        refused(capsys, [typed], f"did you mean {meant}?")


def test_options_may_stand_between_texts(trained, capsys):
    assert main(["translate", str(trained), "22 Nov 2026", "1/2/2020", "--beam", "2"]) == 0
    expected = capsys.readouterr().out
    for words in (["--beam", "2", "22 Nov 2026", "1/2/2020"], ["22 Nov 2026", "--beam=2", "1/2/2020"]):
        assert main(["translate", str(trained), *words]) == 0
        assert capsys.readouterr().out == expected


def test_a_text_that_begins_with_a_dash(trained, capsys):
    refused(capsys, ["translate", trained, "-face"], "goes after --, as in: … -- -face")
    refused(capsys, ["translate", trained, "-fa ce", "-x"], "-- -x")
    refused(capsys, ["microscope", trained, "-x"], "goes after --, as in: … -- -x")
    refused(capsys, ["microscope", trained, "2", "--target", "-x"], "is written --target=-x")
    refused(capsys, ["translate", trained, "--n-bst", "2"], "did you mean --n-best?")
    for words in (["--", trained, "-face", "--"], [trained, "--", "-face", "--"]):
        assert main(["translate", *map(str, words)]) == 0
        assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.parametrize(
    "arguments",
    [["train", "--config", ""], ["train", "--config="], ["train", "--data", ""], ["train", "--source", ""],
     ["train", "--out", ""], ["train", "--resume", ""], ["train", "--import", ""], ["translate", "", "x"],
     ["translate", "x", "--file", ""], ["translate", "x", "--attention="], ["compare", ""], ["evaluate", ""],
     ["compare", "x", "--out="], ["microscope", "", "x"], ["profile", ""], ["lab", "x", "--out", ""]],
)  # fmt: skip
def test_an_unset_variable_of_the_shell_is_no_name(capsys, arguments):
    refused(capsys, arguments, "got nothing; is a variable of the shell unset?")


@pytest.mark.parametrize("number", ["-1", "1.5", "x", "1" * 5000, "", "½", "²"])
def test_whole_numbers(capsys, number):
    refused(capsys, ["gradcheck", "tanh", f"--seed={number}"], "--seed", "expected a whole number of at least 0")
    refused(capsys, ["gradcheck", "tanh", f"--samples={number}"], "--samples", "expected a whole number of at least 1")


def test_an_argument_that_is_not_utf8(capsys, tmp_path):
    for arguments in (["train", "--out", "caf\udce9"], ["translate", tmp_path, "caf\udce9"]):
        refused(capsys, arguments, "the argument 'caf\\udce9' is not UTF-8")


@pytest.mark.parametrize("threads", ["0", "-2", "all", ""])
def test_variables_that_numba_cannot_read(capsys, monkeypatch, threads):
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    refused(capsys, ["settings"], f"NUMBA_NUM_THREADS is {threads!r}; set it to a whole number of at least 1, or unset")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "yes")
    refused(capsys, ["settings"], "NUMBA_DISABLE_JIT is 'yes'; set it to a whole number of at least 0")


def test_files_of_ones_own_that_cannot_be_imported(capsys, tmp_path):
    loop, leaves = tmp_path / "loop.py", tmp_path / "leaves.py"
    loop.symlink_to(loop)
    refused(capsys, ["settings", "--import", loop], loop, "Too many levels of symbolic links")
    leaves.write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    refused(capsys, ["settings", "--import", leaves], leaves, "line 2: SystemExit: 3")
    leaves.write_bytes(b"x = 1\0\n")
    refused(capsys, ["settings", "--import", leaves], leaves, "null bytes")


def test_too_little_memory_is_one_line(capsys, monkeypatch):
    def fail(arguments):
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr("tinygrad_attn_models.cli.settings.run", fail)
    refused(capsys, ["settings"], "there is not enough memory (Unable to allocate 7 TiB); use a smaller model")


def test_a_command_whose_packages_are_missing_is_not_listed_and_says_how_to_get_them(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    extras = {package for command in COMMANDS.values() for package in command.NEEDS}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in extras else find_spec(name))
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    listed = {name for name in COMMANDS if f"\n    {name}" in output}
    assert listed == {name for name, command in COMMANDS.items() if not command.NEEDS}
    assert listed == {"bench", "gradcheck", "lesson", "plan", "profile", "settings"}
    assert 'pip install "tinygrad-attn[models]" brings compare, evaluate,' in output
    for arguments in (["translate"], ["train", "--help"], ["lab", "--sed"]):
        refused(capsys, arguments, f"error: {arguments[0]} needs ", 'pip install "tinygrad-attn[models]"')


def test_commands_need_no_package_but_those_that_they_name():
    """Those that name none run where NumPy and numba are alone."""
    extras = {package for command in COMMANDS.values() for package in command.NEEDS} | {"tokenizers"}
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({sorted(extras)}))\n"
    lines = [["bench", "tiny"], ["profile", "tiny"], ["settings"], ["gradcheck", "tanh", "--samples", "1"]]
    run = f"from tinygrad_attn_models.cli.main import main\nprint([main(line) for line in {lines}])"
    done = subprocess.run([sys.executable, "-c", hidden + run], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[2, 2, 0, 0]\n") and "No module" not in done.stderr, done.stderr


def test_the_extra_brings_what_commands_need():
    about = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    extra = {
        re.split(r"[><=]", name)[0].replace("-", "_") for name in about["project"]["optional-dependencies"]["models"]
    }
    assert {package for command in COMMANDS.values() for package in command.NEEDS} <= extra


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"tinygrad-attn {tinygrad_attn.__version__}\n"


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
        assert "data.loudness int 3 how loud; at least 1" in " ".join(capsys.readouterr().out.split())
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


@pytest.mark.slow
def test_a_reader_who_has_enough(trained):
    """As in ``python -m models translate RUN --file F | head -1``."""
    command = [sys.executable, "-m", "models", "translate", "-q", str(trained)]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.stdin.write(b"22 Nov 2026\n" * 200)
        process.stdin.close()
        errors = process.stderr.read()
        assert process.wait() == 141
    assert errors == b""


@pytest.mark.slow
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
    ended = subprocess.run(  # as in a C locale without Python's UTF-8 mode
        [sys.executable, "-c", "from tinygrad_attn_models.cli.main import main; main(['settings'])"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii:surrogateescape"}, check=True,
    )  # fmt: skip
    assert b"Adam's \\u03b2" in ended.stdout and ended.stderr == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
@pytest.mark.slow
def test_a_stream_that_is_closed(trained, closed):
    command = f"'{sys.executable}' -m models translate '{trained}' {'1' if closed == '>&-' else ''} {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("module", ["tinygrad_attn_models.cli.main", "tinygrad_attn_models.trained"])
@pytest.mark.parametrize("statement", ["raise KeyboardInterrupt", "exec('raise KeyboardInterrupt')"])
def test_ctrl_c_during_imports_leaves_no_traceback(module, statement):
    """Python would end by the signal itself after a KeyboardInterrupt that passed through exec()."""
    code = (
        "import sys\nclass Interrupting:\n    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}: {statement}\n"
        "sys.meta_path.insert(0, Interrupting())\nsys.argv = ['models', 'translate', 'x', 'y']\n"
        "from tinygrad_attn_models.__main__ import main\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
