"""capture: a function's ops, forward and backward, as a flat program, run again without building the graph.

A training step repeats the same ops on arrays of the same shapes, and eager mode pays for each of them anew: for its
call, its node, its turn in `backward`. A captured function is written down, when shapes come a second time, as Python
code: a line for each call of an op's forward, of a derivative's kernel, and of a sum of gradients; a leaf gets its
gradient after the last line about it, while others are still to come. From then on that code runs, on the arrays of the
arguments::

    step = capture(lambda x, y: F.mse_loss(model(x), y))
    for x, y in batches:
        optimizer.zero_grad()
        loss = step(x, y)        # accumulates the leaves' gradients, as loss.backward() does
        optimizer.step()

What the function does outside ops was done once, so nothing there may depend on the values of tensors. A function that
is seen to take values out of tensors, that writes in place or that computes gradients itself therefore runs eagerly.
What cannot be seen is found by comparison: a program's results are held to the function's, bit by bit, whenever an
argument is not what it has been so far, and in the 1st, 10th, 100th … run of all programs. A function that once differs
runs eagerly from then on, with a warning.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn import random
from tinygrad_attn.autograd import reach_leaf
from tinygrad_attn.checked import shown
from tinygrad_attn.modes import current_modes, is_grad_enabled
from tinygrad_attn.program import Gradients, Program, Results, Trace, outputs_of
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor, wrap

__all__ = ["MOST_PROGRAMS", "Captured", "capture"]

_one_at_a_time = threading.RLock()  # of all functions: a comparison sets the generator of random numbers back


def _begin_in_child() -> None:
    """A lock that another thread held when the process was forked would be held in the child for ever."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)

MOST_PROGRAMS = 256
"""Of one function: of shapes that come after so many others it stays eager."""


@public("ta")
def capture(function: Callable[..., Any]) -> Captured:
    """Make a function of tensors run from a program. A decorator, or called as such.

    Args:
        function: of tensors that require no gradient. It returns a scalar tensor that depends on leaves that do, or a
            tuple of that and further tensors. What tensors it reads besides, such as a model's parameters, may change
            their values from call to call. Other tensors in their place are not seen, nor are other numbers, such as
            a coefficient that grows: give it as an argument. Dropout draws anew in each call.

    Returns:
        A function of the same tensors. It returns the same tensors, detached, and accumulates the gradient of the first
        in the leaves, as ``backward()`` does. It makes a program for each set of shapes and dtypes, and runs eagerly
        while ops are observed or `unfused`, and where an op has no rule. Under `no_grad` it only returns the tensors.
        Threads that call it take turns.

    Raises:
        TypeError: an argument is not a tensor or requires a gradient, or the function returns anything else.
    """
    if not callable(function):
        raise TypeError(f"capture: expected a function of tensors, got {shown(function)}")
    return Captured(function)


class Captured:
    """A function that `capture` has made.

    Attributes:
        function: the function itself.
        programs: by the arguments' shapes and dtypes the program, None after the first call, or, as a string, why there
            is none.
        runs: of all programs together.
        differs: whether a program has been found to give other numbers than the function, so that all calls are eager.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.programs: dict[Any, Program | str | None] = {}
        self.runs = 0
        self.differs = False
        self._next_compared = 1

    def __call__(self, *inputs: Tensor) -> Any:
        for position, each in enumerate(inputs):
            if not isinstance(each, Tensor) or each._requires_grad:
                raise TypeError(f"capture: argument {position} must be a tensor that requires no gradient")
        with _one_at_a_time:
            outputs, gradients = self._results(inputs)
            for leaf, gradient, owned in gradients:
                reach_leaf(leaf, gradient, owned)
        found = tuple([wrap(output) for output in outputs])
        return found if len(found) > 1 else found[0]

    def _results(self, inputs: Sequence[Tensor]) -> Results:
        modes = current_modes()
        if self.differs or modes.observers or modes.unfused or not modes.grad:
            return self._eagerly(inputs)
        key = tuple([(each.array.shape, each.array.dtype.char) for each in inputs])
        program = self.programs.get(key)
        if isinstance(program, Program):
            if program.holds():
                return self._run(program, key, inputs)
            program = self.programs[key] = None
        elif program is None and key not in self.programs and len(self.programs) < MOST_PROGRAMS:
            self.programs[key] = None
            return self._eagerly(inputs)
        if program is not None or key not in self.programs:
            return self._eagerly(inputs)
        made, results = self._made(key, inputs)
        if made is not None:
            self.programs[key] = made
        return results

    def _made(self, key: Any, inputs: Sequence[Tensor]) -> tuple[Program | None, Results]:
        """A program made from a call of the function, None if there cannot be one, and what the call gave."""
        trace = Trace(self.function, inputs)
        try:
            made = Program(trace)
        except NotImplementedError as reason:
            self.programs[key] = str(reason)
            return None, _eager_results(trace.outputs)
        return made, made.first()

    def _eagerly(self, inputs: Sequence[Tensor]) -> Results:
        return _eager_results(outputs_of(self.function(*inputs)))

    def _run(self, program: Program, key: Any, inputs: Sequence[Tensor]) -> Results:
        arrays = [each.array for each in inputs]
        self.runs += 1
        due = self.runs == self._next_compared
        if due:
            self._next_compared *= 10
        if program.has_new(arrays) or due:
            return self._compared(program, arrays, key, inputs)
        with np.errstate(all="ignore"):
            return program.run(reach_leaf, *arrays), []

    def _compared(self, program: Program, arrays: list[Any], key: Any, inputs: Sequence[Tensor]) -> Results:
        """The function's results, and whether the program's are the same."""
        state = random.get_state()
        gradients: Gradients = []
        with np.errstate(all="ignore"):
            found = _digests((program.run(lambda *of_leaf: gradients.append(of_leaf), *arrays), gradients))
        gradients.clear()
        after = random.get_state()
        random.set_state(state)
        again, expected = self._made(key, inputs)
        if again is None or (random.get_state() == after and found == _digests(expected)):
            return expected
        self.differs = True
        self.programs = dict.fromkeys(self.programs, "a program gave other numbers than the function")
        warnings.warn(
            "capture: from now on the function runs eagerly, since its program gives other numbers, as it may have in "
            "earlier calls: what it does outside ops depends on the values of tensors, or on chance",
            RuntimeWarning,
            stacklevel=5,
        )
        return expected


def _eager_results(outputs: Sequence[Tensor]) -> Results:
    """The outputs' arrays, after `backward`, if the graph is recorded, has accumulated the gradients."""
    if is_grad_enabled():
        outputs[0].backward()
    return tuple([output.array for output in outputs]), []


def _digests(results: Results) -> list[bytes]:
    """What tells the bits of results apart from others; the results themselves would take their memory twice."""
    outputs, gradients = results
    arrays = [*outputs, *[gradient for _, gradient, _ in sorted(gradients, key=lambda of_leaf: id(of_leaf[0]))]]
    return [hashlib.sha256(np.ascontiguousarray(array).data).digest() for array in arrays]
