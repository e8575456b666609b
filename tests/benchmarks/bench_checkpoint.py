"""What ``training.recompute`` saves and costs: a GPT of 12 layers at length 512, with it and without.

    python tests/benchmarks/bench_checkpoint.py [--layers 12] [--context 512] [--width 256] [--rows 2] [--pairs 12]

Steps as training takes them: captured without, eager with. Memory is what arrays take at the peak of a step, by
tracemalloc, beside weights and Adam's moments, and the process's, each in a process of its own: it is the same in every
run. Time is of pairs of steps, one with and one without, right after each other in one process, and the ratio the
median of theirs: a machine that others use slows down both of a pair. With ``--threads 1``, the default, it is
processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from harness import run_in_process
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.speed.memory import peak_memory

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, optim
from tinygrad_attn.nn import functional as F

VOCABULARY, HEADS = 512, 8


def step_of(recompute: bool, options: argparse.Namespace) -> Callable[[], float]:
    """A training step of a model of its own, warm."""
    ta.set_num_threads(options.threads)
    ta.manual_seed(0)
    model = GPT(VOCABULARY, layers=options.layers, heads=HEADS, d_model=options.width, context=options.context)
    nn.recompute_layers(model, recompute)
    ids = np.random.default_rng(0).integers(VOCABULARY, size=(options.rows, options.context + 1))
    read, said = Tensor(ids[:, :-1].copy()), Tensor(ids[:, 1:].copy())
    optimizer = optim.Adam(model.parameters(), 1e-4)
    loss_of = ta.capture(lambda x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten()))

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(read, said)
        optimizer.step(clip_norm=1.0)
        if not options.time:
            optimizer.zero_grad()
        return float(loss.item())

    for _ in range(4):
        step()
    return step


def memory(options: argparse.Namespace) -> dict[str, float]:
    step = step_of(bool(options.memory), options)
    resident = peak_memory()
    tracemalloc.start()
    loss = step()
    return {"peak": tracemalloc.get_traced_memory()[1] / (1 << 20), "resident": resident, "loss": loss}


def seconds(options: argparse.Namespace) -> list[tuple[float, float]]:
    clock = time.process_time if options.threads == 1 else time.perf_counter
    steps = [step_of(recompute, options) for recompute in (False, True)]
    pairs = []
    for number in range(options.pairs):
        times = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            began = clock()
            steps[which]()
            times[which] = clock() - began
        pairs.append((times[0], times[1]))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of recomputation.")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=int, choices=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument("--time", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time or options.memory is not None:
        print(json.dumps(seconds(options) if options.time else memory(options)))
        return
    given = [
        word
        for name in ("layers", "context", "width", "rows", "pairs", "threads")
        for word in (f"--{name}", str(getattr(options, name)))
    ]
    kept, again = (run_in_process(__file__, [*given, "--memory", which], options.threads) for which in ("0", "1"))
    pairs = run_in_process(__file__, [*given, "--time"], options.threads)
    for name, found, times in (("kept", kept, [a for a, _ in pairs]), ("recomputed", again, [b for _, b in pairs])):
        print(
            f"{name:>10}: {statistics.median(times) * 1e3:8.1f} ms, step's peak {found['peak']:7.1f} MiB, "
            f"process {found['resident']:7.0f} MiB, loss {found['loss']:.6f}"
        )
    ratios = sorted(b / a for a, b in pairs)
    low, middle, high = (ratios[round(share * (len(ratios) - 1))] for share in (0.25, 0.5, 0.75))
    print(
        f"recomputed over kept: memory of a step {again['peak'] / kept['peak']:.2f}, time {middle:.2f} (half of the "
        f"pairs of steps: {low:.2f} to {high:.2f})"
    )


if __name__ == "__main__":
    main()
