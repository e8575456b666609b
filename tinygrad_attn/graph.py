"""The graph that a forward pass leaves behind: its nodes, what they keep, and the modes that decide whether it is
written.

A *node* is one call of an op. Its *edges* lead to the nodes (or leaf tensors) that made the operands, so the graph
points backwards, from the loss to the parameters. A node keeps what its derivative rules name in their arguments and
no more.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from tinygrad_attn.op import Op
    from tinygrad_attn.rule import Plan
    from tinygrad_attn.tensor import Tensor

__all__ = [
    "Node", "Observer", "Place", "Storage", "Watch", "at_step", "enable_grad", "in_module", "is_grad_enabled", "modes",
    "no_grad", "observe", "set_grad_enabled", "unfused",
]  # fmt: skip

_numbers = itertools.count()

# Where a gradient goes: to a node with one output, to one of several outputs of a node, or to a leaf.
Place: TypeAlias = "Node | tuple[Node, int] | Tensor"


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
        plan: the op that was called and what follows from which of its operands required a gradient.
        edges: for every operand the `Place` its gradient goes to, or None.
        operands: the operands that the rules need, by position, None for the others; empty if they need none.
        versions: the version of each of ``operands`` at the time of the call; None if nobody had written to any.
        saved: what else the rules need, by name: the outputs' ``(array, storage, version)`` for ``z``, the rest as it
            is.
        options: the op's options, defaults filled in.
        outputs: shape and dtype of each output.
        number: the creation number; backward takes the newest first.
        watch: the hooks, and the tensors that keep their gradient, of each output; None where there are none.
        freed: whether a backward has passed and dropped what was saved.
    """

    __slots__ = ("edges", "freed", "number", "operands", "options", "outputs", "plan", "saved", "versions", "watch")

    def __init__(
        self,
        plan: Plan,
        edges: Sequence[Place | None],
        operands: tuple[Any, ...],
        versions: tuple[int, ...] | None,
        saved: dict[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self.plan = plan
        self.edges = edges
        self.operands = operands
        self.versions = versions
        self.saved = saved
        self.options = options
        self.outputs: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.number = next(_numbers)
        self.watch: dict[int, Watch] | None = None
        self.freed = False

    @property
    def op(self) -> Op:
        """The op that was called."""
        return self.plan.op

    def __repr__(self) -> str:
        return f"<{self.op.name} backward, node {self.number}>"

    def watched(self, index: int) -> Watch:
        """The `Watch` of output ``index``, made at the first call."""
        if self.watch is None:
            self.watch = {}
        return self.watch.setdefault(index, Watch())

    def release(self) -> None:
        """Drop what was kept for the derivative; a second backward that needs it then raises."""
        if self.operands or self.saved:
            self.operands, self.saved, self.freed = (), {}, True


class Watch:
    """Who asked to see the gradient of one output: hooks in their order, and the tensor that retains it."""

    def __init__(self) -> None:
        self.hooks: list[Callable[[Tensor], Tensor | None]] = []
        self.retained: weakref.ref[Tensor] | None = None


class Observer(Protocol):
    """Sees every op as it runs; `record` and `detect_anomaly` are observers."""

    def forward(
        self, op: Op, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Tensor, ...]
    ) -> None:
        """An op has run: its operands as they were given, all its options, and its outputs."""

    def arrived(self, node: Node, gradient: Any) -> None:
        """Backward has come to a node with the complete ``gradient`` of its output (array or tensor; a tuple with None
        where there is none, if the op has several outputs)."""

    def backward(self, node: Node, position: int, gradient: Any) -> None:
        """A node sends ``gradient`` (array or tensor) along the edge of its operand ``position``, before it is summed
        there."""


class _Modes(threading.local):
    """The modes of the calling thread."""

    grad = True
    unfused = False
    observers: tuple[Observer, ...] = ()
    # The modules whose forward is running, outermost first; kept only while somebody observes.
    modules: tuple[Any, ...] = ()
    # The time steps of the recurrences that are running, outermost first.
    steps: tuple[int, ...] = ()


modes = _Modes()


def is_grad_enabled() -> bool:
    """Whether ops called in this thread are written into the graph."""
    return modes.grad


class _GradMode(contextlib.ContextDecorator):
    """Write ops into the graph or not, in this thread, within ``with`` or a decorated function."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._before: list[bool] = []

    def _recreate_cm(self) -> _GradMode:
        # A decorated function may run in several threads at once, each with a mode to come back to.
        return _GradMode(self.mode)

    def __enter__(self) -> None:
        self._before.append(modes.grad)
        modes.grad = self.mode

    def __exit__(self, *exception: object) -> None:
        modes.grad = self._before.pop()


class no_grad(_GradMode):
    """Leave the graph alone: results do not require a gradient."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_GradMode):
    """Write the graph again inside ``no_grad()``."""

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_GradMode):
    """Write ops into the graph or not: from the call on, or as a context or decorator for as long as that lasts."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._outside: bool | None = modes.grad
        modes.grad = mode

    def __enter__(self) -> None:
        super().__enter__()
        if self._outside is not None:
            self._before[-1], self._outside = self._outside, None

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:  # type: ignore[override]
        if self._outside is not None:
            modes.grad, self._outside = self._outside, None
        return super().__call__(function)


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Run the reference in primitives in place of each fused op, so that every step can be seen and differentiated."""
    before, modes.unfused = modes.unfused, True
    try:
        yield
    finally:
        modes.unfused = before


@contextlib.contextmanager
def in_module(module: Any) -> Iterator[None]:
    """Run the forward of ``module``, so that observers can tell where an op was called."""
    before, modes.modules = modes.modules, (*modes.modules, module)
    try:
        yield
    finally:
        modes.modules = before


class at_step:
    """Run time step ``number`` of a recurrence, so that observers can tell when an op was called."""

    __slots__ = ("_before", "number")

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        self._before = modes.steps
        modes.steps = (*self._before, self.number)

    def __exit__(self, *exception: object) -> None:
        modes.steps = self._before


@contextlib.contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Show every op of this thread, forward and backward, to ``observer``."""
    before, modes.observers = modes.observers, (*modes.observers, observer)
    try:
        yield
    finally:
        modes.observers = before
