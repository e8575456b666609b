"""Compares two results, ours and PyTorch's: values, dtypes, gradients and second gradients, and where nan stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import tinygrad_attn as ta

__all__ = ["DTYPES", "compared"]

DTYPES = [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_]


def leaves(value: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def differ(found: np.ndarray, expected: np.ndarray, single: bool = False) -> bool:
    """Whether two results are not equal; nan and infinities must be equal in place and sign."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return True
    if found.dtype.kind != "f":
        return not np.array_equal(found, expected)
    tolerance = 2e-4 if single or found.dtype == np.float32 else 1e-8
    finite = expected[np.isfinite(expected)]
    size = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    return not np.allclose(found, expected, rtol=tolerance, atol=tolerance * size, equal_nan=True)


def described(what: str, found: np.ndarray, expected: np.ndarray) -> str:
    """A difference; where one is nan or infinite and the other is not, that is said first."""
    kinds = ""
    if found.shape == expected.shape and found.dtype.kind == expected.dtype.kind == "f":
        unlike = (np.isnan(found) != np.isnan(expected)) | (np.isinf(found) != np.isinf(expected))
        rest = np.where(unlike, 0.0, found), np.where(unlike, 0.0, expected)
        pairs = sorted({(kind_of(a), kind_of(b)) for a, b in zip(found[unlike], expected[unlike], strict=True)})
        if pairs and not differ(rest[0], rest[1].astype(rest[0].dtype), True):
            kinds = "".join(f" [{a} for {b}]" for a, b in pairs)
    return f"{what}{kinds} {found.dtype} {found.tolist()!r:.150}, not {expected.dtype} {expected.tolist()!r:.150}"


def kind_of(number: float) -> str:
    return "nan" if np.isnan(number) else f"{number}" if np.isinf(number) else "finite"


def seeded_sum(tensors: list[Any], like: Callable[[np.ndarray, Any], Any]) -> Any:
    """The sum of all elements of the tensors, each times a random number, the same in both libraries."""
    seeds, total = np.random.default_rng(0), None
    for x in tensors:
        term = (x * like(np.asarray(seeds.standard_normal(tuple(x.shape))), x)).sum()
        total = term if total is None else total + term
    return total


def ours_like(seed: np.ndarray, x: ta.Tensor) -> ta.Tensor:
    return ta.tensor(seed, dtype=x.dtype)


def theirs_like(seed: np.ndarray, y: torch.Tensor) -> torch.Tensor:
    return torch.tensor(seed, dtype=y.dtype)


def gradients(
    results: list[Any], inputs: list[Any], like: Callable[..., Any], grad: Callable[..., Any], options: dict[str, Any]
) -> list[Any]:
    """The gradients of a seeded sum of the results."""
    return list(grad(seeded_sum(results, like), inputs, allow_unused=True, **options))


def compared(ours: Any, theirs: Any, inputs: list[tuple[Any, Any]], second: bool = False) -> str:
    """What differs between two results, in words; empty if nothing does. ``second``: compare second derivatives too."""
    mine, other = leaves(ours), leaves(theirs)
    if len(mine) != len(other):
        return f"{len(mine)} results, not {len(other)}"
    single = any(x.dtype == np.float32 for x, _ in inputs)
    for x, y in zip(mine, other, strict=True):
        if x.dtype not in DTYPES:
            return f"dtype {x.dtype}"
        if differ(x.array, y.numpy(force=True), single):
            return described("value", x.array, y.numpy(force=True))
        if len(mine) == 1 and x.dtype.kind == "f" and x.requires_grad != y.requires_grad:
            return f"requires_grad {x.requires_grad}, not {y.requires_grad}"
    both = [(x, y) for x, y in zip(mine, other, strict=True) if x.requires_grad and y.requires_grad]
    for order in ("gradient", "recorded gradient", "second gradient")[: 3 if second else 1]:
        if not both or not inputs:
            return ""
        again = {"retain_graph": second, "create_graph": order != "gradient"}
        found = gradients([x for x, _ in both], [x for x, _ in inputs], ours_like, ta.grad, again)
        right = gradients([y for _, y in both], [y for _, y in inputs], theirs_like, torch.autograd.grad, again)
        for number, (x, y) in enumerate(zip(found, right, strict=True)):
            like = inputs[number][1]
            y = torch.zeros_like(like) if y is None else y
            x = (
                np.zeros(y.shape, y.numpy(force=True).dtype) if x is None else x.array
            )  # None and zeros are one gradient
            if differ(x, y.numpy(force=True), single or order == "second gradient"):
                return described(f"{order} {number}", x, y.numpy(force=True))
        if order == "recorded gradient":
            both = [(x, y) for x, y in zip(found, right, strict=True) if x is not None and y is not None]
            both = [(x, y) for x, y in both if x.requires_grad and y.requires_grad]
    return ""
