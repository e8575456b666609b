"""Timing functions against each other, each in a process of its own, in turns.

Two libraries in one process fight for the cores with two pools of threads, and what runs first warms or trashes the
caches for what runs next; a machine that others use too has fast and slow minutes. So every candidate gets its own
process, candidates take turns round after round, and the best time of all rounds counts.

A benchmark is a script that calls `compare` with its candidates, functions that map a case to a callable::

    compare(__file__, {"ours": prepare_ours, "numpy": prepare_numpy}, cases={"small": 16, "large": 1024})
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["best_time", "compare", "run_in_process"]

_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def best_time(function: Callable[[], Any], seconds: float) -> float:
    """Seconds of one call: the best of many batches of calls, each of at least half a millisecond or one call."""
    function()
    start = time.perf_counter()
    function()
    once = max(time.perf_counter() - start, 1e-7)
    calls, best, end = max(1, math.ceil(5e-4 / once)), math.inf, start + seconds
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        stop = time.perf_counter()
        best = min(best, (stop - start) / calls)
        if stop > end:
            return best


def compare(
    script: str,
    candidates: Mapping[str, Callable[[Any, str], Callable[[], Any]]],
    cases: Mapping[str, Any],
    work: Mapping[str, float] | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
) -> None:
    """Time every candidate on every case and print one table for each number of threads and dtype.

    Args:
        script: The benchmark's own ``__file__``, run again for each measurement.
        candidates: name -> prepare(case, dtype), which returns the callable to time. The first is the one to judge.
        cases: name -> what ``prepare`` gets.
        work: name -> floating point operations of the case, to print rates.
        dtypes: what ``--dtype`` may be; the first is the default.
    """
    parser = argparse.ArgumentParser(description=f"Time {' against '.join(candidates)}.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of: {', '.join(cases)} (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", choices=dtypes, default=dtypes[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="for one case in one round")
    parser.add_argument("--measure", metavar="CANDIDATE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted(set(options.cases) - set(cases))
    if unknown:
        parser.error(f"unknown case {unknown[0]!r}; cases are {', '.join(cases)}")
    names = options.cases or list(cases)

    if options.measure:
        prepare = candidates[options.measure]
        print(json.dumps({name: best_time(prepare(cases[name], options.dtype), options.seconds) for name in names}))
        return
    for threads in options.threads:
        best = {candidate: dict.fromkeys(names, math.inf) for candidate in candidates}
        for _ in range(options.rounds):
            for candidate in candidates:
                for name, seconds in _measure_in_process(script, candidate, names, threads, options).items():
                    best[candidate][name] = min(best[candidate][name], seconds)
        print(f"\n{options.dtype}, {threads} thread{'s' * (threads > 1)}, best of {options.rounds} rounds")
        _print_table(best, names, work or {})


def _measure_in_process(
    script: str, candidate: str, names: Sequence[str], threads: int, options: argparse.Namespace
) -> dict[str, float]:
    arguments = [*names, "--measure", candidate, "--dtype", options.dtype, "--seconds", str(options.seconds)]
    return run_in_process(script, arguments, threads)


def run_in_process(script: str, arguments: Sequence[str], threads: int) -> Any:
    """Run a benchmark's script with so many threads: what it prints as JSON on its last line."""
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _print_table(best: Mapping[str, Mapping[str, float]], names: Sequence[str], work: Mapping[str, float]) -> None:
    first, *others = best
    width = max(map(len, names))
    heads = [f"{candidate:>28}" for candidate in best] + [f"{other + '/' + first:>14}" for other in others]
    print(" " * width, *heads)
    for name in names:
        cells = []
        for times in best.values():
            rate = f"{work[name] / times[name] / 1e9:6.0f} GFLOP/s" if name in work else ""
            cells.append(f"{times[name] * 1e6:10.1f} us{rate:>15}".rjust(28))
        ratios = [f"{best[other][name] / best[first][name]:14.2f}" for other in others]
        print(f"{name:<{width}}", *cells, *ratios)
