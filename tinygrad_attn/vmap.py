"""vmap: a function of one example as a function of batches, by the loop over them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tinygrad_attn import random
from tinygrad_attn.checked import shown
from tinygrad_attn.nested import is_nested, map_nested, paired, spread
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.joining import select, stack
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor, wrap

__all__ = ["Randomness", "check_chunk_size", "check_randomness", "vmap"]

Randomness = Literal["error", "different", "same"]


@public("func", "ta")
def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: Randomness = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function of batches: ``func`` is called for each example, and the results are stacked.

    It saves writing the loop, not its time: ops that know a batch axis are faster.

    Args:
        func: of tensors of one example; returns a tensor, or several, nested.
        in_dims: the axis of the examples, of all arguments, or a tuple with that of each; for an argument that is
            nested, one or a structure like it. None for what is the same for all. Named arguments are passed on.
        out_dims: the axis of the examples in all results, or a structure like them; None for a result that is the same
            for all, of which one is returned.
        randomness: whether each example draws other numbers, as for dropout, or the same; with "error" none may be
            drawn.
        chunk_size: taken for PyTorch's sake: how many examples are computed at once. Here one is.

    Raises:
        TypeError, ValueError, IndexError: of the function made: no argument has examples, their numbers differ, there
            is no such axis, or a result is no tensor or has another shape for another example.
        RuntimeError: of the function made: numbers are drawn, and ``randomness`` is "error".
    """
    if not callable(func):
        raise TypeError(f"vmap: expected a function, got {shown(func)}")
    if not isinstance(in_dims, (int, np.integer, tuple)):
        raise ValueError(
            f"vmap: in_dims must be an integer or a tuple with one for each argument, got {shown(in_dims)}"
        )
    check_randomness("vmap", randomness)
    check_chunk_size("vmap", chunk_size)

    @functools.wraps(func)
    def of_batches(*arguments: Any, **options: Any) -> Any:
        leaves, dims = _mapped(arguments, in_dims)
        sizes = {leaf.shape[dim] for leaf, dim in zip(leaves, dims, strict=True) if dim is not None}
        if len(sizes) != 1:
            found = ", ".join(map(str, sorted(sizes))) or "none"
            raise ValueError(f"vmap: all arguments must have the same number of examples; found {found}")
        (size,) = sizes

        def result_of(number: int) -> Any:
            own = iter([_example(leaf, dim, number) for leaf, dim in zip(leaves, dims, strict=True)])
            return func(*map_nested(lambda _: next(own), arguments), **options)

        return _joined(_drawn(result_of, max(1, size), randomness), out_dims, size)

    return of_batches


def check_randomness(name: str, randomness: str) -> None:
    """Raise unless ``randomness`` is one of PyTorch's words."""
    if randomness not in ("error", "different", "same"):
        raise ValueError(f"{name}: randomness must be 'error', 'different' or 'same', got {shown(randomness)}")


def check_chunk_size(name: str, size: int | None) -> None:
    """Raise unless ``size`` is None or a whole number above 0."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1):
        raise ValueError(f"{name}: chunk_size must be None or a whole number above 0, got {shown(size)}")


def _mapped(arguments: tuple[Any, ...], in_dims: Any) -> tuple[list[Any], list[int | None]]:
    """All leaves of the arguments, and of each the axis of its examples, None if it is the same for all."""
    if not arguments:
        raise ValueError("vmap: the function was given no argument that has examples")
    leaves: list[Any] = []
    map_nested(leaves.append, arguments)
    try:
        dims = list(spread(in_dims, arguments))
    except ValueError as error:
        raise ValueError(f"vmap: in_dims does not fit the arguments: it has {error}") from None
    for position, (leaf, dim) in enumerate(zip(leaves, dims, strict=True)):
        if dim is None:
            continue
        if not isinstance(leaf, Tensor):
            raise ValueError(f"vmap: {shown(leaf)} is no tensor and has no examples; give None for it in in_dims")
        if leaf.ndim == 0:
            raise IndexError("vmap: a tensor without axes has no examples; give None for it in in_dims")
        dims[position] = one_dim("vmap", dim, leaf.ndim)
    return leaves, dims


def _example(leaf: Any, dim: int | None, number: int) -> Any:
    """One example; of a batch that has none, zeros, by which the results' shapes are found."""
    if dim is None:
        return leaf
    if leaf.shape[dim] == 0:
        return wrap(np.zeros(leaf.shape[:dim] + leaf.shape[dim + 1 :], leaf.dtype))
    return select(leaf, dim, number)


def _drawn(result_of: Callable[[int], Any], count: int, randomness: Randomness) -> list[Any]:
    """The results of so many examples, each with the random numbers that it may have."""
    results, before = [], random.get_state()
    for number in range(count):
        if randomness == "same":
            random.set_state(before)
        results.append(result_of(number))
        if randomness == "error" and random.get_state() != before:
            random.set_state(before)
            raise RuntimeError(
                "vmap: the function draws random numbers, as dropout does; give randomness='different' or 'same'"
            )
    return results


def _joined(results: Sequence[Any], out_dims: Any, size: int) -> Any:
    """The results of all examples as one structure of batches."""
    dims = _out_dims(out_dims, results[0])
    columns: list[list[Any]] = [[] for _ in dims]
    try:
        for result in results:
            for column, (_, leaf) in zip(columns, paired(results[0], result), strict=True):
                column.append(leaf)
    except ValueError as error:
        raise TypeError(f"vmap: the function must return the same structure for each example, got {error}") from None
    joined = iter([_joined_leaf(column, dim, size) for column, dim in zip(columns, dims, strict=True)])
    return map_nested(lambda _: next(joined), results[0])


def _out_dims(out_dims: Any, result: Any) -> list[int | None]:
    if isinstance(out_dims, tuple) and len(out_dims) == 1 and not is_nested(result):
        (out_dims,) = out_dims
    try:
        return list(spread(out_dims, result))
    except ValueError as error:
        raise ValueError(f"vmap: out_dims does not fit the results: it has {error}") from None


def _joined_leaf(leaves: list[Any], dim: int | None, size: int) -> Any:
    first = leaves[0]
    if dim is None:
        if all(each is first or _equal(each, first) for each in leaves):
            return first
        raise ValueError("vmap: a result depends on the example, so it has an axis of examples; out_dims gives None")
    if not all(isinstance(each, Tensor) for each in leaves):
        raise TypeError(
            f"vmap: the function must return tensors, got {shown(first)}; give None for what is the same for all "
            "examples in out_dims"
        )
    if len(shapes := {each.shape for each in leaves}) > 1:
        raise ValueError(f"vmap: a result must have one shape for all examples, got {', '.join(map(str, shapes))}")
    dim = one_dim("vmap", dim, first.ndim + 1)
    if not size:
        return wrap(np.zeros((*first.shape[:dim], 0, *first.shape[dim:]), first.dtype))
    return stack(leaves, dim)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return bool(np.array_equal(one.array, other.array, equal_nan=one.dtype.kind == "f"))
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and bool(np.all(one == other))
