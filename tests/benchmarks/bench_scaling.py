"""How the cost of a token grows with the length of sentences and with the batch, beside PyTorch's::

    python tests/benchmarks/bench_scaling.py [--size small m30k] [--plot PICTURE]

times the Transformer's training step for lengths from 16 to 256, as many sentences as give the same number of tokens,
and for batches of 1 to 256 sentences of the same length. Both sides begin with the same weights and get the same batch,
and the script fails unless they find the same loss. Tables are Markdown. A ratio above 1 means that we are faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness import run_in_process
from tinygrad_attn_models.speed.bench import CLIP_NORM, LEARNING_RATE
from tinygrad_attn_models.speed.workloads import TransformerWorkload, batch_loss, random_batch

from tinygrad_attn import random
from tinygrad_attn.optim import Adam

SIDES = ("ours", "PyTorch")
# Vocabulary, d_model, layers of the encoder and of the decoder, heads, d_ff: as in `models.speed.workloads`.
SIZES = {"small": (1000, 64, 2, 4, 128), "m30k": (8000, 256, 3, 8, 512)}
LENGTHS, TOKENS = (16, 32, 64, 128, 256), 4096
BATCHES, LENGTH = (1, 2, 4, 8, 16, 32, 64, 128, 256), 16
FEWEST_STEPS = 3
LOSS_TOLERANCE = 1e-4  # relative


class Case(NamedTuple):
    """So many sentence pairs, sources and targets of so many tokens."""

    batch: int
    length: int


class Sweep(NamedTuple):
    """The cases of one table and of one picture."""

    title: str
    axis: str  # the field of a case that varies
    cases: tuple[Case, ...]


SWEEPS = (
    Sweep(f"{TOKENS} tokens in a batch", "length", tuple(Case(TOKENS // length, length) for length in LENGTHS)),
    Sweep(f"sentences of {LENGTH} tokens", "batch", tuple(Case(batch, LENGTH) for batch in BATCHES)),
)
Seconds = dict[Case, float]


def prepare(side: str, size: str, case: Case) -> Callable[[], float]:
    """The side's training step, which gives the loss before it."""
    sizes = SIZES[size]
    random.manual_seed(0)
    model, batch = TransformerWorkload(*sizes), random_batch(sizes[0], case.batch, case.length, case.length)
    if side == "PyTorch":
        import torch
        from torch_training import training_step

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        return training_step(sizes, model, batch)
    optimizer = Adam(model.parameters(), LEARNING_RATE)

    def step() -> float:
        optimizer.zero_grad()
        loss = batch_loss(model, batch)
        loss.backward()
        optimizer.step(clip_norm=CLIP_NORM)
        return float(loss.item())

    return step


def measure(step: Callable[[], float], seconds: float) -> tuple[float, float]:
    """The loss of the first step, and the seconds of the fastest after the second."""
    loss = step()
    step()
    times: list[float] = []
    while len(times) < FEWEST_STEPS or sum(times) < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return loss, min(times)


def compare_sides(size: str, options: argparse.Namespace) -> dict[str, Seconds]:
    """The best time of each side for each case; every measurement has a process of its own, and the sides take turns.

    Raises:
        SystemExit: the sides do not find the same loss.
    """
    best: dict[str, Seconds] = {side: {} for side in SIDES}
    for _ in range(options.rounds):
        for case in dict.fromkeys(case for sweep in SWEEPS for case in sweep.cases):
            losses = []
            for side in SIDES:
                arguments = ["--size", size, "--seconds", str(options.seconds), "--measure", side, *map(str, case)]
                loss, seconds = run_in_process(__file__, arguments, options.threads)
                best[side][case] = min(seconds, best[side].get(case, math.inf))
                losses.append(loss)
            if not math.isclose(*losses, rel_tol=LOSS_TOLERANCE):
                raise SystemExit(f"{size}, {case}: the loss is {losses[0]}, and {losses[1]} in PyTorch")
            print(f"{size}, {case.batch} x {case.length}", file=sys.stderr)
    return best


def microseconds_per_token(seconds: Seconds, case: Case) -> float:
    """Of one target token."""
    return seconds[case] / (case.batch * case.length) * 1e6


def table(sweep: Sweep, best: dict[str, Seconds]) -> str:
    """The sweep in Markdown."""
    lines = ["| length | batch | ours, µs/token | PyTorch, µs/token | ratio |", "|--:|--:|--:|--:|--:|"]
    for case in sweep.cases:
        ours, theirs = (microseconds_per_token(best[side], case) for side in SIDES)
        lines.append(f"| {case.length} | {case.batch} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} |")
    return "\n".join(lines)


def draw(found: dict[str, dict[str, Seconds]], path: Path) -> None:
    """A picture, PNG or SVG by its name, with a row for each size and a column for each sweep."""
    from matplotlib.figure import Figure  # a third of a second, which no measurement needs

    figure = Figure(figsize=(10, 3.8 * len(found)), layout="constrained")
    rows = figure.subplots(len(found), len(SWEEPS), squeeze=False)
    for (size, best), row in zip(found.items(), rows, strict=True):
        for sweep, axes in zip(SWEEPS, row, strict=True):
            places = [getattr(case, sweep.axis) for case in sweep.cases]
            for side, marker in zip(SIDES, ("o-", "s--"), strict=True):
                costs = [microseconds_per_token(best[side], case) for case in sweep.cases]
                axes.plot(places, costs, marker, label=side)
            axes.set_xscale("log", base=2)
            axes.set_xticks(places, list(map(str, places)))
            axes.set(xlabel=sweep.axis, ylabel="µs per target token", title=f"Transformer {size}, {sweep.title}")
            if sweep.axis == "batch":
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time the Transformer's training step by length and by batch.")
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES), help="of the model (default: both)")
    parser.add_argument("--plot", type=Path, metavar="PICTURE", help="a PNG or SVG file to draw")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.3, help="for one case in one round; 3 steps at least")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        side, batch, length = options.measure
        step = prepare(side, options.size[0], Case(int(batch), int(length)))
        print(json.dumps(measure(step, options.seconds)))
        return
    found = {size: compare_sides(size, options) for size in options.size}
    for size, best in found.items():
        for sweep in SWEEPS:
            print(f"\nTransformer {size}, {sweep.title}, {options.threads} threads\n\n{table(sweep, best)}")
    if options.plot:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
