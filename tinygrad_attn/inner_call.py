"""One call of a function that `tinygrad_attn.differential` differentiates: what it is given, and what comes back.

The function gets tensors of its own in place of those that it is differentiated by.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.autograd import grad
from tinygrad_attn.checked import shown
from tinygrad_attn.modes import enable_grad, is_grad_enabled
from tinygrad_attn.nested import map_tensors, paired, tensors_in
from tinygrad_attn.ops.shape import alias
from tinygrad_attn.tensor import Tensor, share, wrap

__all__ = ["ArgNums", "InnerCall", "as_given", "chosen", "nested_by_argument", "zeros"]

ArgNums = int | tuple[int, ...]


class InnerCall:
    """One call of a function on tensors of its own in place of those to differentiate by.

    Attributes:
        inner: the tensors in place of those to differentiate by.
        result: what the function returned.
        outputs: the tensors of the result.
        aux: what it returned besides.
        open: whether the outputs depend on tensors outside that require a gradient, so that what is computed here must
            be differentiable.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        chosen: Sequence[int],
        has_aux: bool,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.inner: list[Tensor] = []
        recorded = is_grad_enabled()
        with enable_grad():
            own = list(arguments)
            for position in chosen:
                own[position] = self._replaced(position, arguments[position], recorded)
            self.result = function(*own, **(options or {}))
        self.aux = None
        if has_aux:
            if not isinstance(self.result, tuple) or len(self.result) != 2:
                raise TypeError(
                    f"{name}: with has_aux the function must return (result, aux), it returned {shown(self.result)}"
                )
            self.result, self.aux = self.result
        self.outputs = tensors_in(self.result)
        if not self.outputs or any(output.dtype.kind != "f" for output in self.outputs):
            kinds = ", ".join(str(output.dtype) for output in self.outputs) or shown(self.result)
            raise TypeError(f"{name}: the function must return tensors of float32 or float64, it returned {kinds}")
        self.open = recorded and self._depends_on_outside()

    def _replaced(self, position: int, argument: Any, recorded: bool) -> Any:
        tensors = tensors_in(argument)
        if not tensors or any(each.dtype.kind != "f" for each in tensors):
            kinds = ", ".join(str(each.dtype) for each in tensors) or shown(argument)
            raise TypeError(f"{self.name}: argument {position} must be tensors of float32 or float64, got {kinds}")
        return map_tensors(functools.partial(self._own, recorded=recorded), argument)

    def _own(self, tensor: Tensor, recorded: bool) -> Tensor:
        if recorded and tensor.requires_grad:
            own = alias(tensor)
        else:
            own = wrap(tensor.array)
            share(tensor, own)
            own.requires_grad = True
        self.inner.append(own)
        return own

    def _depends_on_outside(self) -> bool:
        if not all(own.is_leaf for own in self.inner):
            return True
        leaves = {id(own) for own in self.inner}
        stacked: list[Any] = [output.origin or output for output in self.outputs if output.requires_grad]
        seen: set[Any] = set()
        while stacked:
            edge = stacked.pop()
            if isinstance(edge, Tensor):
                if id(edge) not in leaves:
                    return True
                continue
            node = edge[0] if isinstance(edge, tuple) else edge
            if node not in seen:
                seen.add(node)
                stacked += [each for each in node.edges if each is not None]
        return False

    def pulled_back(self, cotangents: Sequence[Tensor], differentiable: bool, keep: bool = True) -> list[Tensor]:
        """The gradient of each of ``inner`` for those of the outputs; zeros where nothing depends on it."""
        pairs = [(o, g) for o, g in zip(self.outputs, cotangents, strict=True) if o.requires_grad]
        found: Sequence[Tensor | None] = [None] * len(self.inner)
        if pairs:
            found = grad(
                [o for o, _ in pairs],
                self.inner,
                [g for _, g in pairs],
                retain_graph=keep or differentiable,
                create_graph=differentiable,
                allow_unused=True,
            )
        return [zeros(x) if g is None else g for x, g in zip(self.inner, found, strict=True)]

    def returned(self, structure: Any) -> Any:
        """What the caller may have: outside the graph, unless it depends on what requires a gradient outside."""
        return structure if self.open else map_tensors(Tensor.detach, structure)


def zeros(like: Tensor) -> Tensor:
    """Zeros of a tensor's shape and dtype."""
    return wrap(np.zeros(like.shape, like.dtype))


def as_given(name: str, what: str, wanted: Any, given: Any) -> list[Tensor]:
    """The tensors of a structure that must have the structure, shapes and dtypes of another; of dicts by their keys."""
    expected = tensors_in(wanted)
    try:
        pairs = [(like, tensor) for like, tensor in paired(wanted, given) if isinstance(like, Tensor)]
    except ValueError as error:
        raise ValueError(f"{name}: {what} must have the structure of what they are for, got {error}") from None
    if any(not isinstance(tensor, Tensor) or tensor.shape != like.shape for like, tensor in pairs):
        raise ValueError(
            f"{name}: {what} must have the shapes {', '.join(str(t.shape) for t in expected)}, "
            f"got {', '.join(str(t.shape) for t in tensors_in(given)) or shown(given)}"
        )
    for like, tensor in pairs:
        if tensor.dtype != like.dtype:
            raise TypeError(
                f"{name}: {what} must have the dtype of what they are for, {like.dtype}, got {tensor.dtype}"
            )
    return [tensor for _, tensor in pairs]


def chosen(name: str, argnums: ArgNums, arguments: Sequence[Any]) -> tuple[int, ...]:
    """The positions that ``argnums`` names."""
    several = argnums if isinstance(argnums, tuple) else (argnums,)
    if not several:
        raise ValueError(f"{name}: argnums names no argument")
    for position in several:
        if isinstance(position, bool) or not isinstance(position, (int, np.integer)):
            raise TypeError(f"{name}: argnums must be an integer or a tuple of integers, got {shown(argnums)}")
        if not -len(arguments) <= position < len(arguments):
            raise ValueError(f"{name}: argnums names argument {position}, the function got {len(arguments)}")
    found = tuple([int(position) % len(arguments) for position in several])
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: argnums names an argument twice, got {shown(argnums)}")
    return found


def nested_by_argument(argnums: ArgNums, arguments: Sequence[Any], found: Sequence[Any]) -> Any:
    """One result for each tensor, in the structure of the arguments that ``argnums`` names."""
    results = iter(found)
    several = argnums if isinstance(argnums, tuple) else (argnums,)
    parts = tuple([map_tensors(lambda _: next(results), arguments[position]) for position in several])
    return parts if isinstance(argnums, tuple) else parts[0]
