"""Loss functions of single elements: mse_loss, binary_cross_entropy_with_logits, kl_div.

Every loss takes ``reduction``: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per element. PyTorch's deprecated
``size_average`` and ``reduce`` are unknown here and raise a TypeError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating
from tinygrad_attn.ops.comparison import eq
from tinygrad_attn.ops.pointwise import add, exp, log, mul, neg, sigmoid, square, sub, true_divide, where
from tinygrad_attn.ops.reduction import mean, sum
from tinygrad_attn.public import public
from tinygrad_attn.samples import floats
from tinygrad_attn.tensor import Tensor

__all__ = ["binary_cross_entropy_with_logits", "kl_div", "logsigmoid", "mse_loss"]

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
    yes = target if pos_weight is None else mul(target, factors["pos_weight"])
    no = sub(1.0, target)
    losses = sub(mul(no, input), mul(add(yes, no), logsigmoid(input)))
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
