"""What ``training.recompute`` saves and costs: a GPT of 12 layers at length 512, with it and without.

    python tests/benchmarks/bench_checkpoint.py [--layers 12] [--context 512] [--width 256] [--rows 2] [--rounds 3]

Steps as training takes them: captured without, eager with. Processor time with ``--threads 1`` by default, in turn in
processes of their own; memory is what arrays take at the peak of a step, by tracemalloc, beside weights and Adam's
moments, and the process's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc

import numpy as np
from harness import run_in_process
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.speed.memory import peak_memory

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, optim
from tinygrad_attn.nn import functional as F

VOCABULARY, HEADS = 512, 8


def measure(recompute: bool, options: argparse.Namespace) -> dict[str, float]:
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
        return float(loss.item())

    losses = [step() for _ in range(3)]
    clock = time.process_time if options.threads == 1 else time.perf_counter
    times = []
    for _ in range(options.steps):
        began = clock()
        losses.append(step())
        times.append(clock() - began)
    resident = peak_memory()
    optimizer.zero_grad()
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1]
    return {"seconds": statistics.median(times), "peak": peak / (1 << 20), "resident": resident, "loss": losses[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of recomputation.")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recompute", type=int, choices=(0, 1), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recompute is not None:
        print(json.dumps(measure(bool(options.recompute), options)))
        return
    given = [
        word
        for name in ("layers", "context", "width", "rows", "steps", "threads")
        for word in (f"--{name}", str(getattr(options, name)))
    ]
    rounds = []
    for _ in range(options.rounds):
        plain, again = (
            run_in_process(__file__, [*given, "--recompute", str(which)], options.threads) for which in (0, 1)
        )
        rounds.append((plain, again))
        for name, found in (("kept", plain), ("recomputed", again)):
            print(
                f"{name:>10}: {found['seconds'] * 1e3:8.1f} ms, step's peak {found['peak']:7.1f} MiB, "
                f"process {found['resident']:7.0f} MiB, loss {found['loss']:.6f}",
                flush=True,
            )
    time_ratio = statistics.median(again["seconds"] / plain["seconds"] for plain, again in rounds)
    memory_ratio = statistics.median(again["peak"] / plain["peak"] for plain, again in rounds)
    print(
        f"recomputed over kept: time {time_ratio:.2f}, memory of a step {memory_ratio:.2f}, median of {options.rounds}"
    )


if __name__ == "__main__":
    main()
