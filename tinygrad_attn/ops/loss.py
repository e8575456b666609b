"""Loss functions of single elements: mse_loss, l1_loss, huber_loss, binary_cross_entropy, kl_div, …

Every loss takes ``reduction``: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per element. PyTorch's deprecated
``size_average`` and ``reduce`` are unknown here and raise a TypeError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating
from tinygrad_attn.ops.comparison import eq, ge, gt
from tinygrad_attn.ops.pointwise import (
    abs,
    add,
    exp,
    log,
    log1p,
    maximum,
    mul,
    neg,
    quiet,
    sigmoid,
    square,
    sub,
    true_divide,
    where,
)
from tinygrad_attn.ops.reduction import mean, sum
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample, floats
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import number

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "huber_loss", "kl_div", "l1_loss", "logsigmoid",
    "mse_loss", "smooth_l1_loss",
]  # fmt: skip

Array = np.ndarray[Any, Any]


@public("F")
def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    r"""The squared error :math:`(x - y)^2`.

    Args:
        input, target: floats of one shape. PyTorch broadcasts with a warning; here other shapes are an error.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: two shapes, or an unknown reduction.
    """
    input, target = _pair("mse_loss", input, target, reduction)
    return reduced(square(sub(input, target)), reduction)


@public("F")
def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    r"""The absolute error :math:`|x - y|`; its gradient where both are equal is 0. The rest is as with `mse_loss`."""
    input, target = _pair("l1_loss", input, target, reduction)
    return reduced(abs(sub(input, target)), reduction)


@public("F")
def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    r"""The error :math:`d = |x - y|`, smoothed near 0: :math:`d^2 / 2β` where :math:`d < β`, else :math:`d - β/2`.

    Girshick, "Fast R-CNN", 2015, eq. 3, with β = 1. With β = 0 it is `l1_loss`.

    Raises:
        ValueError: two shapes, an unknown reduction, or a negative ``beta``.
        TypeError: ``beta`` is not a number.
    """
    input, target = _pair("smooth_l1_loss", input, target, reduction)
    beta = _bound("smooth_l1_loss", "beta", beta)
    difference = sub(input, target)
    distance = abs(difference)
    if beta == 0.0:
        return reduced(distance, reduction)
    far = ge(distance, beta)
    near = mul(square(where(far, 0.0, difference)), 0.5 / beta)  # an infinite difference has no square here
    return reduced(where(far, sub(distance, 0.5 * beta), near), reduction)


@public("F")
def huber_loss(input: Any, target: Any, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    r"""With :math:`d = |x - y|`: :math:`d^2 / 2` where :math:`d ≤ δ`, else :math:`δ (d - δ/2)` (Huber 1964).

    Raises:
        ValueError: two shapes, an unknown reduction, or a ``delta`` that is not above 0.
        TypeError: ``delta`` is not a number.
    """
    input, target = _pair("huber_loss", input, target, reduction)
    delta = _bound("huber_loss", "delta", delta)
    if delta == 0.0:
        raise ValueError("huber_loss: delta must be above 0, got 0.0")
    difference = sub(input, target)
    distance = abs(difference)
    far = gt(distance, delta)
    near = mul(square(where(far, 0.0, difference)), 0.5)  # an infinite difference has no square here
    return reduced(where(far, mul(sub(distance, 0.5 * delta), delta), near), reduction)


def _probabilities(draw: Draw) -> Sample:
    shape = draw.shape()
    return Sample((draw.floats(shape, 0.1, 0.9), draw.floats(shape, 0.0, 1.0)))


@op(
    r"z = -y \max(\ln x, -100) - (1 - y) \max(\ln(1 - x), -100)",
    samples=_probabilities,
    errors=[ErrorSample((np.full(2, 1.5), np.ones(2)), {}, ValueError, "input must lie within 0 and 1")],
    symbols={"x": "input", "y": "target"},
)
@quiet
def _binary_cross_entropy(input: Array, target: Array, /) -> Array:
    """The losses of `binary_cross_entropy`, one for each element."""
    if input.size and not (input.min() >= 0.0 and input.max() <= 1.0):
        raise ValueError(
            "binary_cross_entropy: input must lie within 0 and 1; for logits there is binary_cross_entropy_with_logits"
        )
    return -target * np.maximum(np.log(input), -100.0) - (1.0 - target) * np.maximum(np.log1p(-input), -100.0)


_binary_cross_entropy.vjp(
    "input",
    r"\bar z\,(x - y) / \max(x (1 - x), 10^{-12})",
    lambda g, input, target: g * (input - target) / maximum(input * (1.0 - input), 1e-12),
)
_binary_cross_entropy.vjp(
    "target",
    r"\bar z \left(\max(\ln(1 - x), -100) - \max(\ln x, -100)\right)",
    lambda g, input: g * (maximum(log1p(-input), -100.0) - maximum(log(input), -100.0)),
)


@public("F")
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Tensor:
    r"""The cross entropy of two classes, from probabilities: :math:`-w \left(y \ln x + (1 - y) \ln(1 - x)\right)`.

    As in PyTorch a logarithm is at least -100, and the gradient's denominator :math:`x (1 - x)` at least 1e-12, so that
    both are finite. `binary_cross_entropy_with_logits` is exact.

    Args:
        input: x, probabilities, of any shape.
        target: y, the probability of the positive class, in the shape of ``input``.
        weight: w, broadcast to ``input``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: two shapes, an unknown reduction, an input outside 0 to 1, or a weight that does not broadcast.
    """
    name = "binary_cross_entropy"
    input, target = _pair(name, input, target, reduction)
    losses = _binary_cross_entropy(input, target)
    if weight is not None:
        weight = floating(name, "weight", weight)
        _check_broadcast(name, "weight", weight.shape, input.shape)
        losses = mul(losses, weight)
    return reduced(losses, reduction)


@public("F")
@op(r"z = \ln \sigma(x)", samples=floats(), floating=True)
def logsigmoid(input: Array) -> Array:
    """The logarithm of the logistic function, without overflow."""
    return np.minimum(input, 0.0) - np.log1p(np.exp(-np.abs(input)))


logsigmoid.vjp("input", r"\bar z \odot \sigma(-x)", lambda g, input: mul(g, sigmoid(neg(input))))


@public("F")
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    r"""The cross entropy of two classes: :math:`-w \left(p\,y \ln σ(x) + (1 - y) \ln(1 - σ(x))\right)`.

    Args:
        input: logits, of any shape.
        target: y, the probability of the positive class, in the shape of ``input``.
        weight: w, broadcast to ``input``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        pos_weight: p, the weight of the positive class, broadcast to ``input``.

    Raises:
        ValueError: two shapes, an unknown reduction, or a weight that does not broadcast.
    """
    name = "binary_cross_entropy_with_logits"
    input, target = _pair(name, input, target, reduction)
    factors = {}
    for which, factor in (("weight", weight), ("pos_weight", pos_weight)):
        if factor is not None:
            factors[which] = floating(name, which, factor)
            _check_broadcast(name, which, factors[which].shape, input.shape)
    # ln(1 - σ(x)) = ln σ(x) - x
    no, logarithm = sub(1.0, target), logsigmoid(input)
    if pos_weight is not None:
        logarithm = mul(add(mul(target, factors["pos_weight"]), no), logarithm)
    losses = sub(mul(no, input), logarithm)
    return reduced(losses if weight is None else mul(losses, factors["weight"]), reduction)


@public("F")
def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    r"""The pointwise Kullback-Leibler divergence :math:`y (\ln y - x)` of log-probabilities x from probabilities y.

    Args:
        input: log-probabilities.
        target: probabilities in the shape of ``input``, or their logarithms with ``log_target``. A probability of 0
            contributes 0, and the gradient with respect to it takes :math:`y \ln y` as constant there.
        reduction: ``"batchmean"``, the sum over the size of the first axis, which is the divergence itself; or
            ``"mean"`` (over all elements), ``"sum"``, ``"none"``.

    Raises:
        ValueError: two shapes, or an unknown reduction.
    """
    batch = reduction == "batchmean"
    input, target = _pair("kl_div", input, target, "sum" if batch else reduction)
    if log_target:
        losses = mul(exp(target), sub(target, input))
    else:
        absent = eq(target, 0.0)
        entropy = where(absent, 0.0, mul(target, log(where(absent, 1.0, target))))
        losses = sub(entropy, mul(target, input))
    if batch:
        return true_divide(sum(losses), max(input.shape[0], 1) if input.ndim else 1)
    return reduced(losses, reduction)


# -- arguments and reductions ------------------------------------------------------------------------------------------


def _pair(op: str, input: Any, target: Any, reduction: str) -> tuple[Tensor, Tensor]:
    """Input and target as float tensors, after checking that they have one shape, and the reduction."""
    check_reduction(op, reduction)
    input, target = floating(op, "input", input), floating(op, "target", target)
    if input.shape != target.shape:
        raise ValueError(f"{op}: target must have input's shape {input.shape}, it has {target.shape}; expand() it")
    return input, target


def _bound(op: str, name: str, value: Any) -> float:
    """The distance at which a loss changes its form: a number of at least 0."""
    found = number(op, name, value)
    if isinstance(found, bool):
        raise TypeError(f"{op}: {name} must be a number, got {found}")
    if not 0.0 <= found < np.inf:
        raise ValueError(f"{op}: {name} must be finite and not negative, got {found}")
    return float(found)


def _check_broadcast(op: str, name: str, shape: tuple[int, ...], whole: tuple[int, ...]) -> None:
    fits = len(shape) <= len(whole) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(whole), strict=False))
    if not fits:
        raise ValueError(f"{op}: {name} of shape {shape} does not broadcast to input {whole}")


def check_reduction(op: str, reduction: str) -> None:
    """Raise a ValueError unless ``reduction`` is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The losses as they are, their mean, or their sum."""
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum(losses)
