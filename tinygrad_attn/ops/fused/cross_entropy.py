"""Cross entropy: minus the log-probability of the target class.

Losses take ``reduction``: ``"mean"``, ``"sum"``, or ``"none"`` for one loss per target. PyTorch's deprecated
``size_average`` and ``reduce`` are unknown here and raise a TypeError.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels import cross_entropy as kernels
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import as_tensor, floating
from tinygrad_attn.ops.comparison import eq, ne
from tinygrad_attn.ops.fused.softmax import log_softmax, softmax
from tinygrad_attn.ops.indexing import gather, index_select
from tinygrad_attn.ops.loss import check_reduction, reduced
from tinygrad_attn.ops.pointwise import add, mul, neg, true_divide, where
from tinygrad_attn.ops.reduction import sum, sum_to
from tinygrad_attn.ops.shape import reshape, squeeze, unsqueeze
from tinygrad_attn.overwriting import writes_over
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["cross_entropy", "nll_loss"]

Array = np.ndarray[Any, Any]


def _class_dim(ndim: int) -> int:
    """The axis of the classes: the only one, or the second, as in ``(N, C, d1, …)``."""
    return 0 if ndim == 1 else 1


def _check_classes(op: str, input: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> None:
    """Check all shapes and dtypes, and that each target is a class or ``ignore_index``."""
    check_reduction(op, reduction)
    if input.ndim == 0:
        raise ValueError(f"{op}: input must be (C,) or (N, C, d1, …), its shape is ()")
    dim = _class_dim(input.ndim)
    classes = input.shape[dim]
    expected = input.shape[:dim] + input.shape[dim + 1 :]
    if target.dtype.kind not in "iu":
        raise TypeError(f"{op}: target must hold class indices, integers; it is {target.dtype} of shape {target.shape}")
    if target.shape != expected:
        raise ValueError(f"{op}: target must have shape {expected} for input {input.shape}, it has {target.shape}")
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{op}: weight must have shape ({classes},), one for each class, it has {weight.shape}")
    values = target.array if isinstance(target, Tensor) else target
    wrong = kernels.wrong_target(values, classes, ignore_index)
    if wrong is not None:
        raise IndexError(
            f"{op}: target {values.flat[wrong]} is out of range for {classes} classes, "
            f"and ignore_index is {ignore_index}"
        )


def _check_smoothing(label_smoothing: float) -> None:
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing}")


def _class_samples(draw: Draw) -> Sample:
    classes = draw.integer(1, 4)
    leading = draw.shape((0, 1), (0, 4))
    trailing = draw.shape((0, 2), (1, 3)) if leading else ()
    target = draw.integers((*leading, *trailing), 0, classes - 1)
    ignore_index = draw.choice([-100, 0, -1])
    target[draw.mask(target.shape) & draw.mask(target.shape)] = ignore_index if ignore_index != -100 else 0
    weight = draw.floats((classes,), 0.5, 2.0) if draw.boolean() else None
    options = {
        "ignore_index": ignore_index,
        "reduction": draw.choice(["mean", "sum", "none"]),
        "label_smoothing": draw.choice([0.0, 0.1, 1.0]),
    }
    return Sample((draw.floats((*leading, classes, *trailing)), target, weight), options)


_plain = {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
_logits = np.ones((2, 3))
_targets = np.array([0, 2])


@op(
    r"z = \operatorname{mean}_i \ell_i, \quad \ell_i = \ln \textstyle\sum_c e^{x_{ic}} - x_{i y_i}",
    samples=_class_samples,
    errors=[
        ErrorSample((_logits, np.array([0, 3]), None), _plain, IndexError, "target 3 .* 3 classes"),
        ErrorSample((_logits, np.array([0, -1]), None), _plain, IndexError, "target -1 .* 3 classes"),
        ErrorSample((_logits, np.array([0.0, 1.0]), None), _plain, TypeError, "class indices, .* float64"),
        ErrorSample((_logits, np.array([0]), None), _plain, ValueError, r"\(2,\) for input \(2, 3\), it has \(1,\)"),
        ErrorSample((_logits, _targets, np.ones(2)), _plain, ValueError, r"weight .* \(3,\).* \(2,\)"),
        ErrorSample((_logits, _targets, None), {**_plain, "reduction": "max"}, ValueError, "'max'"),
        ErrorSample((_logits, _targets, None), {**_plain, "label_smoothing": 2.0}, ValueError, "label_smoothing"),
        ErrorSample((_logits, _targets, None), {**_plain, "size_average": True}, TypeError, "size_average"),
    ],
    saves=("lses", "divisor"),
    symbols={
        "y": "target",
        "w": "weight",
        r"\epsilon": "label_smoothing",
        r"\nu": "ignore_index",
        "C": "input",
        r"\text{mean}": "reduction",
    },
)
def _cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    /,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Array, Array, Array]:
    """`cross_entropy` of class indices; saves the log-sum-exp of each row of logits, and the divisor of the mean."""
    _check_classes("cross_entropy", input, target, weight, ignore_index, reduction)
    _check_smoothing(label_smoothing)
    losses, lses = kernels.cross_entropy(
        _rows(input), target.reshape(-1), weight, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    if reduction == "none":
        return losses.reshape(target.shape), lses, np.ones((), input.dtype)
    total = np.add.reduce(losses)
    if reduction == "sum":
        return np.asarray(total), lses, np.ones((), input.dtype)
    counts = target != ignore_index
    counted = np.count_nonzero(counts) if weight is None else np.add.reduce(weight[target[counts]])
    divisor = np.asarray(counted, input.dtype)
    return np.asarray(total / divisor if divisor else total * 0.0), lses, divisor


def _rows(input: Array) -> Array:
    """Logits ``(N, C, d1, …)`` as one row for each target."""
    if input.ndim == 2:
        return input
    moved = np.moveaxis(input, _class_dim(input.ndim), -1)
    return moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def _logits_gradient(
    g: Array,
    input: Array,
    target: Array,
    weight: Array | None,
    lses: Array,
    divisor: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    return _logits_gradient_into(None, g, input, target, weight, lses, divisor, ignore_index, label_smoothing)


@writes_over(_logits_gradient, "input")
def _logits_gradient_over_input(g: Array, input: Array, *others: Any) -> Array:
    return _logits_gradient_into(input if input.ndim == 2 and input.flags.carray else None, g, input, *others)


def _logits_gradient_into(
    out: Array | None,
    g: Array,
    input: Array,
    target: Array,
    weight: Array | None,
    lses: Array,
    divisor: Array,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """The gradient of the logits, in the memory of ``out`` unless that is None."""
    scale = np.broadcast_to(g / divisor if divisor else g * 0.0, target.shape).reshape(-1)
    rows = kernels.cross_entropy_backward(
        scale,
        _rows(input),
        target.reshape(-1),
        lses,
        weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        out=out,
    )
    if input.ndim == 2:
        return rows
    dim = _class_dim(input.ndim)
    moved = (*input.shape[:dim], *input.shape[dim + 1 :], input.shape[dim])
    return np.moveaxis(rows.reshape(moved), -1, dim)


def _shares(input: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    """t: for each target the probability of every class, label smoothing included."""
    dim = _class_dim(input.ndim)
    classes = np.arange(input.shape[dim]).reshape(-1, *[1] * (input.ndim - 1 - dim))
    hit = np.expand_dims(target.array, dim) == classes
    return Tensor((hit * (1.0 - label_smoothing) + label_smoothing / len(classes)).astype(input.dtype))


def _target_weights(target: Tensor, weight: Tensor | None, ignore_index: int, dtype: Any) -> Tensor:
    """The weight of each target's class, 0 where it is ignored."""
    counted = ne(target, ignore_index)
    if weight is None:
        return Tensor(counted.array.astype(dtype))
    classes = where(counted, target, 0)
    return where(counted, reshape(index_select(weight, 0, reshape(classes, (-1,))), classes.shape), 0.0)


def _loss_gradients(g: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    """The gradient of each target's loss, 0 where it is ignored."""
    if reduction == "mean":
        divisor = sum(_target_weights(target, weight, ignore_index, g.dtype))
        g = g / divisor if divisor.item() else g * 0.0
    return where(ne(target, ignore_index), g, 0.0)


def _input_gradient(
    g: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    dim = _class_dim(input.ndim)
    q = _shares(input, target, label_smoothing)
    if weight is not None:
        q = q * _along_classes(weight, input.ndim)
    arrived = unsqueeze(_loss_gradients(g, target, weight, ignore_index, reduction), dim)
    return arrived * (softmax(input, dim=dim) * sum(q, dim, keepdim=True) - q)


def _weight_gradient(
    g: Tensor,
    z: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    dim, shares = _class_dim(input.ndim), _shares(input, target, label_smoothing)
    logs = where(eq(shares, 0.0), 0.0, log_softmax(input, dim=dim))  # 0 times -inf is 0 here
    arrived = unsqueeze(_loss_gradients(g, target, weight, ignore_index, reduction), dim)
    through_losses = reshape(sum_to(arrived * shares * logs, shape=_along_classes(weight, input.ndim).shape), (-1,))
    divisor = sum(_target_weights(target, weight, ignore_index, g.dtype))
    if reduction != "mean" or not divisor.item():
        return -through_losses
    counted = target.array[target.array != ignore_index]
    uses = Tensor(np.bincount(counted, minlength=weight.shape[0]).astype(g.dtype))
    return -through_losses - g * z * uses / divisor


_TERMS = (
    r"\bar\ell_i = [y_i \ne \nu]\, \bar z / D, "
    r"\quad D = \left(\textstyle\sum_i [y_i \ne \nu]\, w_{y_i}\right)^{[\text{mean}]}, "
    r"\quad t_{ic} = (1 - \epsilon)\,[c = y_i] + \epsilon / C, \quad p_i = \operatorname{softmax} x_i"
)
_cross_entropy.vjp(
    "input",
    r"\bar x_i = \bar\ell_i \left(p_i \textstyle\sum_c q_{ic} - q_i\right), \quad q_{ic} = w_c t_{ic}, "
    rf"\quad {_TERMS}",
    _input_gradient,
    kernel=_logits_gradient,
)
_cross_entropy.vjp(
    "weight",
    r"\bar w_c = -\textstyle\sum_i \bar\ell_i t_{ic} \ln p_{ic} "
    r"- [\text{mean}]\, \bar z\, z \sum_i [c = y_i]\,[y_i \ne \nu] / D, "
    rf"\quad {_TERMS}",
    _weight_gradient,
)


@_cross_entropy.composed_of
def _cross_entropy_reference(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    _check_classes("cross_entropy", input, target, weight, ignore_index, reduction)
    _check_smoothing(label_smoothing)
    dim = _class_dim(input.ndim)
    logs = log_softmax(input, dim)
    losses, weights = _picked(logs, target, weight, ignore_index)
    if label_smoothing > 0.0:
        weighted = logs if weight is None else mul(logs, _along_classes(weight, logs.ndim))
        smooth = where(eq(target, ignore_index), 0.0, neg(sum(weighted, dim)))
        losses = add(mul(losses, 1.0 - label_smoothing), mul(smooth, label_smoothing / input.shape[dim]))
    return _weighted_reduction(losses, weights, reduction)


def _along_classes(weight: Tensor, ndim: int) -> Tensor:
    """The weight of each class, shaped to broadcast against ``(N, C, d1, …)``."""
    return reshape(weight, (weight.shape[0], *[1] * (ndim - 1 - _class_dim(ndim))))


def _picked(logs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> tuple[Tensor, Tensor]:
    """For each target the weighted negative log-probability and the weight, both 0 where it is ignored."""
    dim = _class_dim(logs.ndim)
    counted = ne(target, ignore_index)
    classes = where(counted, target, 0)
    weights = _target_weights(target, weight, ignore_index, logs.dtype)
    losses = where(counted, neg(squeeze(gather(logs, dim, unsqueeze(classes, dim)), dim)), 0.0)
    return (losses if weight is None else mul(losses, weights)), weights


def _weighted_reduction(losses: Tensor, weights: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    total = sum(losses)
    if reduction == "sum":
        return total
    divisor = sum(weights)
    # PyTorch's mean over no target is nan, which would spoil all parameters after one batch of padding.
    return true_divide(total, divisor) if divisor.item() else mul(total, 0.0)


@public("F")
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Minus the log-probability that :math:`\operatorname{softmax}(x)` gives to the target, in nats.

    With class indices :math:`y` the loss of one row is

    .. math:: -\sum_c w_c \left((1 - ε)\,[c = y] + ε / C\right) \ln \operatorname{softmax}(x)_c

    and the mean divides by the sum of :math:`w_y` over the targets that are not ignored. Probabilities (a target of the
    shape of ``input``) replace :math:`[c = y]`, and the mean then divides by the number of rows.

    Unlike in PyTorch, if every target is ignored (or has weight 0), the mean is 0 with zero gradient, not nan.

    Args:
        input: logits, ``(C,)`` or ``(N, C, d1, …)``.
        target: integers, ``()`` or ``(N, d1, …)``; or probabilities in the shape of ``input``.
        weight: ``(C,)``, a factor for each class.
        ignore_index: a target that is ignored; for class indices only.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        label_smoothing: ε, the share of probability that is spread evenly over all classes.

    Returns:
        A scalar, or for ``"none"`` the shape of the class indices.

    Raises:
        IndexError: a class index that is out of range.
        TypeError: the target holds neither integers nor, in the shape of ``input``, floats.
        ValueError: a shape that does not fit, an unknown reduction, a label smoothing outside 0 to 1, or an
            ``ignore_index`` among probabilities.
    """
    input, target = floating("cross_entropy", "input", input), as_tensor(target, "cross_entropy: target")
    if target.shape == input.shape:
        weight = None if weight is None else floating("cross_entropy", "weight", weight)
        return _probability_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
    return _cross_entropy(
        input, target, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def _probability_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor:
    name = "cross_entropy"
    check_reduction(name, reduction)
    if input.ndim == 0:
        raise ValueError(f"{name}: input must be (C,) or (N, C, d1, …), its shape is ()")
    dim = _class_dim(input.ndim)
    classes = input.shape[dim]
    if not target.is_floating_point():
        raise TypeError(
            f"{name}: a target of input's shape {input.shape} must hold probabilities (floats), it is {target.dtype}"
        )
    if ignore_index >= 0:
        raise ValueError(f"{name}: ignore_index {ignore_index} has no meaning for a target of probabilities")
    _check_smoothing(label_smoothing)
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight must have shape ({classes},), one for each class, it has {weight.shape}")
    if label_smoothing > 0.0:
        target = add(mul(target, 1.0 - label_smoothing), label_smoothing / classes)
    terms = mul(target, log_softmax(input, dim))
    if weight is not None:
        terms = mul(terms, _along_classes(weight, input.ndim))
    return reduced(neg(sum(terms, dim)), reduction)


@public("F")
def nll_loss(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    r"""The negative log-likelihood :math:`-w_y x_y` of classes, given their log-probabilities.

    Arguments, mean, results and errors are those of `cross_entropy` with class indices, except that ``input`` is
    ``log_softmax`` of the logits.
    """
    input, target = floating("nll_loss", "input", input), as_tensor(target, "nll_loss: target")
    weight = None if weight is None else floating("nll_loss", "weight", weight)
    _check_classes("nll_loss", input, target, weight, ignore_index, reduction)
    return _weighted_reduction(*_picked(input, target, weight, ignore_index), reduction)
