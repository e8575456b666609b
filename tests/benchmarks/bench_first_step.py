"""Seconds of each workload's first training step, from an empty cache of compiled kernels and from a full one::

    python tests/benchmarks/bench_first_step.py [WORKLOAD …]

The first is what someone waits for once on a machine, the second once in every process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from tinygrad_attn_models.speed.workloads import WORKLOADS


def first_step(workload: str, cache: str) -> float:
    command = [sys.executable, "-m", "models", "bench", workload, "--json", "--seconds", "0"]
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["first_step_s"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time first training steps from an empty and from a full cache.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"some of: {', '.join(WORKLOADS)}")
    names = parser.parse_args().workloads or list(WORKLOADS)
    print(f"{'workload':<20}{'empty cache':>14}{'full cache':>14}")
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            empty, full = first_step(name, cache), first_step(name, cache)
        print(f"{name:<20}{empty:>12.1f} s{full:>12.2f} s", flush=True)


if __name__ == "__main__":
    main()
