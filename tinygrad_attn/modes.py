"""The modes of a thread (no_grad, unfused), observers, and mark, which announces a tensor.

Layers *announce* tensors of interest, such as scores and weights, with `mark`; observers receive them. Without an
observer `mark` does nothing.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinygrad_attn.contexts import Context
from tinygrad_attn.public import public

__all__ = [
    "MARKS", "BareMode", "Mode", "Observer", "State", "at_step", "current_modes", "enable_grad", "fused_by",
    "in_module", "is_grad_enabled", "mark", "marks_are_heard", "modes", "no_grad", "observe", "set_grad_enabled",
    "span", "unfused",
]  # fmt: skip

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])
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

    def written(self, name: str, tensor: Any) -> None:
        """``name`` has written to ``tensor`` in place; the ops that computed the values have run before."""

    def read(self, tensor: Any) -> None:
        """The values of ``tensor`` are about to leave the graph: for NumPy, or as Python numbers."""

    def checkpointed(self) -> bool:
        """`tinygrad_attn.checkpoint` is about to call a function; returns whether its values must be kept."""
        return True

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


class State:
    """The modes inside one block, and how to return to those outside. Blocks of a thread form a chain."""

    __slots__ = ("entry", "grad", "modules", "observers", "outer", "steps", "unfused", "variable")

    def __init__(self, outer: State | None = None, variable: str = "", value: Any = None, entry: Any = None) -> None:
        self.outer = outer
        # The mode that the block changes.
        self.variable = variable
        # A weak reference: the block has ended once it is dead (see `tinygrad_attn.contexts`); None outside of blocks.
        self.entry = entry
        self.grad: bool = True if outer is None else outer.grad
        self.unfused: bool = False if outer is None else outer.unfused
        self.observers: tuple[Observer, ...] = () if outer is None else outer.observers
        # The modules whose forward is running, outermost first; kept only while there are observers.
        self.modules: tuple[Any, ...] = () if outer is None else outer.modules
        # The time steps of the recurrences that are running, outermost first; kept only while there are observers.
        self.steps: tuple[int, ...] = () if outer is None else outer.steps
        if variable:
            setattr(self, variable, value)


class _Modes(threading.local):
    """The state of the calling thread's innermost block, which may have ended by an interrupt: see `current_modes`."""

    def __init__(self) -> None:
        self.innermost = State()


modes = _Modes()


def current_modes() -> State:
    """The modes of the calling thread."""
    state = modes.innermost
    while state.entry is not None and state.entry() is None:
        state = modes.innermost = state.outer  # type: ignore[assignment]
    return state


@public("ta")
def is_grad_enabled() -> bool:
    """Whether ops called in this thread are recorded in the graph."""
    return current_modes().grad


class Mode(Context):
    """A context in which one mode of the thread has another value."""

    def __init__(self, variable: str, change: Callable[[Any], Any]) -> None:
        """``change`` makes of the value outside that inside."""
        self._variable, self._change = variable, change

    def enter(self, entry: Any) -> Any:
        outer = current_modes()
        modes.innermost = State(outer, self._variable, self._change(getattr(outer, self._variable)), entry)

    def leave(self, entry: Any, error: BaseException | None) -> None:
        state = modes.innermost
        if state.entry is entry:
            modes.innermost = state.outer  # type: ignore[assignment]
            return
        # Blocks of generators may end in another order than the reverse. Those inside keep what they have changed.
        inside = []
        while state.entry is not None and state.entry is not entry:
            inside.append(state)
            state = state.outer  # type: ignore[assignment]
        if state.entry is None:
            return  # entered in another thread: there it ends with the entry
        inside[-1].outer = state.outer
        for inner in reversed(inside):
            if inner.variable == state.variable:
                break
            setattr(inner, state.variable, getattr(inner.outer, state.variable))


class BareMode(Mode):
    """A mode without arguments: a decorator with and without parentheses."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        if function is None:
            return made
        made.__init__()  # type: ignore[misc]
        return made(function)


@public("ta")
class no_grad(BareMode):
    """Do not record ops in the graph, in this thread: results do not require a gradient. A context or a decorator."""

    def __init__(self) -> None:
        super().__init__("grad", lambda outside: False)


@public("ta")
class enable_grad(BareMode):
    """Record ops in the graph again, inside ``no_grad()``. A context or a decorator."""

    def __init__(self) -> None:
        super().__init__("grad", lambda outside: True)


@public("ta")
class set_grad_enabled(Mode):
    """Record ops in the graph or not: from the call on, or, as a context or decorator, for its duration.

    Raises:
        TypeError: ``mode`` is not a bool.
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"set_grad_enabled: mode must be True or False, got {type(mode).__name__}")
        super().__init__("grad", lambda outside: bool(mode))
        self._outside: bool | None = None
        if not _begins_with(sys._getframe(1)):
            self._outside = is_grad_enabled()
            _set_grad(bool(mode))

    def _undo_call(self) -> None:
        if self._outside is not None:
            outside, self._outside = self._outside, None
            _set_grad(outside)

    def enter(self, entry: Any) -> None:
        self._undo_call()
        super().enter(entry)

    def __call__(self, function: F) -> F:
        self._undo_call()
        return super().__call__(function)


def _set_grad(mode: bool) -> None:
    """Record or not until the end of the innermost block that has said so."""
    state: State | None = current_modes()
    while state is not None:
        state.grad = mode
        state = None if state.variable == "grad" else state.outer


def _begins_with(frame: types.FrameType) -> bool:
    """Whether the call that the frame is at stands in ``with CALL:``, whose block changes the mode, not the call.

    An interrupt between the call and the block would leave the mode changed.
    """
    return _stands_in_with(frame.f_code, frame.f_lasti)


@functools.lru_cache(maxsize=256)
def _stands_in_with(code: types.CodeType, position: int) -> bool:
    following = [step.opname for step in dis.get_instructions(code) if step.offset > position][:2]
    return following[:1] == ["BEFORE_WITH"] or following == ["COPY", "LOAD_SPECIAL"]


@public("ta")
class unfused(BareMode):
    """Run the reference in primitives in place of each fused op, so that every step can be seen and differentiated.

    A context or a decorator.
    """

    def __init__(self) -> None:
        super().__init__("unfused", lambda outside: True)


@public("ta")
def fused_by(op: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare, as a decorator, that ``op`` computes the same as the decorated function, faster and as one node.

    The function is the equations in primitives, to be read and looked into: it runs inside `unfused`. Elsewhere its
    calls go to ``op``, which takes the same arguments. Of a single op, `Op.composed_of` declares the same.
    """

    def declare(equations: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(equations)
        def chosen(*arguments: P.args, **options: P.kwargs) -> R:
            return (equations if current_modes().unfused else op)(*arguments, **options)

        return chosen

    return declare


class in_module(Mode):
    """A context for the forward of ``module``, so that observers can tell which module called an op."""

    def __init__(self, module: Any) -> None:
        super().__init__("modules", lambda outside: (*outside, module))


_NOTHING = contextlib.nullcontext()


def at_step(number: int) -> contextlib.AbstractContextManager[None]:
    """A context for time step ``number`` of a recurrence, so that observers can tell which step called an op."""
    if not current_modes().observers:
        return _NOTHING
    return Mode("steps", lambda outside: (*outside, number))


class observe(Mode):
    """A context that calls ``observer`` for every op of this thread, forward and backward."""

    def __init__(self, observer: Observer) -> None:
        super().__init__("observers", lambda outside: (*outside, observer))


MARKS: dict[str, str] = {
    # One call of attention announces these, "query" first and "context" last. B: batch, T: queries, S: keys,
    # C: channels; with heads there is one more axis for them, after B. A decoder that attends step by step announces
    # each step, T = 1.
    "query": "(B, T, C): the queries, projected, not yet scaled",
    "key": "(B, S, C): the keys, projected; not announced if scores depend on the query alone",
    "value": "(B, S, D): the values, of which the context is the weighted sum",
    "parameter": "a parameter in the formula of a score; detail symbol: its letter there, as in v or W",
    "scores": "(B, T, S): before the mask, after scaling, with a bias if there is one; details score: a name in"
    " nn.scores.SCORES, or of a score of one's own, scale: of q · k",
    "mask": "bool, broadcasts to the scores: True where a query may attend to a key; not announced if all are",
    "weights": "(B, T, S): softmax of the scores over the unmasked positions, after dropout",
    "gaussian": "(B, T, S): the factor of the weights in local attention",
    "mixed": "(B, T, S): weights times gaussian",
    "context": "(B, T, D): the weighted sum of the values",
    # What is computed from the context, and the layers around it. E: the model's size. Details formula and
    # gradient_formula: LaTeX of the tensor and of its gradient.
    "joined": "(B, T, ·): contexts of all heads side by side, or context and decoder state; details role: see mark,"
    " batch_first: if False, B and T are exchanged, context: the place of the (first) context in it, 0 if not told",
    "attentional": "(B, T, H): the input of the output layer: Luong's s̃, Bahdanau's maxout",
    "state": "(B, H): the state of a recurrent layer after a time step (see `at_step`)",
    "encoded": "(B, S, E): the encoder's output, a row for each symbol of the source",
    "start": "the state that a decoder starts with, or one of its tensors; made from the encoder's states",
    "skip": "(B, T, E): x on its way past a sublayer, to be added to its output; announced just before branch",
    "branch": "(B, T, E): x on its way into a sublayer; detail sublayer: self_attention, attention or feed_forward",
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
            observers = current_modes().observers
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
    for observer in current_modes().observers:
        tensor = observer.marked(name, tensor, details)
    return tensor


def marks_are_heard() -> bool:
    """Whether an observer does anything with marks."""
    return any(type(observer).marked is not Observer.marked for observer in current_modes().observers)
