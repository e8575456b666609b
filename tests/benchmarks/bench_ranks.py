"""Training on several processes, beside one process, and beside PyTorch's DistributedDataParallel (gloo).

    python tests/benchmarks/bench_ranks.py [WORKLOAD ...] [--ranks 2] [--rounds 3] [--seconds 10] [--without-torch]

The total batch is the same for all; a rank has one thread. Each contender is timed in processes of its own, in turns,
and the best round counts. ``communication`` is the share of a step's time for which rank 0 exchanges gradients or waits
for those of others, which may be late; "fixed order" sums the gradients of shards in a fixed order
(``training.shards``), and "divided moments" divides what Adam remembers (``training.divided_moments``). ``MB`` is the
peak of the process that has most. Run it on a quiet machine, with a core for each rank.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import run_in_process
from steps import timed_steps

WORKLOADS = ("transformer-m30k", "bahdanau-m30k")
HERE = Path(__file__)
OURS = {"overlapped": "", "fixed order": "fixed", "divided moments": "divided"}


def rank_step(name: str, how: str) -> tuple[Callable[[], float], object]:
    """Our step on the ranks that mpirun has started."""
    from tinygrad_attn_models.parallel.fixed_order import FixedOrderSum
    from tinygrad_attn_models.parallel.moments import DividedAdam
    from tinygrad_attn_models.parallel.overlapped import OverlappedSum
    from tinygrad_attn_models.parallel.ranks import join
    from tinygrad_attn_models.speed.bench import CLIP_NORM, LEARNING_RATE
    from tinygrad_attn_models.speed.workloads import batch_loss, find_workload

    import tinygrad_attn as ta
    from tinygrad_attn.optim import Adam
    from tinygrad_attn.tensor import Tensor

    ranks = join()
    ta.manual_seed(0)
    workload = find_workload(name)
    model, batch = workload.make(), workload.batch()
    kind, share = type(batch), np.array(1.0 / ranks.size, np.float32)
    part = [Tensor(np.ascontiguousarray(each.array[ranks.rank :: ranks.size])) for each in batch]
    parameters = list(model.parameters())
    divided = how == "divided"
    adam = DividedAdam(parameters, ranks, lr=LEARNING_RATE) if divided else Adam(parameters, LEARNING_RATE)
    captured = ta.capture(lambda share, *tensors: batch_loss(model, kind(*tensors)) * share)
    overlapped = None if how == "fixed" else OverlappedSum(parameters, ranks)
    fixed = FixedOrderSum(parameters, ranks, ranks.size) if how == "fixed" else None

    def step() -> float:
        adam.zero_grad()
        losses = []
        if fixed is not None:
            fixed(lambda shard: losses.append(captured(Tensor(share), *part).item()))
        else:
            overlapped.expect()
            losses.append(captured(Tensor(share), *part).item())
            overlapped.finish()
        adam.step(clip_norm=CLIP_NORM)
        return sum(ranks.gathered(losses[0]))

    return step, ranks


def measure_rank(name: str, how: str, seconds: float) -> None:
    """Time our step on this rank; rank 0 prints a line of JSON."""
    from tinygrad_attn_models.speed.memory import peak_memory

    step, ranks = rank_step(name, how)
    spent: list[float] = []

    def timed() -> float:
        before = ranks.seconds
        loss = step()
        spent.append(ranks.seconds - before)
        return loss

    found = timed_steps(timed, seconds, lambda going_on: ranks.of_first(lambda: going_on))
    share = float(np.median(spent[3:])) * 1e3 / found["ms"]
    memory = max(ranks.gathered(peak_memory()))
    if ranks.first:
        print(json.dumps({**found, "memory": memory, "communication": share}))


def one_process(name: str, seconds: float) -> None:
    """Time our step in one process, as ``python -m models bench`` does."""
    from tinygrad_attn_models.speed.bench import TrainingStep
    from tinygrad_attn_models.speed.memory import peak_memory

    found = timed_steps(TrainingStep(name), seconds, lambda going_on: going_on)
    print(json.dumps({**found, "memory": peak_memory()}))


def with_mpirun(name: str, how: str, options: argparse.Namespace) -> dict[str, float]:
    """Our step on several ranks."""
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or "mpirun"
    command = [mpirun, "-n", str(options.ranks), sys.executable, str(HERE), name, "--measure", how or "overlapped"]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    finished = subprocess.run(
        [*command, "--seconds", str(options.seconds)], env={**os.environ, **allowed}, capture_output=True, text=True
    )
    if finished.returncode:
        raise SystemExit(finished.stderr)
    return json.loads(finished.stdout.splitlines()[-1])


def with_torch(name: str, options: argparse.Namespace) -> dict[str, float]:
    """PyTorch's step on several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(options.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE.with_name("torch_ranks.py")), name, str(options.seconds)]
    processes = []
    for rank in range(options.ranks):
        environment = {**os.environ, **common, **threads, "RANK": str(rank)}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("PyTorch's processes failed")
    return json.loads(outputs[0].splitlines()[-1])


def alone(name: str, threads: int, options: argparse.Namespace) -> dict[str, float]:
    """Our step in one process."""
    arguments = [name, "--measure", "one", "--seconds", str(options.seconds)]
    return run_in_process(str(HERE), arguments, threads)


def compare(name: str, options: argparse.Namespace) -> None:
    """Measure all contenders in turns, and print a table."""
    contenders: dict[str, Callable[[], dict[str, float]]] = {
        f"one process, {threads} thread{'s' * (threads > 1)}": lambda threads=threads: alone(name, threads, options)
        for threads in (1, options.ranks)
    }
    for label, how in OURS.items():
        contenders[f"{options.ranks} ranks, {label}"] = lambda how=how: with_mpirun(name, how, options)
    if not options.without_torch:
        contenders[f"{options.ranks} ranks, PyTorch DDP"] = lambda: with_torch(name, options)
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for label, run in contenders.items():
            found = run()
            if label not in best or found["ms"] < best[label]["ms"]:
                best[label] = found
    reference = best["one process, 1 thread"]["ms"]
    print(f"\n{name}, one batch on {options.ranks} ranks")
    print(f"{'':<34}{'ms':>9}{'speed-up':>10}{'communication':>15}{'MB':>8}{'first loss':>12}{'last':>10}")
    for label, found in best.items():
        share = f"{100 * found['communication']:.0f} %" if "communication" in found else ""
        print(
            f"{label:<34}{found['ms']:>9.1f}{reference / found['ms']:>10.2f}{share:>15}{found['memory']:>8.0f}"
            f"{found['first']:>12.6f}{found['last']:>10.5f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Training on several processes.")
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="WORKLOAD")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--measure", choices=["one", "overlapped", "fixed", "divided"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == "one":
        one_process(options.workloads[0], options.seconds)
    elif options.measure:
        measure_rank(options.workloads[0], options.measure, options.seconds)
    else:
        for name in options.workloads or WORKLOADS:
            compare(name, options)


if __name__ == "__main__":
    main()
