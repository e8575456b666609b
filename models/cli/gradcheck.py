"""Check the derivatives of all ops, or of some, against finite differences."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..console.counts import counted
from ..console.errors import CHECK_FAILED, CommandError
from ..console.suggest import hint
from .options import positive, seed

if TYPE_CHECKING:
    from tinygrad_attn.check import OpReport
    from tinygrad_attn.op import Op

NEEDS = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `parser.Command`."""
    parser.add_argument("ops", metavar="OP", nargs="*", default=[], help="the name of an op (default: all)")
    parser.add_argument(
        "--samples", metavar="N", type=positive, default=10, help="random samples of each op (default: 10)"
    )
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="the seed of the samples (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Print a table: every op, its formula, and the worst errors of its derivatives."""
    return 0 if _print_reports(_choose_ops(arguments.ops), arguments.samples, arguments.seed) else CHECK_FAILED


def _choose_ops(names: Sequence[str]) -> list[Op]:
    """The ops of these names, or all of them, by name."""
    import tinygrad_attn

    ops = tinygrad_attn.registered_ops()
    for name in names:
        if name not in ops:
            raise CommandError(f"no op is named {name!r}; {hint(name, sorted(ops), 3)}")
    return [ops[name] for name in names or sorted(ops)]


def _print_reports(ops: Sequence[Op], samples: int, seed: int) -> bool:
    """Check each op and print a line about it; error messages go to stderr, after the table.

    Returns:
        Whether all checks pass.
    """
    from tinygrad_attn.check import CheckError, check_op

    from ..console.working import working

    width = max(len(op.name) for op in ops)
    print(f"{'op':<{width}}  {'gradient':>8}  {'double':>8}  {'kernel':>8}  formula")
    failures = []
    for op in ops:
        try:
            with working(f"checking {op.name} with {counted(samples, 'sample')}"):
                report = check_op(op, samples, seed)
        except CheckError as error:
            failures.append(str(error))
            print(f"{op.name:<{width}}  {'FAILED':>8}  {'':>8}  {'':>8}  {_formula(op)}", flush=True)
        else:
            print(f"{op.name:<{width}}  {_errors(op, report)}  {_formula(op)}", flush=True)
    print(
        f"\n{len(ops) - len(failures)} of {len(ops)} ops pass, {samples} samples each. Worst |found - expected| / "
        "(1 + |expected|)\nof the gradient and the double gradient against central differences in float64, and of the "
        "kernel against\nthe rule it replaces."
    )
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return not failures


def _formula(op: Op) -> str:
    """The forward's formula; for a loop also the name of its step."""
    return op.formula if op.step is None else f"{op.formula} (the loop of {op.step.name})"


def _errors(op: Op, report: OpReport) -> str:
    """The three columns of numbers; a dash where an op has no derivative, or no kernel."""
    differentiable = bool(op.differentiable)
    fused = op.reference is not None or op.joint_kernel is not None or any(r.kernel for r in op.rules.values())
    columns = (
        (report.gradient, differentiable),
        (report.double_gradient, differentiable),
        (report.kernel, differentiable and fused),
    )
    return "  ".join(f"{error:8.1e}" if applies else f"{'–':>8}" for error, applies in columns)
