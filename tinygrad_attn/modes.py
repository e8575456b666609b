"""The modes of a thread (no_grad, unfused), observers, and mark, which announces a tensor.

Layers *announce* tensors of interest, such as scores and weights, with `mark`; observers receive them. Without an
observer `mark` does nothing.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from tinygrad_attn.public import public

__all__ = [
    "MARKS", "Observer", "at_step", "enable_grad", "fused_by", "in_module", "is_grad_enabled", "mark", "modes",
    "no_grad", "observe", "set_grad_enabled", "span", "unfused",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Observer:
    """Base of the observers, whose methods the engine calls as it runs; `record` and `detect_anomaly` use one.

    The methods here do nothing; a subclass overrides those it needs.
    """

    def called(self, op: Any, operands: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """An op is about to run: its operands as they were given, and the options that were given."""

    def forward(self, op: Any, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Any, ...]) -> None:
        """An op has run: its operands as they were given, all its options, and its outputs."""

    def marked(self, name: str, tensor: Any, details: Mapping[str, Any]) -> Any:
        """A layer has announced ``tensor`` under ``name`` (see `mark`).

        Returns the tensor that the layer uses from here on: the same, or one of equal values.
        """
        return tensor

    def arrived(self, node: Any, gradient: Any) -> None:
        """Backward has reached a node and is about to compute the gradients of its operands.

        ``gradient`` is the complete gradient of its output (array or tensor; if the op has several outputs a tuple,
        with None for an output without a gradient).
        """

    def pulled_back(self, node: Any) -> None:
        """The gradients of a node's operands have been computed."""

    def backward(self, node: Any, position: int, gradient: Any) -> None:
        """A node sends ``gradient`` (array or tensor) along the edge of its operand ``position``, before summation."""

    def entered(self, span: str) -> None:
        """A `span` begins."""

    def left(self, span: str) -> None:
        """A `span` has ended, possibly by an error."""


class _Modes(threading.local):
    """The modes of the calling thread."""

    grad = True
    unfused = False
    observers: tuple[Observer, ...] = ()
    # The modules whose forward is running, outermost first; kept only while there are observers.
    modules: tuple[Any, ...] = ()
    # The time steps of the recurrences that are running, outermost first.
    steps: tuple[int, ...] = ()


modes = _Modes()


@public("ta")
def is_grad_enabled() -> bool:
    """Whether ops called in this thread are recorded in the graph."""
    return modes.grad


class _GradMode(contextlib.ContextDecorator):
    """Record ops in the graph or not, in this thread, within ``with`` or a decorated function."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._before: list[bool] = []

    def _recreate_cm(self) -> _GradMode:
        # A decorated function may run in several threads at once, each with a mode to restore.
        return _GradMode(self.mode)

    def __enter__(self) -> None:
        self._before.append(modes.grad)
        modes.grad = self.mode

    def __exit__(self, *exception: object) -> None:
        modes.grad = self._before.pop()


@public("ta")
class no_grad(_GradMode):
    """Do not record ops in the graph: results do not require a gradient."""

    def __init__(self) -> None:
        super().__init__(False)


@public("ta")
class enable_grad(_GradMode):
    """Record ops in the graph again, inside ``no_grad()``."""

    def __init__(self) -> None:
        super().__init__(True)


@public("ta")
class set_grad_enabled(_GradMode):
    """Record ops in the graph or not: from the call on, or, as a context or decorator, for its duration."""

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


@public("ta")
@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Run the reference in primitives in place of each fused op, so that every step can be seen and differentiated."""
    before, modes.unfused = modes.unfused, True
    try:
        yield
    finally:
        modes.unfused = before


@public("ta")
def fused_by(op: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare, as a decorator, that ``op`` computes the same as the decorated function, faster and as one node.

    The function is the equations in primitives, to be read and looked into: it runs inside `unfused`. Elsewhere its
    calls go to ``op``, which takes the same arguments. Of a single op, `Op.composed_of` declares the same.
    """

    def declare(equations: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(equations)
        def chosen(*arguments: P.args, **options: P.kwargs) -> R:
            return (equations if modes.unfused else op)(*arguments, **options)

        return chosen

    return declare


@contextlib.contextmanager
def in_module(module: Any) -> Iterator[None]:
    """A context for the forward of ``module``, so that observers can tell which module called an op."""
    before, modes.modules = modes.modules, (*modes.modules, module)
    try:
        yield
    finally:
        modes.modules = before


class at_step:
    """A context for time step ``number`` of a recurrence, so that observers can tell which step called an op."""

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
    """A context that calls ``observer`` for every op of this thread, forward and backward."""
    before, modes.observers = modes.observers, (*modes.observers, observer)
    try:
        yield
    finally:
        modes.observers = before


MARKS: dict[str, str] = {
    # One call of attention announces these, "query" first and "context" last. B: batch, T: queries, S: keys,
    # C: channels; with heads there is one more axis for them, after B. A decoder that attends step by step announces
    # each step, T = 1.
    "query": "(B, T, C): the queries, projected, not yet scaled",
    "key": "(B, S, C): the keys, projected; not announced if scores depend on the query alone",
    "value": "(B, S, D): the values, of which the context is the weighted sum",
    "parameter": "a parameter in the formula of a score; detail symbol: its letter there, as in v or W",
    "scores": "(B, T, S): before the mask, after scaling; details score: a name in nn.scores.SCORES, scale: of q · k",
    "mask": "bool, broadcasts to the scores: True where a query may attend to a key; not announced if all are",
    "weights": "(B, T, S): softmax of the scores over the unmasked positions, after dropout",
    "gaussian": "(B, T, S): the factor of the weights in local attention",
    "mixed": "(B, T, S): weights times gaussian",
    "context": "(B, T, D): the weighted sum of the values",
    # What is computed from the context, and the layers around it. E: the model's size. Details formula and
    # gradient_formula: LaTeX of the tensor and of its gradient.
    "joined": "(B, T, ·): contexts of all heads side by side, or context and decoder state; details role: see mark,"
    " batch_first: if False, B and T are exchanged",
    "attentional": "(B, T, H): the input of the output layer: Luong's s̃, Bahdanau's maxout",
    "residual": "(B, T, E): x + sublayer(x)",
    "norm": "(B, T, E): the output of a normalisation",
    "logits": "(B, T, V): before the softmax over symbols",
}
"""The names under which layers and models announce tensors with `mark`, each with shape and meaning."""


def span(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that notifies observers when the function begins and ends, as the span ``name``."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def observed(*arguments: P.args, **options: P.kwargs) -> R:
            observers = modes.observers
            if not observers:
                return function(*arguments, **options)
            for observer in observers:
                observer.entered(name)
            try:
                return function(*arguments, **options)
            finally:
                for observer in observers:
                    observer.left(name)

        return observed

    return decorate


def mark(name: str, tensor: T, **details: Any) -> T:
    """Announce a tensor to observers under a name, with the current module and time step.

    ::

        scores = mark("scores", query @ key.mT, score="dot")

    The microscope shows a module that calls this as it shows the package's layers. It names each attention by the
    module that announces its weights, and tells the calls of that module (one for each decoder step, or one for all)
    apart by their order. A detail given with any tensor of a call holds for the whole call.

    Args:
        name: one of `MARKS`, or a name of your own.
        tensor: of any shape.
        details: further facts. ``role`` is "self" if queries and keys come from one sequence, "causal" if moreover
            each query attends to no later key, and "cross" (the default) if they come from two sequences.

    Returns:
        The tensor to use from here on: ``tensor`` itself, or, while `tinygrad_attn.record` is on, an `alias` of it. The
        gradient of the alias comes only from what is computed from it, even if ``tensor`` has other uses.
    """
    for observer in modes.observers:
        tensor = observer.marked(name, tensor, details)
    return tensor
