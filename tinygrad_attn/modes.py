"""The modes of a thread: whether the graph is written, whether fused ops run in primitives, and who looks on.

Layers *announce* what a learner looks for with `mark`; observers hear of it, and without one it costs nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

__all__ = [
    "Observer", "at_step", "enable_grad", "in_module", "is_grad_enabled", "mark", "modes", "no_grad", "observe",
    "set_grad_enabled", "unfused",
]  # fmt: skip

T = TypeVar("T")


class Observer(Protocol):
    """Sees every op as it runs; `record` and `detect_anomaly` are observers."""

    def forward(self, op: Any, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Any, ...]) -> None:
        """An op has run: its operands as they were given, all its options, and its outputs."""

    def marked(self, name: str, tensor: Any) -> None:
        """A layer has announced ``tensor`` as what ``name`` says (see `mark`)."""

    def arrived(self, node: Any, gradient: Any) -> None:
        """Backward has come to a node with the complete ``gradient`` of its output (array or tensor; a tuple with None
        where there is none, if the op has several outputs)."""

    def backward(self, node: Any, position: int, gradient: Any) -> None:
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


def mark(name: str, tensor: T) -> T:
    """Announce a tensor as something that a learner looks for; observers hear of it with the module and time step.

    Args:
        name: what it is: "query", "key", "value", "scores", "weights", "context", "attentional", "residual", "norm", …
        tensor: of any shape.

    Returns:
        The tensor itself.
    """
    for observer in modes.observers:
        observer.marked(name, tensor)
    return tensor
