"""Bad command lines and damaged files: every one ends in at most one line of error, and never in a traceback.

``python tests/fuzz/lines.py --count 200 --seed 0`` makes tiny runs, draws commands with hostile options over files that
are damaged at random, runs each of them in this process, and prints those that fail. A share of them is a test
(tests/models/cli/test_lines.py).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLOW = 60.0
"""Seconds after which a command counts as hanging."""
SIZES = ["data.train_size=20", "data.valid_size=4", "data.test_size=4", "training.epochs=1", "decoding.max_length=12"]
SMALL = {
    "bahdanau": ["model.hidden_size=6", "model.embedding_size=4"],
    "luong": ["model.name=luong", "model.hidden_size=6", "model.embedding_size=4", "model.score=concat"],
    "transformer": ["model.name=transformer", "model.d_model=8", "model.heads=2", "model.d_ff=8",
                    "model.encoder_layers=1", "model.decoder_layers=1", "model.positions=learned",
                    "model.max_length=101"],
}  # fmt: skip

HOSTILE = [
    "", " ", "-1", "0", "1", "1.5", ".5", "5.", "True", "nan", "inf", "-inf", "1e999", "9" * 30, "9" * 5000, "½",
    "１２", "0x10", "[", "]" * 3, "[" * 3000, "{a",
    "'", '"', "$x^2$", r"$\frac$", "%s", "{}", "../..", "/", "/dev/null", "~",
    "~nobody/x", "a\nb", "a\tb", "a b", "\xa0", "\u3000", "\u202e", "\U0001f600", "가나다", "-face", "--",
    "-q", "=", "a=b",
    "x" * 300, "x" * 5000, "None", "null", "data.kind", "\udcff",
]  # fmt: skip
"""Values that a shell may give to any option."""


@dataclass
class Case:
    """One command."""

    arguments: list[str]
    stdin: bytes = b""
    damage: str = ""


@dataclass
class Outcome:
    """What a command did."""

    code: int | None
    out: str
    err: str
    seconds: float
    failure: str = ""
    files: set[str] = field(default_factory=set)


# -- damage ----------------------------------------------------------------------------------------------------------


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content or b"x")
    for _ in range(rng.choice((1, 3, 30))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "emptied": lambda content, rng: b"",
    "cut": lambda content, rng: content[: rng.randrange(len(content) + 1)],
    "flipped": _flip,
    "doubled": lambda content, rng: content + content,
    "zeros": lambda content, rng: bytes(len(content)),
    "latin-1": lambda content, rng: content + "é".encode("latin-1"),
    "utf-16": lambda content, rng: content.decode("utf-8", "replace").encode("utf-16"),
    "bom": lambda content, rng: b"\xef\xbb\xbf" + content,
    "nested": lambda content, rng: b"[" * 100_000,
    "nested value": lambda content, rng: b"x = " + b"[" * 5_000,
    "numbers": lambda content, rng: content.replace(b"1", b"9" * 40).replace(b"0", b"-1"),
    "nan": lambda content, rng: content.replace(b"0", b"NaN"),
    "null": lambda content, rng: b"null",
    "list": lambda content, rng: b"[1, 2]",
    "words": lambda content, rng: b"hello \0 world\n" * 3,
    "long line": lambda content, rng: content + b"x" * 300_000 + b"\n",
}


def _damage(path: Path, rng: random.Random) -> str:
    """Damage a file, or put something else in its place; returns what was done."""
    if rng.random() < 0.15:
        path.unlink()
        kind = rng.choice(("missing", "folder", "loop"))
        if kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)
        return f"{path.name} {kind}"
    kind = rng.choice(sorted(DAMAGES))
    path.write_bytes(DAMAGES[kind](path.read_bytes(), rng))
    return f"{path.name} {kind}"


def _change_metadata(path: Path, rng: random.Random) -> str:
    """Change one value in the JSON of a checkpoint, whose weights stay whole."""
    from tinygrad_attn.serialize import load_file, save_file

    arrays, metadata = load_file(path)
    about = json.loads(metadata["run"])
    *way, last = rng.choice(list(_ways(about)))
    place = about
    for key in way:
        place = place[key]
    value = rng.choice([None, -1, 0, 10**30, 1e308, "", "x", "\ud800", [], {}, True, [[1]], "DELETE"])
    if value == "DELETE":
        del place[last]
    else:
        place[last] = value
    save_file(arrays, path, {"run": "[" * 100_000 if rng.random() < 0.1 else json.dumps(about)})
    return f"{path.name} {'.'.join(map(str, [*way, last]))} = {value!r}"


def _ways(value: object, *way: object) -> Iterator[list]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield [*way, key]
        yield from _ways(inner, *way, key)


# -- commands --------------------------------------------------------------------------------------------------------


def make_runs(folder: Path) -> None:
    """Parallel text, a tiny trained run of each model, evaluated, one of them on the text."""
    text = folder / "text"
    text.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        for language, words in (("ko", "가 나 다"), ("en", "a b c")):
            (text / f"{split}.{language}").write_text(f"{words}\n" * 6, encoding="utf-8")
    for name, settings in SMALL.items():
        _quietly(["train", "--out", str(folder / name), "--set", *SIZES, *settings])
    parallel = ["--data", str(text), "--source", "ko", "--target", "en"]
    _quietly(["train", *parallel, "--out", str(folder / "parallel"), "--set", *SMALL["bahdanau"], "training.epochs=1"])
    for name in (*SMALL, "parallel"):
        _quietly(["evaluate", str(folder / name)])


def _quietly(arguments: list[str]) -> None:
    outcome = run(Case(arguments), Path.cwd())
    assert outcome.code == 0, (arguments, outcome)


def draw(rng: random.Random, folder: Path) -> Case:
    """A command over copies of the runs in ``folder``, some of whose files are damaged here."""
    name = rng.choice((*SMALL, "parallel"))
    path = folder / name
    damaged = rng.choice(sorted(_READERS)) if rng.random() < 0.6 else ""
    readers = [line for line in _COMMANDS if line[0] in _READERS.get(damaged, line[0])]
    command, arguments = rng.choice(readers)
    words = [command, *(word.format(run=path, text=folder / "text", other=folder / "luong") for word in arguments)]
    damage = (
        _damage_one(rng, path / damaged if "{" not in damaged else folder / damaged.format(**_part(rng)))
        if damaged
        else ""
    )
    if not damage or rng.random() < 0.2:
        words = _with_hostile_option(rng, words)
    stdin = rng.choice((b"", b"1 May 2020\n", b"\xff\n", b"x" * 20_000 + b"\n", b"a\n\n\0\nb\n", b"\xef\xbb\xbf1\n"))
    return Case(words, stdin, damage)


_COMMANDS: list[tuple[str, list[str]]] = [
    ("train", ["--out", "made", "--set", *SIZES, *SMALL["bahdanau"]]),
    ("train", ["--out", "made", "--data", "{text}", "--source", "ko", "--target", "en", "--quick", "--set", *SIZES[3:],
               *SMALL["bahdanau"]]),
    ("train", ["--config", "{run}/config.toml", "--out", "made", "--set", *SIZES[3:]]),
    ("train", ["--resume", "{run}"]),
    ("translate", ["{run}", "1 May 2020", "x"]),
    ("translate", ["{run}"]),
    ("translate", ["{run}", "--file", "{text}/test.ko", "--beam", "3", "--n-best", "2"]),
    ("translate", ["{run}", "1 May", "--attention", "a.png"]),
    ("evaluate", ["{run}"]),
    ("evaluate", ["{run}", "--split", "valid", "--beam", "2", "--json"]),
    ("compare", ["{run}", "{other}"]),
    ("microscope", ["{run}", "1 May", "--view", "term"]),
    ("microscope", ["{run}", "2020", "--target", "2020-01-01", "--out", "page.html"]),
    ("bench", ["bahdanau-small", "--seconds", "0"]),
    ("profile", ["{run}/config.toml", "--steps", "1"]),
    ("gradcheck", ["tanh", "--samples", "1"]),
    ("settings", []),
    ("settings", ["luong"]),
    ("lab", []),
]  # fmt: skip


def _with_hostile_option(rng: random.Random, words: list[str]) -> list[str]:
    """The command with an option or a text of hostile value, a mistyped word, or one word left out."""
    from tinygrad_attn_models.cli.parser import make_parser

    kind = rng.choice(("option", "option", "option", "setting", "text", "typo", "left out"))
    hostile = rng.choice(HOSTILE)
    place = rng.randrange(1, len(words) + 1)
    if kind == "option":
        subparsers = next(action for action in make_parser()._actions if isinstance(action.choices, dict))
        known = [o for action in subparsers.choices[words[0]]._actions for o in action.option_strings]
        option = rng.choice([o for o in known if o not in ("--serve", "--open", "-h", "--help")] or ["--import"])
        return [*words, *rng.choice(([option, hostile], [f"{option}={hostile}"], [option]))]
    if kind == "setting" and words[0] in ("train", "profile"):
        return [*words, "--set", f"{rng.choice(_settings())}={hostile}"]
    if kind == "typo":
        word = list(words[place - 1])
        word[rng.randrange(len(word)) : 1] = rng.choice("-=x.")
        return [*words[: place - 1], "".join(word), *words[place:]]
    if kind == "left out":
        return [*words[: place - 1], *words[place:]]
    return [*words[:place], hostile, *words[place:]]


def _settings() -> list[str]:
    from tinygrad_attn_models.runs.config import SECTIONS, section_classes

    return sorted(
        {
            about.name
            for section in SECTIONS
            for found in section_classes(section).values()
            for about in found.describe()
        }
    )


_READERS = {
    "best.safetensors": ("translate", "evaluate", "microscope"),
    "last.safetensors": ("train",),
    "clock.json": ("train",),
    "config.toml": ("train", "profile"),
    "evaluation.json": ("compare", "evaluate"),
    "log.csv": ("compare",),
    "run.json": ("compare", "train"),
    "text/{split}.{language}": ("train", "evaluate", "translate"),
}
"""The commands that read a file."""


def _part(rng: random.Random) -> dict[str, str]:
    return {"split": rng.choice(("train", "valid", "test")), "language": rng.choice(("ko", "en"))}


def _damage_one(rng: random.Random, path: Path) -> str:
    if path.suffix == ".safetensors" and rng.random() < 0.7:
        return _change_metadata(path, rng)
    return _damage(path, rng)


# -- running ---------------------------------------------------------------------------------------------------------


def run(case: Case, folder: Path) -> Outcome:
    """Run a command in this process, in a folder of its own."""
    from tinygrad_attn_models.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    streams = sys.stdin, sys.stdout, sys.stderr
    began, code, failure = time.perf_counter(), None, ""
    with contextlib.chdir(folder), warnings.catch_warnings():
        sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(case.stdin), encoding="utf-8"), out, err
        try:
            code = main(case.arguments)
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 1
        except BaseException:
            failure = traceback.format_exc()
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return Outcome(code, *texts, time.perf_counter() - began, failure)


def problem(outcome: Outcome) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if outcome.failure:
        return outcome.failure
    if outcome.code not in (0, 1, 2):
        return f"exit code {outcome.code}"
    if "Traceback" in outcome.err + outcome.out:
        return "a traceback is printed"
    errors = [line for line in outcome.err.splitlines() if "error:" in line]
    if outcome.code == 2 and not errors:
        return "no message"
    if any(len(line) > 2_600 for line in errors):
        return "an error of more than 2,600 characters"
    bare = (
        "list index out of range",
        "codec can't",
        "unsupported operand",
        "not subscriptable",
        "object has no attribute",
    )
    if any(words in line for words in bare for line in errors):
        return f"Python's own words: {errors}"
    return f"took {outcome.seconds:.0f} s" if outcome.seconds > SLOW else ""


def cases(seed: int, count: int, made: Path, folder: Path) -> Iterator[tuple[int, Case, Outcome]]:
    """Draw and run commands, each with copies of the runs that `make_runs` has made in ``made``."""
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")
        own = folder / f"case{number}"
        shutil.copytree(made, own / "runs")
        case = draw(rng, own / "runs")
        yield number, case, run(case, own)
        shutil.rmtree(own, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run one case and print what it says")
    options = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "agg")
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        made, folder = Path(name) / "made", Path(name) / "cases"
        make_runs(made)
        codes: dict[int | None, int] = {}
        for number, case, outcome in cases(options.seed, options.count, made, folder):
            if options.only not in (None, number):
                continue
            codes[outcome.code] = codes.get(outcome.code, 0) + 1
            wrong = problem(outcome)
            failed += bool(wrong)
            if wrong or options.only is not None:
                print(f"\n{number}: {case.damage or 'whole files'}: {[word[:200] for word in case.arguments]}")
                print(wrong or outcome.err)
    print(f"{options.count} commands, {failed} with a fault; by exit code: {codes}")
    return bool(failed)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import models  # noqa: F401  so that this checkout's commands are those tried

    sys.exit(main())
