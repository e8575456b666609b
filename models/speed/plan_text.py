"""A plan as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..console.counts import clock, counted
from ..console.tables import plain_table
from ..memory import machine_memory, readable
from ..training.estimate import COPIES
from .plan import OnRanks, Plan

__all__ = ["describe_plan"]

_BYTES_OF_PARAMETER = 4 * COPIES
_DAY, _YEAR = 86_400.0, 365.25 * 86_400.0
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def describe_plan(plan: Plan) -> str:
    """The plan as text, with what its numbers assume."""
    return "\n".join([*_model(plan), "", *_memory(plan), *_ways(plan), "", *_time(plan), *_machines(plan)])


def _model(plan: Plan) -> list[str]:
    rows = [[name, f"{count:,}", f"{100 * count / plan.parameters:.1f} %"] for name, count in plan.parts.items()]
    return [f"{plan.name}: {plan.parameters:,} parameters", "", plain_table(["part", "parameters", "share"], rows)]


def _memory(plan: Plan) -> list[str]:
    memory, about = plan.memory, "about " if plan.beyond else ""
    lines = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "Adam's moments": memory.moments,
        f"{about}activations of the largest batch, {plan.largest}": memory.activations,
        "a step at its peak, gradients and activations among it": memory.step,
        "Python, NumPy and compiled kernels": memory.process,
        f"the process at its peak, of {readable(machine_memory())}": memory.peak,
    }
    return [plain_table(["memory", ""], [[name, readable(size)] for name, size in lines.items()])]


def _ways(plan: Plan) -> list[str]:
    """That training does not fit, and what would; nothing if it does."""
    if plan.beyond is None:
        return []
    rows = [[way.settings, readable(way.process_bytes), "yes" if way.fits else "no"] for way in plan.beyond.ways]
    there = readable(plan.beyond.machine_bytes)
    lines = ["", f"This does not fit into the {there} of this machine. About what it would take with", ""]
    lines.append(plain_table(["settings", "a process", "fits"], rows))
    if not any(way.fits for way in plan.beyond.ways):
        fixed = readable(plan.memory.weights + plan.memory.gradients)
        most = plan.beyond.machine_bytes // _BYTES_OF_PARAMETER
        lines += [
            "",
            f"None of these fits: every process holds all weights and gradients, {fixed}. A machine of {there} trains "
            f"a model of at most {most:,} parameters.",
        ]
    return lines


def _time(plan: Plan) -> list[str]:
    operations = plan.forward + plan.backward
    on = counted(plan.threads, "thread")
    lines = [
        ["operations of a step's matrix products", _count(operations)],
        ["of those forward", _count(plan.forward)],
        [f"a step, {on}", _seconds(plan.step_s)],
        ["rate", f"{operations / plan.step_s / 1e9:.3g} GFLOP/s"],
    ]
    if plan.epochs:
        lines.insert(2, ["an epoch's", _count(operations * plan.steps)])
        lines += [
            [f"an epoch, {counted(plan.steps, 'step')} of {_batch(plan)}", _seconds(plan.epoch_s)],
            ["the first, with shapes that are new", _seconds(plan.first_epoch_s)],
            ["measuring on the validation set after it", _seconds(plan.measuring_s)],
            [f"all {counted(plan.epochs, 'epoch')}", _seconds(plan.training_s)],
        ]
    notes = "Compiling kernels, once on a machine, reading the text and the final test come on top."
    if plan.beyond is not None:
        notes += (
            f" Estimated, if there were the memory, from steps of a model of {plan.beyond.measured_parameters:,} "
            f"parameters, with {plan.beyond.measured_on}."
        )
    return [plain_table(["time", ""], lines), "", notes]


def _batch(plan: Plan) -> str:
    batches = f"{plan.batches} batches, " if plan.batches > 1 else ""
    return f"{batches}{plan.typical} {plan.unit}"


def _machines(plan: Plan) -> list[str]:
    if not plan.same_batch:
        return []
    return [
        "",
        f"Several machines like this one, each with a share of every batch of {plan.typical.rows} {plan.unit}:",
        "",
        _table(plan, plan.same_batch),
        "",
        f"Each with a batch of {plan.typical.rows} {plan.unit}, so that a step has N times as many:",
        "",
        _table(plan, plan.larger_batch),
        "",
        f"Assumed: the ranks sum all gradients, {readable(plan.memory.gradients)} of float32, by a ring: 2 (N - 1) "
        f"messages of a N-th each, each with a latency of {plan.latency_s * 1e6:g} µs. Buckets become ready evenly "
        "over the backward pass, which hides the sums but for the last. The machines and the network are as fast for "
        "all at once.",
    ]


def _table(plan: Plan, rows: Sequence[OnRanks]) -> str:
    columns = {
        "machines": [str(row.ranks) for row in rows],
        "Gbit/s": [f"{row.gigabits:g}" for row in rows],
        plan.unit: [str(row.rows) for row in rows],
        "step": [_seconds(row.step_s) for row in rows],
        **({"epoch": [_seconds(row.epoch_s) for row in rows]} if plan.epochs else {}),
        "speed-up": [f"{row.speedup:.2f}" for row in rows],
        "waiting": [f"{100 * row.communication:.0f} %" for row in rows],
        "memory": [readable(row.process_bytes) for row in rows],
    }
    return plain_table(list(columns), list(zip(*columns.values(), strict=True)))


def _seconds(seconds: float) -> str:
    if seconds >= 2 * _YEAR:
        return f"{seconds / _YEAR:,.3g} years"
    if seconds >= 2 * _DAY:
        return f"{seconds / _DAY:.3g} days"
    if seconds >= 60.0:
        return clock(seconds)
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{seconds * 1e3:.3g} ms"


def _count(number: float) -> str:
    """A count of operations, as in "3.2 GFLOP"."""
    power = 0
    while number >= 1000 and power < len(_PREFIXES) - 1:
        number /= 1000
        power += 1
    return f"{number:.3g} {_PREFIXES[power]}FLOP"
