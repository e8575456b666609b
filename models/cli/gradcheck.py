"""The table of ``python -m models gradcheck``: every op, its formula, and how far its derivatives are from true."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

import tinygrad_attn  # noqa: F401  registers the ops
from tinygrad_attn.check import CheckError, OpReport, check_op
from tinygrad_attn.op import Op, registered_ops

__all__ = ["UnknownOp", "choose_ops", "print_reports"]


class UnknownOp(ValueError):
    """No op has that name."""


def choose_ops(names: Sequence[str]) -> list[Op]:
    """The ops of these names, or all of them, by name.

    Raises:
        UnknownOp: no op has a name; the message suggests the nearest.
    """
    ops = registered_ops()
    for name in names:
        if name not in ops:
            near = difflib.get_close_matches(name, ops, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(ops))}"
            raise UnknownOp(f"no op is named {name!r}; {hint}")
    return [ops[name] for name in names or sorted(ops)]


def print_reports(ops: Sequence[Op], samples: int, seed: int) -> bool:
    """Check each op and print a line about it; failures go to stderr in full, below the table.

    Returns:
        Whether all checks hold.
    """
    width = max(len(op.name) for op in ops)
    print(f"{'op':<{width}}  {'gradient':>8}  {'double':>8}  {'kernel':>8}  formula")
    failures = []
    for op in ops:
        try:
            report = check_op(op, samples, seed)
        except CheckError as error:
            failures.append(str(error))
            print(f"{op.name:<{width}}  {'FAILED':>8}  {'':>8}  {'':>8}  {op.formula}", flush=True)
        else:
            print(f"{op.name:<{width}}  {_errors(op, report)}  {op.formula}", flush=True)
    print(
        f"\n{len(ops) - len(failures)} of {len(ops)} ops pass, {samples} samples each. Worst |found - expected| / "
        "(1 + |expected|)\nof the gradient and the double gradient against central differences in float64, and of the "
        "kernel against\nthe rule it stands for."
    )
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return not failures


def _errors(op: Op, report: OpReport) -> str:
    """The three columns of numbers; a dash where an op has no derivative, or nothing that stands for its rules."""
    differentiable = bool(op.rules)
    fused = op.reference is not None or op.joint_kernel is not None or any(r.kernel for r in op.rules.values())
    columns = (
        (report.gradient, differentiable),
        (report.double_gradient, differentiable),
        (report.kernel, differentiable and fused),
    )
    return "  ".join(f"{error:8.1e}" if applies else f"{'–':>8}" for error, applies in columns)
