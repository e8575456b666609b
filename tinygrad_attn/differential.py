r"""Differential operators: functions made of functions, all of them compositions of `grad`.

With J the Jacobian of a function at x, backward computes :math:`J^T v`. As a function of v that is linear, and its own
backward computes :math:`J u`, so that the forward mode needs no rules of its own. A matrix is computed row by row, or
column by column. The names, arguments and results are those of ``torch.func``, and of ``torch.autograd.functional``
for `jacobian` and `hvp`.

Arguments by which a function is differentiated, and its results, are tensors of float32 or float64, or tuples, lists
and dicts of such. Results can be differentiated again, by whatever required a gradient outside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.autograd import grad as _grad
from tinygrad_attn.checked import shown
from tinygrad_attn.inner_call import ArgNums, InnerCall, as_given, chosen, nested_by_argument, zeros
from tinygrad_attn.modes import enable_grad, is_grad_enabled
from tinygrad_attn.nested import map_tensors
from tinygrad_attn.ops.joining import stack
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor, wrap
from tinygrad_attn.vmap import Randomness, check_chunk_size, check_randomness

__all__ = ["grad", "grad_and_value", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "linearize", "vjp"]


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if not callable(function):
        raise TypeError(f"{name}: expected a function, got {shown(function)}")
    return function


# -- gradients ---------------------------------------------------------------------------------------------------------


@public("func")
def grad_and_value(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``func``, and what it returned.

    Args:
        func: returns a tensor without axes, or with ``has_aux`` a pair of that and anything else.
        argnums: the position of the argument to differentiate by, or a tuple of positions, which give a tuple. Named
            arguments are passed on.
        has_aux: the value is then the pair.

    Raises:
        TypeError: of the function made: an argument or the result is not of floats.
        ValueError: of the function made: the result has axes, or ``argnums`` names no argument.
    """
    name = "grad"
    _named(name, func)

    @functools.wraps(func)
    def gradient_and_value(*arguments: Any, **options: Any) -> Any:
        call = InnerCall(name, func, arguments, chosen(name, argnums, arguments), has_aux, options)
        (output,) = call.outputs if len(call.outputs) == 1 else (None,)
        if output is None or output.ndim:
            shapes = ", ".join(str(each.shape) for each in call.outputs)
            raise ValueError(
                f"{name}: the function must return one scalar, it returned tensors of shape {shapes}; sum() it, or "
                "take jacrev or vjp"
            )
        found = call.pulled_back([wrap(np.ones_like(output.array))], call.open, keep=False)
        value = call.returned(call.result)
        gradient = nested_by_argument(argnums, arguments, call.returned(found))
        return gradient, ((value, call.returned(call.aux)) if has_aux else value)

    return gradient_and_value


@public("func")
def grad(func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of ``func``; with ``has_aux`` a pair of it and the aux.

    ``grad(grad(f))`` is the second derivative. Arguments and errors as of `grad_and_value`.
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*arguments: Any, **options: Any) -> Any:
        found, value = both(*arguments, **options)
        return (found, value[1]) if has_aux else found

    return gradient


@public("func")
def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """What ``func(*primals)`` returns, and the function v ↦ Jᵀ v, backward itself.

    Args:
        func: returns a tensor, or several, nested.
        primals: the arguments, all of which are differentiated by.
        has_aux: ``func`` returns a pair, of which the second part is returned as a third result.

    Returns:
        The result, and a function of cotangents in its structure and shapes that returns a tuple with the gradient of
        each primal.

    Raises:
        TypeError: a primal or the result is not of floats; of the function returned: cotangents of another dtype.
        ValueError: of the function returned: cotangents of other shapes than the result.
    """
    call = InnerCall("vjp", _named("vjp", func), primals, range(len(primals)), has_aux)

    def pull_back(cotangents: Any) -> Any:
        tensors = as_given("vjp", "the cotangents", call.result, cotangents)
        differentiable = is_grad_enabled() and (call.open or any(each.requires_grad for each in tensors))
        found = call.pulled_back(tensors, differentiable)
        structure = nested_by_argument(tuple(range(len(primals))), primals, found)
        return structure if differentiable else map_tensors(Tensor.detach, structure)

    result = call.returned(call.result)
    return (result, pull_back, call.returned(call.aux)) if has_aux else (result, pull_back)


@public("func")
def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], has_aux: bool = False) -> Any:
    """What ``func(*primals)`` returns, and J u, its derivative along the tangents u.

    Args:
        func: returns a tensor, or several, nested.
        primals: the arguments.
        tangents: one for each primal, of its structure and shapes.
        has_aux: ``func`` returns a pair, of which the second part is returned as a third result.

    Returns:
        The result, and the derivative in its structure.

    Raises:
        TypeError: a primal or the result is not of floats, tangents are of another dtype, or not tuples.
        ValueError: tangents of other shapes than the primals.
    """
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple):
            raise TypeError(f"jvp: {what} must be a tuple with one for each argument, got {shown(given)}")
    call = InnerCall("jvp", _named("jvp", func), primals, range(len(primals)), has_aux)
    derivative = _derivative(_Pushing(call), primals, tangents)
    result = call.returned(call.result)
    return (result, derivative, call.returned(call.aux)) if has_aux else (result, derivative)


@public("func")
def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """What ``func(*primals)`` returns, and the function u ↦ J u, which does not call ``func`` again.

    Args:
        func: returns a tensor, or several, nested.
        primals: the arguments, all of which are differentiated by.

    Returns:
        The result, and a function of tangents, one for each primal in its structure and shapes, that returns the
        derivative in the result's structure.

    Raises:
        TypeError: a primal or the result is not of floats; of the function returned: tangents of another dtype.
        ValueError: of the function returned: tangents of other shapes than the primals.
    """
    call = InnerCall("linearize", _named("linearize", func), primals, range(len(primals)), False)
    pushing = _Pushing(call)
    return call.returned(call.result), lambda *tangents: _derivative(pushing, primals, tangents)


def _derivative(pushing: _Pushing, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """The derivative of a call along tangents, in the structure of its result."""
    call = pushing.call
    directions = as_given(call.name, "the tangents", primals, tangents)
    differentiable = is_grad_enabled() and (call.open or any(each.requires_grad for each in directions))
    pushed = iter(pushing.along(directions, differentiable))
    derivative = map_tensors(lambda _: next(pushed), call.result)
    return derivative if differentiable else map_tensors(Tensor.detach, derivative)


class _Pushing:
    """v ↦ Jᵀ v as a graph in v, at any v; its backward pushes tangents forward."""

    def __init__(self, call: InnerCall) -> None:
        self.call = call
        self.cotangents = [wrap(np.zeros_like(output.array)) for output in call.outputs]
        with enable_grad():
            for each in self.cotangents:
                each.requires_grad = True
            self.gradients = call.pulled_back(self.cotangents, True)

    def along(self, tangents: Sequence[Tensor], differentiable: bool) -> list[Tensor]:
        """The derivative of each output along the tangents."""
        pairs = [(g, t) for g, t in zip(self.gradients, tangents, strict=True) if g.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(self.cotangents)
        if pairs:
            found = _grad(
                [g for g, _ in pairs],
                self.cotangents,
                [t for _, t in pairs],
                retain_graph=True,
                create_graph=differentiable,
                allow_unused=True,
            )
        return [zeros(o) if f is None else f for o, f in zip(self.call.outputs, found, strict=True)]


# -- matrices ----------------------------------------------------------------------------------------------------------


def _basis(like: Tensor, position: int) -> Tensor:
    """The unit vector of one element."""
    unit = np.zeros(like.shape, like.dtype)
    unit.reshape(-1)[position] = 1.0
    return wrap(unit)


@public("func")
def jacrev(
    func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``func``, row by row, one backward pass for each element of the result.

    Cheaper than `jacfwd` where the results have fewer elements than the arguments.

    Args:
        func: returns a tensor, or several, nested.
        argnums: the position of the argument to differentiate by, or a tuple of positions, which give a tuple.
        has_aux: ``func`` returns a pair, of which the second part is returned too.
        chunk_size: taken for PyTorch's sake: how many rows are computed at once. Here one is.

    Returns:
        A function that returns, in the structure of the result, and in each place that of the arguments, tensors of
        the shape of the result followed by that of the argument.

    Raises:
        TypeError: of the function made: an argument or the result is not of floats.
        ValueError: of the function made: ``argnums`` names no argument.
    """
    _named("jacrev", func)
    check_chunk_size("jacrev", chunk_size)

    @functools.wraps(func)
    def jacobian_of(*arguments: Any, **options: Any) -> Any:
        call = InnerCall("jacrev", func, arguments, chosen("jacrev", argnums, arguments), has_aux, options)

        def rows(output: Tensor) -> Any:
            place = next(places)
            passes = []
            for position in range(output.array.size):
                units = [_basis(o, position) if i == place else zeros(o) for i, o in enumerate(call.outputs)]
                passes.append(call.pulled_back(units, call.open))
            columns = zip(*passes, strict=True) if passes else [[] for _ in call.inner]
            found = [_stacked(c, output.shape, x.shape, x) for c, x in zip(columns, call.inner, strict=True)]
            return nested_by_argument(argnums, arguments, found)

        places = iter(range(len(call.outputs)))
        result = call.returned(map_tensors(rows, call.result))
        return (result, call.returned(call.aux)) if has_aux else result

    return jacobian_of


@public("func")
def jacfwd(
    func: Callable[..., Any], argnums: ArgNums = 0, has_aux: bool = False, *, randomness: Randomness = "error"
) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``func``, column by column, one pass for each element of the arguments.

    Cheaper than `jacrev` where the arguments have fewer elements than the results. All else is as there. ``randomness``
    is taken for PyTorch's sake, where each column calls ``func``: here it is called once, so all columns are those of
    the same random numbers.
    """
    _named("jacfwd", func)
    check_randomness("jacfwd", randomness)

    @functools.wraps(func)
    def jacobian_of(*arguments: Any, **options: Any) -> Any:
        call = InnerCall("jacfwd", func, arguments, chosen("jacfwd", argnums, arguments), has_aux, options)
        pushing = _Pushing(call)
        by_input: list[list[Tensor]] = []
        for place, x in enumerate(call.inner):
            passes = []
            for position in range(x.array.size):
                units = [_basis(i, position) if n == place else zeros(i) for n, i in enumerate(call.inner)]
                passes.append(pushing.along(units, call.open))
            columns = zip(*passes, strict=True) if passes else [[] for _ in call.outputs]
            by_input.append(
                [_stacked(c, o.shape, x.shape, o, dim=-1) for c, o in zip(columns, call.outputs, strict=True)]
            )
        places = iter(range(len(call.outputs)))

        def of_output(_: Tensor) -> Any:
            place = next(places)
            return nested_by_argument(argnums, arguments, [found[place] for found in by_input])

        result = call.returned(map_tensors(of_output, call.result))
        return (result, call.returned(call.aux)) if has_aux else result

    return jacobian_of


def _stacked(
    parts: Sequence[Tensor], output: tuple[int, ...], argument: tuple[int, ...], like: Tensor, dim: int = 0
) -> Tensor:
    """Rows, or columns, as one tensor of the output's and the argument's shape."""
    if not parts:
        return wrap(np.zeros(output + argument, like.dtype))
    return stack(list(parts), dim).reshape(output + argument)


@public("func")
def hessian(func: Callable[..., Any], argnums: ArgNums = 0) -> Callable[..., Any]:
    """A function that returns the matrix of second derivatives of ``func``: `jacfwd` of `jacrev`, of its shape and
    structure. Arguments and errors as there."""
    return jacfwd(jacrev(func, argnums), argnums)


@public("func")
def jacobian(func: Callable[..., Any], inputs: Any) -> Any:
    """The Jacobian of ``func`` at ``inputs``, as `jacrev` computes it.

    Args:
        func: of one tensor, or of several; returns a tensor or a tuple of tensors.
        inputs: the tensor, or a tuple with all arguments, which give a tuple.
    """
    several = isinstance(inputs, tuple)
    arguments = inputs if several else (inputs,)
    return jacrev(func, tuple(range(len(arguments))) if several else 0)(*arguments)


@public("func")
def hvp(func: Callable[..., Any], inputs: Any, v: Any) -> tuple[Any, Any]:
    """What ``func`` returns at ``inputs``, and the product of its matrix of second derivatives with ``v``.

    The matrix, which is symmetric, is not formed: the gradient is differentiated along v.

    Args:
        func: of one tensor, or of several; returns a tensor without axes.
        inputs: the tensor, or a tuple with all arguments, which give a tuple.
        v: of the inputs' structure and shapes.

    Raises:
        TypeError: an input or the result is not of floats, or v is of another dtype.
        ValueError: v of other shapes than the inputs, or the result has axes.
    """
    several = isinstance(inputs, tuple)
    arguments, direction = (inputs, v) if several else ((inputs,), (v,))
    tensors = as_given("hvp", "v", arguments, direction)
    argnums = tuple(range(len(arguments))) if several else 0
    outer = InnerCall("hvp", grad_and_value(_named("hvp", func), argnums), arguments, range(len(arguments)), True)
    found = iter(outer.pulled_back(tensors, outer.open, keep=False))
    product = map_tensors(lambda _: next(found), arguments)
    return outer.returned(outer.aux), outer.returned(product if several else product[0])
