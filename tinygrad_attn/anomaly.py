"""detect_anomaly: raises at the first value that is not finite, and names the op that made it."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_attn.modes import BareMode, Observer, current_modes
from tinygrad_attn.op import Op, node_of
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Node, Tensor

__all__ = ["detect_anomaly", "module_path", "source_line"]

_PACKAGE = str(Path(__file__).parent)


def source_line() -> str:
    """``file:line`` of the innermost call from outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def module_path() -> str:
    """The running module's path from the outermost one, ``"Translator.encoder.gru"``; empty outside any module."""
    modules = current_modes().modules
    if not modules:
        return ""
    path = [type(modules[0]).__name__]
    for outer, inner in itertools.pairwise(modules):
        path.append(next((name for name, module in outer.named_modules() if module is inner), type(inner).__name__))
    return ".".join(path)


def _bad(array: Any) -> str:
    """The first element that is not finite, with its index; empty if all are finite."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    index = np.unravel_index(np.argmin(np.isfinite(array)), array.shape)
    return f"{array[index]} at {tuple(map(int, index))} of shape {array.shape}"


class _Detector(Observer):
    """Raises at the first op, forward or backward, whose inputs are finite and whose result is not."""

    def __init__(self) -> None:
        self.sites: dict[int, str] = {}

    def forward(
        self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Tensor, ...]
    ) -> None:
        module = module_path()
        site = f"{op.name} called at {source_line()}" + (f" in module {module}" if module else "")
        node = node_of(outputs)
        if node is not None:
            self.sites[node.number] = site
        if any(_bad(operand.array) for operand in operands if isinstance(operand, Tensor)):
            return
        if any(isinstance(n, float) and not math.isfinite(n) for n in (*operands, *options.values())):
            return  # asked for, as in masked_fill(mask, -inf)
        for output in outputs:
            complaint = _bad(output.array)
            if complaint:
                raise RuntimeError(f"detect_anomaly: forward made {complaint}, by {site}")

    def backward(self, node: Node, position: int, gradient: Any) -> None:
        complaint = _bad(gradient.array if isinstance(gradient, Tensor) else gradient)
        if complaint:
            site = self.sites.get(node.number, f"{node.op.name} called before detect_anomaly()")
            name = node.op.operand_name(position)
            raise RuntimeError(f"detect_anomaly: backward made {complaint}, as the gradient for {name} by {site}")


@public("ta")
class detect_anomaly(BareMode):
    """Raise where a NaN or an infinity first appears, forward or backward, inside this context.

    The error names the op, the module it ran in and the source line that called it. Every result is checked, so this
    is slow: a tool for debugging. Unrecorded writes in place (no gradient flows through them) are not checked.

    Raises:
        RuntimeError: a value that is not finite was made from finite ones.
    """

    def __init__(self) -> None:
        super().__init__("observers", lambda outside: (*outside, _Detector()))
