"""Copying with one context vector or with attention: accuracy by the length of the string.

    python -m models lab copy_length [--out FOLDER] [--seed N]

trains the systems of ``models/configs/copy-*.toml``, all with the same strings, prints the share of strings of each
length that are copied without a mistake, and draws it. Training has strings of 6 to 15 letters. The encoder-decoder has
to store all letters in one vector of fixed size; attention can look up each of them. Strings of more than 15 letters
show whether a system has learnt to move from one letter to the next, or has learnt absolute positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tinygrad_attn.atomic import atomic_path

from ..console.counts import clock
from ..console.progress import make_progress
from ..console.tables import plain_table
from ..console.working import worked_off
from ..data import Copy
from ..decoding.translate import translate
from ..interface import Translator
from ..runs.config import find_config, load_config
from ..runs.folder import Run
from .runs import trained

__all__ = ["SYSTEMS", "accuracy", "plot_accuracy", "run"]

SYSTEMS = {
    "no attention": "copy-seq2seq",
    "dot": "copy-luong-dot",
    "scaled dot": "copy-luong-scaled_dot",
    "general": "copy-luong-general",
    "concat": "copy-luong-concat",
    "additive": "copy-bahdanau",
    "Transformer": "copy-transformer",
}
"""The config of each system, by the name of its attention."""

LENGTHS = range(6, 21)
PER_LENGTH = 1_000


def accuracy(
    run: Run, model: Translator, lengths: Sequence[int] = LENGTHS, count: int = PER_LENGTH
) -> dict[int, float]:
    """The share of ``count`` unseen strings of each length that the model copies without a mistake."""
    shares = {}
    assert isinstance(run.config.data, Copy)
    seed = run.config.data.seed
    for length in worked_off(lengths, "copying strings, by length", len(lengths)):
        strings = Copy(
            train_size=1,
            valid_size=1,
            test_size=count,
            seed=seed,
            shortest=length,
            longest=length,
            longest_test=length,
        )
        pairs = strings.load().test
        copies = translate(model, [run.source.encode(source) for source, _ in pairs], run.config.decoding)
        right = sum(run.target.decode(copy) == target for copy, (_, target) in zip(copies, pairs, strict=True))
        shares[length] = right / count
    return shares


def plot_accuracy(shares: Mapping[str, Mapping[int, float]], longest: int, path: Path) -> None:
    """Draw the share of each system by length; training had strings of up to ``longest`` letters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (system, of_system) in enumerate(shares.items()):
        percent = [100.0 * share for share in of_system.values()]
        axes.plot(list(of_system), percent, marker="osD^vPX"[number % 7], markersize=4, label=system)
    axes.axvspan(longest + 0.5, max(LENGTHS) + 0.5, color="0.93", zorder=0)
    axes.text(longest + 0.6, 102, "longer than in training", fontsize=8, va="bottom").set_in_layout(False)
    axes.set(xlabel="letters", ylabel="copied without a mistake (%)", xlim=(LENGTHS[0] - 0.5, LENGTHS[-1] + 0.5))
    axes.set_ylim(-3, 110)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def run(folder: Path, seed: int) -> int:
    """Train, measure, print and draw; see the module's text.

    Args:
        folder: for the results, and a run folder of each system; a system that is trained already is not trained again.
        seed: of the strings and of the training.

    Returns:
        The exit code.
    """
    seeds = {"data.seed": seed, "training.seed": seed}
    progress = make_progress()
    shares: dict[str, dict[int, float]] = {}
    rows = []
    try:
        for system, name in SYSTEMS.items():
            run, model, seconds = trained(load_config(find_config(name), seeds), folder / name, progress)
            shares[system] = accuracy(run, model)
            parameters = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
            percent = [f"{100.0 * share:.1f}" for share in shares[system].values()]
            rows.append([system, parameters, clock(seconds), *percent])
    finally:
        progress.stop()
    table = plain_table(["attention", "parameters", "time", *map(str, LENGTHS)], rows)
    with atomic_path(folder / "copy_length.txt") as path:
        path.write_text(table + "\n", encoding="utf-8")
    plot_accuracy(shares, run.config.data.lengths()["data.longest"], folder / "copy_length.png")
    print(f"Strings copied without a mistake, %, by their number of letters; {PER_LENGTH:,} of each, seed {seed}:")
    print(table)
    print(f"In {folder}: copy_length.txt, copy_length.png, and a run folder for each system")
    return 0
