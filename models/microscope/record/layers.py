"""The whole layer: how much of the gradient passes each residual connection, each sublayer, each norm, through all
layers down to the embeddings.

A sublayer F adds to its input: y = x + F(x), with a norm in F (pre-norm) or around the sum (post-norm). Backward,
ȳ arrives at x twice: as it is, past the sublayer, and as F'ᵀ ȳ through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_attn.record import Mark

from .example import Example, name_of
from .parameters import blocks_of
from .tape import norm
from .trace import Traced
from .uses import ParameterUses
from .views import Layers, Part, Stack, Sublayer

__all__ = ["Passed", "described_layers", "find_passed"]

Array = np.ndarray[Any, Any]


@dataclass
class Passed:
    """The announcements of one sublayer with a residual connection."""

    skip: Mark
    branch: Mark
    residual: Mark | None = None
    norms: list[Mark] = field(default_factory=list)
    """In order: before the residual those inside the sublayer, after it the one around the sum."""
    attending: list[str] = field(default_factory=list)
    """The modules that announced queries inside."""

    @property
    def total(self) -> Array:
        """The gradient of the input: of both ways."""
        return gradient_of(self.skip) + gradient_of(self.branch)

    @property
    def norm_first(self) -> bool | None:
        """Whether the norm is inside, before the residual; None without a norm."""
        if not self.norms or self.residual is None:
            return None
        return self.norms[0].source.call.index < self.residual.source.call.index

    @property
    def output(self) -> Mark | None:
        """What leaves the layer: the norm of the sum, or the sum."""
        return self.norms[-1] if self.norm_first is False else self.residual


def gradient_of(mark: Mark) -> Array:
    """The gradient through an announced tensor; zeros if none arrived."""
    gradient = mark.source.gradient
    return np.zeros_like(mark.source.value) if gradient is None else gradient


def find_passed(traced: Traced) -> list[Passed]:
    """The sublayers with a residual connection, in the order of the forward pass."""
    found: list[Passed] = []
    skip: Mark | None = None
    for mark in traced.record.marks:
        if mark.name == "skip":
            skip = mark
        elif mark.name == "branch" and skip is not None:
            found.append(Passed(skip, mark))
            skip = None
        elif found and _is_inside(mark.module, found[-1].branch.module):
            last = found[-1]
            if mark.name == "residual" and last.residual is None:
                last.residual = mark
            elif mark.name == "norm" and mark.source.value.shape == last.branch.source.value.shape:
                last.norms.append(mark)
            elif mark.name == "query" and last.residual is None:
                last.attending.append(mark.module)
    return [each for each in found if each.residual is not None]


def _is_inside(module: str, layer: str) -> bool:
    return module == layer or module.startswith(f"{layer}.")


def described_layers(traced: Traced, parameters: Sequence[ParameterUses], example: Example) -> Layers | None:
    """The JSON; None of a model that announces no residual connections."""
    stacks: dict[str, Stack] = {}
    passed = find_passed(traced)
    for each in passed:
        name = each.branch.module.rpartition(".layers.")[0].rpartition(".")[2] or type(traced.model).__name__
        stacks.setdefault(name, {"name": name, "sublayers": []})["sublayers"].append(
            _sublayer(traced, each, parameters)
        )
    if not stacks:
        return None
    kinds = {each.norm_first for each in passed} - {None}
    return {
        "run": name_of(example.run),
        "model": type(traced.model).__name__,
        "loss": float(traced.loss.values[0]),
        "norm_first": kinds.pop() if len(kinds) == 1 else None,
        "stacks": list(stacks.values()),
    }


def _sublayer(traced: Traced, passed: Passed, parameters: Sequence[ParameterUses]) -> Sublayer:
    skip, branch, total = gradient_of(passed.skip), gradient_of(passed.branch), passed.total
    size = float(np.sum(total * total))
    assert passed.residual is not None
    around: tuple[Mark, Mark] | None = None
    if passed.norm_first is not None:  # the norm's input, and its output
        around = (passed.branch if passed.norm_first else passed.residual, passed.norms[0 if passed.norm_first else -1])
    return {
        "module": passed.branch.module,
        "sublayer": str(passed.branch.details.get("sublayer", "")),
        "input": norm(passed.skip.source.value),
        "added": norm(passed.residual.source.value - passed.skip.source.value),
        "arrives": norm(gradient_of(passed.residual)),
        "total": norm(total),
        "skip": norm(skip),
        "branch": norm(branch),
        "skip_share": float(np.sum(skip * total)) / size if size else 0.0,
        "branch_share": float(np.sum(branch * total)) / size if size else 0.0,
        "norm_input": None if around is None else norm(gradient_of(around[0])),
        "norm_output": None if around is None else norm(gradient_of(around[1])),
        "parts": [part for module in passed.attending for part in _parts(traced, module, parameters)],
    }


def _parts(traced: Traced, module: str, parameters: Sequence[ParameterUses]) -> Iterator[Part]:
    """What comes to the inputs of attention through W^Q, W^K and W^V: q̄ W^Q, and so on."""
    name = f"{module.partition('.')[2]}.in_proj_weight"
    parameter = next((each for each in parameters if each.name == name), None)
    if parameter is None:
        return
    for block in blocks_of(traced, parameter):
        first, end = block["rows"]
        for use in parameter.uses:
            if use.left is not None and use.rows is not None and use.rows[0] <= first and end <= use.rows[1]:
                left = use.left[:, first - use.rows[0] : end - use.rows[0]]
                yield {"name": block["name"], "norm": norm(left @ parameter.leaf.value[first:end])}
