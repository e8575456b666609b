"""Clipping of gradients: clip_grad_norm_, clip_grad_value_."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import numpy as np

from tinygrad_attn.checked import Number, checked
from tinygrad_attn.kernels.adam import global_norm
from tinygrad_attn.nn.module import Parameter, named, writable
from tinygrad_attn.tensor import Tensor

__all__ = ["AboveZero", "NonFiniteGradientError", "clip_factor", "clip_grad_norm_", "clip_grad_value_", "finite_norm"]

Array = np.ndarray[Any, Any]

AboveZero = Annotated[float, Number(lambda x: x > 0.0, "be a number above 0", finite=False)]
"""A number above 0, infinity too."""

_ADVICE = "detect_anomaly() around forward and backward names the op where it began, and a smaller lr may avoid it"


def _with_gradient(owner: str, parameters: Any) -> list[tuple[str, Tensor]]:
    """The gradients of those parameters that have one, each with its parameter's name."""
    return [(name, p.grad) for name, p in named(owner, parameters) if p.grad is not None]


class NonFiniteGradientError(RuntimeError):
    """Nan or infinity in a gradient that was to be clipped by its norm."""


def _norm_of_kind(gradients: Sequence[Array], norm_type: float) -> float:
    """(Σ |g|^p)^(1/p) over all elements of all gradients; the largest |g| for p = ∞."""
    if norm_type == 2.0:
        return global_norm(gradients)
    sizes = [np.abs(gradient, dtype=np.float64).ravel() for gradient in gradients]
    return float(np.linalg.norm(np.concatenate(sizes), norm_type)) if sum(map(len, sizes)) else 0.0


def finite_norm(gradients: Sequence[Array], name: Callable[[int], str], owner: str, norm_type: float = 2.0) -> float:
    """The norm of all elements of all gradients, for clipping.

    Args:
        gradients: float32 or float64, of any shapes.
        name: from the position of a gradient to the name of its parameter, for the error.
        owner: of the error's message.
        norm_type: p of the norm.

    Raises:
        NonFiniteGradientError: nan or infinity in a gradient, the first three of which are named, or a norm too large
            for a float.
    """
    norm = _norm_of_kind(gradients, norm_type)
    if math.isfinite(norm):
        return norm
    bad = []
    for position, gradient in enumerate(gradients):
        nans, infinities = int(np.isnan(gradient).sum()), int(np.isinf(gradient).sum())
        counts = [f"{count} {what}" for count, what in ((nans, "nan"), (infinities, "infinite")) if count]
        if counts:
            bad.append(f"{name(position)} ({' and '.join(counts)} of {gradient.size:,})")
    listing = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    where = f"in the gradient of {listing}" if bad else "since finite gradients are too large for it"
    raise NonFiniteGradientError(
        f"{owner}: the norm of the gradients is {norm}, {where}, so nothing can be clipped by it and no parameter was "
        f"changed; {_ADVICE}"
    )


def clip_factor(norm: float, max_norm: float) -> float:
    """The factor that brings gradients of norm ``norm`` to at most ``max_norm``; at most 1."""
    return min(1.0, max_norm / (norm + 1e-6))


@checked
def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter], max_norm: AboveZero, norm_type: AboveZero = 2.0
) -> float:
    """Scale all gradients together, in place, so that their norm is at most ``max_norm``.

    Args:
        parameters: one tensor or several; those without a gradient do not count.
        max_norm: of all elements of all gradients; above 0.
        norm_type: p of the norm (Σ |g|^p)^(1/p), above 0: 2 is Euclidean, infinity the largest element.

    Returns:
        The norm before.

    Raises:
        NonFiniteGradientError: nan or infinity among the gradients; their parameters are named, and no gradient is
            changed.
        ValueError: a norm that is not above 0.
        TypeError: not parameters.
    """
    given = _with_gradient("clip_grad_norm_", parameters)
    gradients = [gradient for _, gradient in given]
    norm = finite_norm([g.array for g in gradients], lambda i: given[i][0], "clip_grad_norm_", norm_type)
    factor = clip_factor(norm, max_norm)
    if factor < 1.0:
        for gradient in gradients:
            np.multiply(array := writable(gradient), factor, out=array)
            gradient._written_by("clip_grad_norm_()")
    return norm


@checked
def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: AboveZero) -> None:
    """Limit every element of every gradient, in place, to the range from ``-clip_value`` to ``clip_value``.

    Args:
        parameters: one tensor or several; those without a gradient do not count.
        clip_value: above 0.

    Raises:
        NonFiniteGradientError: nan in a gradient; its parameter is named, and nothing is changed.
        ValueError: a ``clip_value`` that is not above 0.
        TypeError: not parameters.
    """
    given = _with_gradient("clip_grad_value_", parameters)
    for name, gradient in given:
        if np.isnan(gradient.array).any():
            raise NonFiniteGradientError(
                f"clip_grad_value_: the gradient of {name} has nan, which cannot be clipped; {_ADVICE}"
            )
    for _, gradient in given:
        np.clip(array := writable(gradient), -clip_value, clip_value, out=array)
        gradient._written_by("clip_grad_value_()")
