"""The graph that a forward pass leaves behind: its nodes, what they keep, and the modes that decide whether it is written.

A *node* is one call of an op. Its *edges* lead to the nodes (or leaf tensors) that made the operands, so the graph points
backwards, from the loss to the parameters. A node keeps what its derivative rules name in their arguments and no more.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from tinygrad_attn.op import Op
    from tinygrad_attn.tensor import Tensor

__all__ = ["Node", "Observer", "Storage", "enable_grad", "is_grad_enabled", "no_grad", "observe", "set_grad_enabled"]

_numbers = itertools.count()


class Storage:
    """What all views of one array share: how often it was written in place, by whom, and who looks at it."""

    __slots__ = ("tensors", "version", "writer")

    def __init__(self) -> None:
        self.version = 0
        self.writer = ""
        # Filled once a view exists; weak, since a tensor must not live on because somebody looked at its memory.
        self.tensors: weakref.WeakSet[Tensor] | None = None

    def written_by(self, writer: str) -> None:
        """Note a write in place by ``writer``, so that a backward over an older saved value can name it."""
        self.version += 1
        self.writer = writer


class Node:
    """One call of an op in the graph.

    Attributes:
        op: the op that was called.
        edges: for every operand where its gradient goes: ``(node, output index)``, a leaf tensor, or None.
        saved: what the rules need, by name: ``(value, version)`` for an operand, the outputs' ``(array, storage, version)``
            for ``z``, and as they are the rest.
        options: the op's options, defaults filled in.
        outputs: shape and dtype of each output.
        number: the creation number; backward takes the newest first.
        hooks: gradient hooks of each output, by output index.
        retained: weak references to the outputs that keep their gradient in ``.grad``, by output index.
        freed: whether a backward has passed and dropped what was saved.
    """

    __slots__ = ("__weakref__", "edges", "freed", "hooks", "number", "op", "options", "outputs", "retained", "saved")

    def __init__(
        self,
        op: Op,
        edges: list[Any],
        saved: dict[str, Any],
        options: Mapping[str, Any],
        outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...],
    ) -> None:
        self.op = op
        self.edges = edges
        self.saved = saved
        self.options = options
        self.outputs = outputs
        self.number = next(_numbers)
        self.hooks: dict[int, list[Callable[[Tensor], Tensor | None]]] | None = None
        self.retained: dict[int, weakref.ref[Tensor]] | None = None
        self.freed = False

    def __repr__(self) -> str:
        return f"<{self.op.name} backward, node {self.number}>"

    def release(self) -> None:
        """Drop what was kept for the derivative; a second backward that needs it then raises."""
        if self.saved:
            self.saved = {}
            self.freed = True


class Observer(Protocol):
    """Sees every op as it runs; `record` and `detect_anomaly` are observers."""

    def forward(self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Tensor, ...]) -> None:
        """An op has run: its operands as they were given, all its options, and its outputs."""

    def backward(self, node: Node, operand: int, gradient: Any) -> None:
        """A node has sent ``gradient`` (array or tensor, not yet summed) along the edge of its operand ``operand``."""


class _Modes(threading.local):
    """The modes of the calling thread."""

    grad = True
    unfused = False
    observers: tuple[Observer, ...] = ()


modes = _Modes()


def is_grad_enabled() -> bool:
    """Whether ops called in this thread are written into the graph."""
    return modes.grad


class set_grad_enabled(contextlib.ContextDecorator):  # noqa: N801  PyTorch's name
    """Write ops into the graph or not, in this thread, within ``with`` or a decorated function."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(modes.grad)
        modes.grad = self.mode

    def __exit__(self, *exception: object) -> None:
        modes.grad = self._before.pop()


class no_grad(set_grad_enabled):  # noqa: N801  PyTorch's name
    """Leave the graph alone: results do not require a gradient."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):  # noqa: N801  PyTorch's name
    """Write the graph again inside ``no_grad()``."""

    def __init__(self) -> None:
        super().__init__(True)


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Run the reference in primitives in place of each fused op, so that every step can be seen and differentiated."""
    before, modes.unfused = modes.unfused, True
    try:
        yield
    finally:
        modes.unfused = before


@contextlib.contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Show every op of this thread, forward and backward, to ``observer``."""
    before, modes.observers = modes.observers, (*modes.observers, observer)
    try:
        yield
    finally:
        modes.observers = before
