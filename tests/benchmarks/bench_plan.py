"""What ``plan`` says beside what training takes: seconds of a step, in a later epoch and in the first, seconds in which
the model is measured after an epoch, and the peak of memory.

    python tests/benchmarks/bench_plan.py [CASE …] [--threads 2] [--steps 150] [--clock wall]

A case is a config with overrides after blanks, or a workload. Prediction and measurement are processes of their own, in
turn. Measured are the steps of the fourth epoch, or as many of a workload's; those before are taken, too, since in them
shapes are new. The first step of all, which compiles, is left out. A workload has one shape, and no epochs. With
``--clock processor`` and one thread both sides count processor time, for a machine that others use, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
import types

from harness import run_in_process
from tinygrad_attn_models.console.working import quietly
from tinygrad_attn_models.speed import calibration
from tinygrad_attn_models.speed.memory import peak_memory
from tinygrad_attn_models.speed.plan import PlanOptions, make_plan
from tinygrad_attn_models.speed.subject import ConfigSubject, Subject, find_subject

import tinygrad_attn as ta

CASES = (
    "dates data.train_size=4000",
    "dates data.train_size=4000 model.name=transformer model.d_model=64 model.heads=4 model.d_ff=128 "
    "model.encoder_layers=2 model.decoder_layers=2",
    "copy-luong-dot data.train_size=6000",
    "gpt data.epoch_windows=1200",
    "bahdanau-small",
    "transformer-small",
    "transformer-m30k",
    "bahdanau-m30k",
    "luong-m30k",
    "gpt-char",
    "gpt-char-large",
)


def subject_of(case: str) -> Subject:
    name, *overrides = case.split()
    return find_subject(name, overrides)


def predicted(case: str, seconds: float) -> dict[str, float]:
    plan = make_plan(subject_of(case), PlanOptions(seconds=seconds))
    found = dataclasses.asdict(plan)
    return {
        "step_s": plan.step_s,
        "first_s": plan.first_epoch_s / max(1, found["steps"]),
        "after_s": plan.measuring_s,
        "memory": plan.memory.peak / (1 << 20),
        "gflop": (plan.forward + plan.backward) / 1e9,
    }


def measured(case: str, steps: int, clock) -> dict[str, float]:
    subject = subject_of(case)
    passed = []
    for epoch in range(4):
        groups = subject.groups(epoch)
        if not subject.epochs:  # a workload has one batch
            groups = itertools.repeat(next(groups), steps)
        began = None
        count = 0
        for group in itertools.islice(groups, steps):
            if began is None and (epoch or count):  # not the very first step, which compiles
                began, count = clock(), 0
            subject.step(*group)
            count += 1
        passed.append((clock() - began) / count)
    memory, after = peak_memory(), 0.0
    if isinstance(subject, ConfigSubject):
        for _ in range(2):  # the first compiles
            began = clock()
            subject.validation.row(subject.model)
            after = clock() - began
    return {"step_s": passed[3], "first_s": passed[0], "after_s": after, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description="plan's figures beside measured ones.")
    parser.add_argument(
        "cases", metavar="CASE", nargs="*", help="a config with overrides, or a workload (default: all)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=150, help="of each epoch, at most")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which plan takes steps")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--side", choices=("predicted", "measured"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        clock = time.perf_counter if options.clock == "wall" else time.process_time
        ta.set_num_threads(options.threads)
        calibration.time = types.SimpleNamespace(perf_counter=clock)
        (case,) = options.cases
        with quietly():
            found = (
                predicted(case, options.seconds)
                if options.side == "predicted"
                else measured(case, options.steps, clock)
            )
        print(json.dumps(found))
        return
    print(f"{'':>32}{'ms a step':>22}{'first epoch, ms':>22}{'after an epoch, ms':>22}{'peak, MiB':>22}")
    print(f"{'':>32}" + f"{'plan':>8}{'real':>8}{'ratio':>6}" * 4)
    for case in options.cases or CASES:
        arguments = [case, "--threads", str(options.threads), "--clock", options.clock]
        arguments += ["--steps", str(options.steps), "--seconds", str(options.seconds)]
        plan, real = (
            run_in_process(__file__, [*arguments, "--side", side], options.threads)
            for side in ("predicted", "measured")
        )
        cells = []
        for key, factor in (("step_s", 1e3), ("first_s", 1e3), ("after_s", 1e3), ("memory", 1.0)):
            if not real["after_s"] and key in ("first_s", "after_s"):
                cells.append(" " * 22)
                continue
            cells.append(f"{plan[key] * factor:8.2f}{real[key] * factor:8.2f}{plan[key] / real[key]:6.2f}")
        name, *overrides = case.split()
        print(
            f"{' '.join([name, *(each.partition('.')[2] for each in overrides[:2])])[:31]:<32}{''.join(cells)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
