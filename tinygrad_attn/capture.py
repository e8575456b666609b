"""capture: a function's ops, forward and backward, as a flat program, run again without building the graph.

A training step repeats the same ops on arrays of the same shapes, and eager mode pays for each of them anew: for its
call, its node, its turn in `backward`. A captured function is written down, when shapes come a second time, as Python
code: a line for each call of an op's forward, of a derivative's kernel, and of a sum of gradients. From then on that
code runs, on the arrays of the arguments::

    step = capture(lambda x, y: F.mse_loss(model(x), y))
    for x, y in batches:
        optimizer.zero_grad()
        loss = step(x, y)        # accumulates the leaves' gradients, as loss.backward() does
        optimizer.step()

What the function does outside ops was done once, so nothing there may depend on the arguments' values. The first run of
a program is therefore compared with the function, bit by bit.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn import random
from tinygrad_attn.autograd import grad, reach_leaf
from tinygrad_attn.modes import current_modes
from tinygrad_attn.program import Program, Results, outputs_of
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor, wrap

__all__ = ["Captured", "capture"]

_MOST_PROGRAMS = 256  # of one function: of shapes that come after so many others it stays eager


@public("ta")
def capture(function: Callable[..., Any]) -> Captured:
    """Make a function of tensors run from a program. A decorator, or called as such.

    Args:
        function: of tensors that require no gradient. It returns a scalar tensor that depends on leaves that do, or a
            tuple of that and further tensors. What it reads besides, such as a model's parameters, may change its
            values from call to call. Dropout draws anew in each.

    Returns:
        A function of the same tensors. It returns the same tensors, detached, and accumulates the gradient of the first
        in the leaves, as ``backward()`` does. It makes a program for each set of shapes and dtypes, and runs eagerly
        while ops are observed, `unfused`, or not recorded in the graph, and where an op has no rule.

    Raises:
        TypeError: an argument is not a tensor or requires a gradient, or the function returns anything else.
    """
    return Captured(function)


class Captured:
    """A function that `capture` has made.

    Attributes:
        function: the function itself.
        programs: by the arguments' shapes and dtypes the program, None after the first call, or, as a string, why there
            is none.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.programs: dict[Any, Program | str | None] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        for position, each in enumerate(inputs):
            if not isinstance(each, Tensor) or each._requires_grad:
                raise TypeError(f"capture: argument {position} must be a tensor that requires no gradient")
        outputs, gradients = self._results(inputs)
        for leaf, gradient, owned in gradients:
            reach_leaf(leaf, gradient, owned, None)
        found = tuple([wrap(output) for output in outputs])
        return found if len(found) > 1 else found[0]

    def _results(self, inputs: Sequence[Tensor]) -> Results:
        modes = current_modes()
        if modes.observers or modes.unfused or not modes.grad:
            return self._eagerly(inputs)
        key = tuple([(each.array.shape, each.array.dtype.char) for each in inputs])
        program = self.programs.get(key)
        if isinstance(program, Program):
            if program.holds():
                return self._run(program, key, inputs)
            program = self.programs[key] = None
        elif program is None and key not in self.programs and len(self.programs) < _MOST_PROGRAMS:
            self.programs[key] = None
            return self._eagerly(inputs)
        if program is not None or key not in self.programs:
            return self._eagerly(inputs)
        state = random.get_state()
        try:
            made = self.programs[key] = Program(self.function, inputs)
        except NotImplementedError as reason:
            random.set_state(state)
            self.programs[key] = str(reason)
            return self._eagerly(inputs)
        return made.first()

    def _eagerly(self, inputs: Sequence[Tensor]) -> Results:
        outputs = outputs_of(self.function(*inputs))
        outputs[0].backward()
        return tuple([output.array for output in outputs]), []

    def _run(self, program: Program, key: Any, inputs: Sequence[Tensor]) -> Results:
        arrays = [each.array for each in inputs]
        with np.errstate(all="ignore"):
            if program.checked:
                return program.run(*arrays)
            state = random.get_state()
            found = program.run(*arrays)
        after = random.get_state()
        random.set_state(state)
        expected = _gradients_of(self.function, inputs, [leaf for leaf, _, _ in found[1]])
        if random.get_state() == after and _same(found, expected):
            program.checked = True
            return found
        self.programs[key] = "run again, it gives other numbers than its program"
        warnings.warn(
            "capture: the function runs eagerly, since run again it gives other numbers than its program: what it does "
            "outside ops depends on the values of its arguments, or on chance",
            RuntimeWarning,
            stacklevel=4,
        )
        return expected


def _gradients_of(function: Callable[..., Any], inputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Results:
    """What the function gives, eagerly."""
    outputs = outputs_of(function(*inputs))
    found = grad(outputs[0], leaves, allow_unused=True)
    gradients = [(leaf, g.array, True) for leaf, g in zip(leaves, found, strict=True) if g is not None]
    return tuple([output.array for output in outputs]), gradients


def _same(found: Results, expected: Results) -> bool:
    """Whether two results have the same bits."""
    arrays, others = ([*outputs, *[g for _, g, _ in gradients]] for outputs, gradients in (found, expected))
    return len(arrays) == len(others) and all(a.tobytes() == b.tobytes() for a, b in zip(arrays, others, strict=True))
