"""The tape: a row for each op of the forward pass, with norms and states but no arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_attn.record import Call, Leaf, Output, gradient_state

from .schema import State, TapeOp
from .sites import AttentionSite
from .trace import Traced

__all__ = ["norm", "ops_of", "tape_of"]

Array = np.ndarray[Any, Any]

_ROOT = str(Path(__file__).parents[3]) + os.sep
_INSTALLED = "tinygrad_attn_models" + os.sep


def tape_of(traced: Traced, sites: Sequence[AttentionSite]) -> tuple[list[str], list[str], list[TapeOp]]:
    """The modules, the source lines, and a row for each op of the forward pass."""
    names: dict[int, str] = {id(leaf): name for name, leaf in traced.parameters().items()}
    made = _made(sites)
    modules: dict[str, int] = {}
    lines: dict[str, int] = {}
    tape: list[TapeOp] = []
    for call in traced.calls:
        value = call.values[0]
        row: TapeOp = {
            "op": traced.name(call.op),
            "module": modules.setdefault(call.module, len(modules)),
            "step": call.step,
            "line": lines.setdefault(call.line.removeprefix(_ROOT), len(lines)),
            "shape": list(value.shape),
            "dtype": value.dtype.name,
            "norm": norm(*call.values) if value.dtype.kind == "f" else None,
            "gradient_norm": _gradient_norm(call),
            "state": _state(call),
            "inputs": [_input(traced, source, names) for source in call.inputs],
            "edges": [
                norm(call.contributions[position]) if position in call.contributions else None
                for position in range(len(call.inputs))
            ],
        }
        if call in made:
            row["site"], row["tensor"] = made[call]
        tape.append(row)
    return list(modules), [_short(line) for line in lines], tape


def ops_of(traced: Traced) -> dict[str, dict[str, Any]]:
    """The formulas of the ops that ran, by name."""
    ran = {call.op for call in traced.calls}
    found = {
        traced.name(op): {"latex": op.formula, "vjp": dict(derivatives)}
        for op, derivatives in traced.derivatives.items()
        if op in ran
    }
    return dict(sorted(found.items()))


def norm(*arrays: Array) -> float:
    """The Euclidean norm of all elements of the arrays."""
    return float(np.sqrt(np.sum([np.sum(array * array) for array in arrays])))


def _made(sites: Sequence[AttentionSite]) -> dict[Call, tuple[str, str]]:
    """The site and the tensor that a call makes. Queries, keys and values are left out: they are inputs of the site."""
    made: dict[Call, tuple[str, str]] = {}
    for site in sites:
        for name, quantity in site.quantities.items():
            if name not in ("Q", "K", "V"):
                for call in quantity.calls():
                    made.setdefault(call, (site.id, name))
    return made


def _short(line: str) -> str:
    """The source line as in a checkout, also where the package is installed; only a file's name if it is elsewhere."""
    if os.path.isabs(line):
        return os.path.basename(line)
    return line.replace(_INSTALLED, "models" + os.sep, 1) if line.startswith(_INSTALLED) else line


def _input(traced: Traced, source: Output | Leaf | None, names: dict[int, str]) -> int | str | None:
    source = traced.maker(source)
    if isinstance(source, Output):
        return traced.numbers[source.call]
    return None if source is None else names.get(id(source))


def _gradient_norm(call: Call) -> float | None:
    arrived = [gradient for gradient in call.gradients if gradient is not None]
    return norm(*arrived) if arrived else None


def _state(call: Call) -> State:
    """The state of all outputs together: the op has a gradient if one of them has."""
    states = {gradient_state(gradient) for gradient in call.gradients}
    return next(state for state in ("nan", "value", "zero", "none") if state in states)  # type: ignore[return-value]
