"""Softmax, forward and backward, beside PyTorch's.

Usage: ``python tests/benchmarks/bench_softmax.py [--threads N] [--rounds N]``, the package being installed.

Each library runs in processes of its own, in turns, so that their thread pools never share the cores. A time is the
median over the rounds of a process's fastest call; the ratio is PyTorch's time over ours, above 1 where we are faster.
Results are allocated within the call, as in a training step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

SHAPES = [(12800, 25), (2048, 10000), (512, 8, 25, 25), (64, 25)]
SECONDS = 0.3  # of calls to each function in one process


def our_functions(x: np.ndarray, g: np.ndarray, mask: np.ndarray) -> dict[str, Callable[[], object]]:
    from tinygrad_attn.kernels.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

    y, z = softmax(x), log_softmax(x)
    return {
        "softmax": lambda: softmax(x),
        "softmax masked": lambda: softmax(x, mask),
        "softmax backward": lambda: softmax_backward(g, y),
        "log_softmax": lambda: log_softmax(x),
        "log_softmax backward": lambda: log_softmax_backward(g, z),
    }


def torch_functions(x: np.ndarray, g: np.ndarray, mask: np.ndarray) -> dict[str, Callable[[], object]]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    tx, tg, hidden = torch.from_numpy(x), torch.from_numpy(g), torch.from_numpy(~mask)
    y, z = torch.softmax(tx, -1), torch.log_softmax(tx, -1)
    return {
        "softmax": lambda: torch.softmax(tx, -1),
        "softmax masked": lambda: torch.softmax(tx.masked_fill(hidden, -torch.inf), -1),
        "softmax backward": lambda: torch._softmax_backward_data(tg, y, -1, torch.float32),
        "log_softmax": lambda: torch.log_softmax(tx, -1),
        "log_softmax backward": lambda: torch._log_softmax_backward_data(tg, z, -1, torch.float32),
    }


def fastest(function: Callable[[], object]) -> float:
    """Seconds of the fastest call within `SECONDS`, after the calls that compile and warm up."""
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def work(library: str) -> None:
    """Print the times of one library as JSON."""
    functions = {"ours": our_functions, "torch": torch_functions}[library]
    rng, times = np.random.default_rng(0), {}
    for shape in SHAPES:
        x, g = rng.standard_normal((2, *shape), np.float32)
        mask = rng.random(shape) < 0.9
        times[str(shape)] = {name: fastest(function) for name, function in functions(x, g, mask).items()}
    print(json.dumps(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--library", choices=["ours", "torch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library:
        work(options.library)
        return
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    rounds: dict[str, list[dict[str, dict[str, float]]]] = {"ours": [], "torch": []}
    for _ in range(options.rounds):
        for library, results in rounds.items():
            command = [sys.executable, __file__, "--library", library]
            finished = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            results.append(json.loads(finished.stdout))
    print(f"float32, {threads} threads, median of {options.rounds} rounds")
    print(f"{'shape':>20} {'function':<22} {'ours':>12} {'torch':>12} {'ratio':>6}")
    for shape in map(str, SHAPES):
        for name in rounds["ours"][0][shape]:
            ours, theirs = (statistics.median(one[shape][name] for one in results) for results in rounds.values())
            print(f"{shape:>20} {name:<22} {ours * 1e6:>9.1f} us {theirs * 1e6:>9.1f} us {theirs / ours:>6.2f}")


if __name__ == "__main__":
    main()
