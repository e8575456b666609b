"""Flips bits, one at a time, in every file of a run's folder that the program reads back.

    python tests/fuzz/flips.py [--flips 100] [--seed 0]

A flipped bit must be caught: what reads the file ends with one error that names it, or a note names it. In a text a
flip may change nothing: then the same is found as in the whole file. In a checkpoint every bit counts. The files are
those that evaluating, comparing, translating and continuing a run open for reading; a new kind of file is among them.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinygrad_attn_models.cli.main import main as command
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.evaluation.comparison import read_runs
from tinygrad_attn_models.runs.clock import Clock
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run

SETTINGS = {
    "data.train_size": 40, "data.valid_size": 4, "data.test_size": 4, "decoding.max_length": 12,
    "model.embedding_size": 4, "model.hidden_size": 6, "training.epochs": 3, "training.average": 2,
}  # fmt: skip
HARMLESS = ("steps.csv", "train.log")
"""Lines for people; training goes on after them, and nothing is computed from them."""


def make_run(folder: Path) -> None:
    """A tiny run, evaluated."""
    settings = [f"{name}={value}" for name, value in SETTINGS.items()]
    assert command(["train", "--out", str(folder), "-q", "--set", *settings]) == 0
    assert command(["evaluate", str(folder), "-q"]) == 0


def open_checkpoint(path: Path) -> Any:
    run, arrays, progress = Run.open(path.parent, path.name)
    weights = [(name, array.dtype.str, array.shape, array.tobytes()) for name, array in sorted(arrays.items())]
    return run.config, run.source.to_dict(), run.target.to_dict(), progress, weights


def read_clock(path: Path) -> Any:
    """What a continuation finds; the seconds of training as they stood at its beginning."""
    clock = Clock()
    clock.resume(path, 3)
    return round(clock.total, 1), clock.batches, clock.epochs


def read_config(path: Path) -> Any:
    """As the settings of its run, whose weights are loaded: a note says what differs from the run's own."""
    return Run.load(path.parent)[0].config, load_config(path)


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": open_checkpoint,
    "clock.json": read_clock,
    "config.toml": read_config,
    "evaluation.json": lambda path: read_runs([path.parent], "test"),
    "log.csv": lambda path: read_runs([path.parent], "test"),
    "run.json": lambda path: read_runs([path.parent], "test"),
}


def reader_of(path: Path) -> Callable[[Path], Any]:
    return READERS[path.suffix if path.suffix in READERS else path.name]


def files_read(folder: Path) -> list[str]:
    """The names of the files in a run's folder that evaluating, comparing and continuing a run open for reading."""
    found: set[str] = set()
    watching = True

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(details[0], (str, os.PathLike)):
            path = Path(details[0])
            if path.parent == folder and not (isinstance(details[1], str) and set(details[1]) & set("wax+")):
                found.add(path.name)

    sys.addaudithook(watch)
    read_runs([folder], "test")
    command(["translate", str(folder), "-q", "1 May 2020"])
    command(["evaluate", str(folder), "-q"])
    command(["train", "--resume", str(folder), "-q", "--set", "training.epochs=4"])
    watching = False
    return sorted(name for name in found if (folder / name).is_file() and not name.startswith("."))


def outcome(path: Path, expected: Any) -> str:
    """ "caught", "same", or "MISSED" for another value that nobody is told of."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            found = reader_of(path)(path)
        except UserError as error:
            return "caught" if path.name in str(error) else f"UNNAMED {error}"
        except Exception as error:
            return f"BARE {type(error).__name__}: {error}"
    if found == expected:
        return "same"
    return "caught" if any(path.name in str(note.message) for note in noted) else "MISSED"


def flips(path: Path, count: int, draw: random.Random) -> Iterator[tuple[int, str]]:
    """Flip ``count`` bits in turn; each with its outcome."""
    content, expected = path.read_bytes(), reader_of(path)(path)
    for _ in range(count):
        bit = draw.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(damaged))
        yield bit, outcome(path, expected)
    path.write_bytes(content)


def run(folder: Path, count: int, seed: int, report: Callable[[str], None] = print) -> int:
    """All of it; returns how many flips were not caught."""
    make_run(folder / "run")
    make_run(folder / "read")
    read = [name for name in files_read(folder / "read") if name not in HARMLESS]
    wrong = 0
    for name in read:
        path, draw = folder / "run" / name, random.Random(f"{seed}:{name}")
        if not path.exists():
            path = folder / "read" / name
        ends = list(flips(path, count, draw))
        same = sum(end == "same" for _, end in ends)
        bad = [f"bit {bit}: {end}" for bit, end in ends if end not in ("caught", "same")]
        if path.suffix == ".safetensors":
            bad += ["same"] * same
        report(
            f"{name}: {count} bits flipped, {count - same - len(bad)} caught, {same} change nothing{'; ' * bool(bad)}"
            + "; ".join(bad[:5])
        )
        wrong += len(bad)
    return wrong


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(Path(folder), options.flips, options.seed)
    print(f"{wrong} flips were not caught")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
