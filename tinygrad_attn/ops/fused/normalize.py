"""layer_norm, add_layer_norm (of a residual sum), normalize, cosine_similarity; for other norms, how rows are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.kernels.layernorm import layer_norm as layer_norm_kernel
from tinygrad_attn.kernels.layernorm import layer_norm_backward
from tinygrad_attn.modes import mark
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import floating
from tinygrad_attn.ops.pointwise import add, clamp, mul, rsqrt, square, sub, true_divide
from tinygrad_attn.ops.reduction import mean, sum, vector_norm
from tinygrad_attn.ops.shape import expand, sizes_of
from tinygrad_attn.public import public
from tinygrad_attn.rule import once_per_node
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = [
    "ADD_LAYER_NORM_ERRORS", "add_layer_norm", "add_layer_norm_samples", "check_normalized", "check_residual",
    "cosine_similarity", "flat", "in_shape", "layer_norm", "normalize", "rows_of", "sizes_of_rows", "standardize",
    "standardize_gradient",
]  # fmt: skip

Array = np.ndarray[Any, Any]


def check_normalized(op: str, shape: tuple[int, ...], normalized_shape: tuple[int, ...], **parameters: Any) -> None:
    """Raise unless the input's shape ends in ``normalized_shape`` and each parameter has that shape."""
    if not normalized_shape:
        raise ValueError(f"{op}: normalized_shape must name at least one axis, got ()")
    if shape[len(shape) - len(normalized_shape) :] != normalized_shape:
        raise ValueError(f"{op}: input must end in normalized_shape {normalized_shape}, its shape is {shape}")
    for name, parameter in parameters.items():
        if parameter is not None and parameter.shape != normalized_shape:
            raise ValueError(f"{op}: {name} must have normalized_shape {normalized_shape}, it has {parameter.shape}")


def sizes_of_rows(op: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return sizes_of(op, (normalized_shape,))


# -- layer norm --------------------------------------------------------------------------------------------------------


def _layer_norm_samples(draw: Draw) -> Sample:
    normalized = draw.shape((1, 2), (1, 4)) if draw.integer(0, 9) else (0,)
    weight = draw.floats(normalized) if draw.boolean() else None
    bias = draw.floats(normalized) if draw.boolean() else None
    # eps keeps rows whose elements are nearly equal smooth at the scale of a finite difference.
    options = {"normalized_shape": normalized, "eps": draw.choice([0.1, 0.5])}
    return Sample((draw.floats((*draw.shape((0, 2)), *normalized)), weight, bias), options)


_square = np.ones((2, 3))


@op(
    r"z = \hat x \odot w + b, \quad \hat x = (x - \mu)\,\rho, \quad \mu = \operatorname{mean} x, "
    r"\quad \rho = 1/\sqrt{\operatorname{mean} (x - \mu)^2 + \epsilon}",
    samples=_layer_norm_samples,
    errors=[
        ErrorSample((_square, None, None), {"normalized_shape": (4,)}, ValueError, r"\(4,\).* \(2, 3\)"),
        ErrorSample(
            (_square, np.ones(2), None), {"normalized_shape": (3,)}, ValueError, r"weight must .*\(3,\).* \(2,\)"
        ),
        ErrorSample((_square, None, np.ones((1, 3))), {"normalized_shape": (3,)}, ValueError, r"bias .*\(1, 3\)"),
        ErrorSample((_square, None, None), {"normalized_shape": ()}, ValueError, "at least one axis"),
    ],
    saves=("means", "rstds"),
    symbols={"w": "weight", "b": "bias", r"\epsilon": "eps"},
)
def _layer_norm(
    input: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """`layer_norm` with its operands first; saves each row's mean and 1 / sqrt(variance + eps)."""
    check_normalized("layer_norm", input.shape, normalized_shape, weight=weight, bias=bias)
    if not math.prod(normalized_shape):
        nothing = np.empty(input.shape, input.dtype)
        return nothing, nothing, nothing
    z, means, rstds = layer_norm_kernel(rows_of(input, normalized_shape), flat(weight), flat(bias), eps)
    return in_shape(z, input.shape), means, rstds


def rows_of(array: Array, normalized_shape: tuple[int, ...]) -> Array:
    """The array as a matrix: leading axes flattened, normalised axes flattened."""
    if len(normalized_shape) == 1:
        return array
    return array.reshape(*array.shape[: array.ndim - len(normalized_shape)], math.prod(normalized_shape))


def in_shape(array: Array, shape: tuple[int, ...]) -> Array:
    # A gradient that is no view belongs to the engine, which may then add to it in place.
    return array if array.shape == shape else array.reshape(shape)


def flat(array: Array | None) -> Array | None:
    return None if array is None else array.reshape(-1)


@once_per_node
def standardize(x: Tensor, normalized_shape: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """x̂ of mean 0 and variance 1, and ρ, the reciprocal of the standard deviation."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = sub(x, mean(x, dims, keepdim=True))
    rstd = rsqrt(add(mean(square(centred), dims, keepdim=True), eps))
    return mul(centred, rstd), rstd


def standardize_gradient(
    g: Tensor, x: Tensor, weight: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    """The gradient that reaches x through x̂ ⊙ w."""
    dims = tuple(range(-len(normalized_shape), 0))
    standard, rstd = standardize(x, normalized_shape, eps)
    h = g if weight is None else g * weight
    return rstd * (h - mean(h, dims, keepdim=True) - standard * mean(h * standard, dims, keepdim=True))


# The engine sums the gradients of weight and bias over the rows to which they were broadcast.
_layer_norm.vjp(
    "input",
    r"\rho\,(h - \operatorname{mean} h - \hat x \odot \operatorname{mean}(h \odot \hat x)), \quad h = \bar z \odot w",
    lambda g, input, weight, normalized_shape, eps: standardize_gradient(g, input, weight, normalized_shape, eps),
)
_layer_norm.vjp(
    "weight",
    r"\textstyle\sum_{\text{rows}} \bar z \odot \hat x",
    lambda g, input, normalized_shape, eps: g * standardize(input, normalized_shape, eps)[0],
)
_layer_norm.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z", lambda g: g)


@_layer_norm.composed_of
def _layer_norm_reference(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    check_normalized("layer_norm", input.shape, normalized_shape, weight=weight, bias=bias)
    result, _ = standardize(input, normalized_shape, eps)
    if weight is not None:
        result = mul(result, weight)
    return result if bias is None else add(result, bias)


@_layer_norm.kernel
def _layer_norm_gradients(
    g: Array,
    input: Array,
    weight: Array | None,
    means: Array,
    rstds: Array,
    normalized_shape: tuple[int, ...],
) -> tuple[Array | None, ...]:
    if not math.prod(normalized_shape):
        return tuple(np.zeros(shape, g.dtype) for shape in (g.shape, normalized_shape, normalized_shape))
    rows = (rows_of(g, normalized_shape), rows_of(input, normalized_shape))
    for_input, for_weight, for_bias = layer_norm_backward(*rows, flat(weight), means, rstds)
    return (
        in_shape(for_input, input.shape),
        in_shape(for_weight, normalized_shape),
        in_shape(for_bias, normalized_shape),
    )


@public("F")
def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalise the last axes to mean 0 and variance 1, then multiply by ``weight`` and add ``bias``.

    Ba, Kiros and Hinton, "Layer Normalization", 2016. The variance is the mean of the squares about the mean.

    Args:
        input: ``(..., *normalized_shape)``.
        normalized_shape: the sizes of the axes that are normalised together.
        weight: ``normalized_shape``; 1 if None.
        bias: ``normalized_shape``; 0 if None.
        eps: added to the variance.

    Returns:
        The shape of ``input``.

    Raises:
        ValueError: a shape that does not fit ``normalized_shape``.
    """
    return _layer_norm(input, weight, bias, normalized_shape=sizes_of_rows("layer_norm", normalized_shape), eps=eps)


# -- layer norm of a sum -----------------------------------------------------------------------------------------------


def add_layer_norm_samples(draw: Draw) -> Sample:
    sample = _layer_norm_samples(draw)
    input, weight, bias = sample.operands
    return Sample((input, draw.floats(input.shape), weight, bias), sample.options)


ADD_LAYER_NORM_ERRORS = [
    ErrorSample((_square, _square, None, None), {"normalized_shape": (4,)}, ValueError, r"\(4,\).* \(2, 3\)"),
    ErrorSample((_square, np.ones((1, 3)), None, None), {"normalized_shape": (3,)}, ValueError, r"residual .*\(1, 3\)"),
    ErrorSample((_square, _square, np.ones(2), None), {"normalized_shape": (3,)}, ValueError, r"weight .*\(2,\)"),
]


@op(
    r"z = \hat s \odot w + b, \quad \hat s = (s - \mu)\,\rho, \quad s = x + r, \quad \mu = \operatorname{mean} s, "
    r"\quad \rho = 1/\sqrt{\operatorname{mean} (s - \mu)^2 + \epsilon}",
    samples=add_layer_norm_samples,
    errors=ADD_LAYER_NORM_ERRORS,
    saves=("means", "rstds"),
    symbols={"r": "residual", "w": "weight", "b": "bias", r"\epsilon": "eps"},
)
def _add_layer_norm(
    input: Array,
    residual: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    /,
    *,
    normalized_shape: tuple[int, ...],
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """`layer_norm` of input + residual, without storing the sum; saves each row's mean and 1 / sqrt(variance + eps)."""
    check_residual("add_layer_norm", input, residual)
    check_normalized("add_layer_norm", input.shape, normalized_shape, weight=weight, bias=bias)
    if not math.prod(normalized_shape):
        nothing = np.empty(input.shape, input.dtype)
        return nothing, nothing, nothing
    rows = rows_of(input, normalized_shape)
    z, means, rstds = layer_norm_kernel(rows, flat(weight), flat(bias), eps, rows_of(residual, normalized_shape))
    return in_shape(z, input.shape), means, rstds


def check_residual(op: str, input: Tensor | Array, residual: Tensor | Array) -> None:
    if input.shape != residual.shape:
        raise ValueError(f"{op}: residual must have input's shape {input.shape}, its shape is {residual.shape}")


_SUM_RULE = (
    r"\rho\,(h - \operatorname{mean} h - \hat s \odot \operatorname{mean}(h \odot \hat s)), \quad h = \bar z \odot w"
)


def _sum_gradient(
    g: Tensor, input: Tensor, residual: Tensor, weight: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    return standardize_gradient(g, add(input, residual), weight, normalized_shape, eps)


_add_layer_norm.vjp("input", _SUM_RULE, _sum_gradient)
_add_layer_norm.vjp("residual", _SUM_RULE, _sum_gradient)
_add_layer_norm.vjp(
    "weight",
    r"\textstyle\sum_{\text{rows}} \bar z \odot \hat s",
    lambda g, input, residual, normalized_shape, eps: g * standardize(add(input, residual), normalized_shape, eps)[0],
)
_add_layer_norm.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z", lambda g: g)


@_add_layer_norm.composed_of
def _add_layer_norm_reference(
    input: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    normalized_shape: tuple[int, ...],
    eps: float,
) -> Tensor:
    check_residual("add_layer_norm", input, residual)
    return layer_norm(mark("residual", add(input, residual)), normalized_shape, weight, bias, eps)


@_add_layer_norm.kernel
def _add_layer_norm_gradients(
    g: Array,
    input: Array,
    residual: Array,
    weight: Array | None,
    means: Array,
    rstds: Array,
    normalized_shape: tuple[int, ...],
) -> tuple[Array | None, ...]:
    if not math.prod(normalized_shape):
        return tuple(np.zeros(shape, g.dtype) for shape in (g.shape, g.shape, normalized_shape, normalized_shape))
    rows, terms, others = (rows_of(array, normalized_shape) for array in (g, input, residual))
    for_sum, for_weight, for_bias = layer_norm_backward(rows, terms, flat(weight), means, rstds, others)
    # One array is the gradient of two operands: returned as views, so that the engine adds to neither in place.
    for_sum = for_sum.reshape(input.shape)
    return for_sum[...], for_sum[...], in_shape(for_weight, normalized_shape), in_shape(for_bias, normalized_shape)


@public("F")
def add_layer_norm(
    input: Any,
    residual: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """``layer_norm(input + residual, …)`` in one pass: the end of a Transformer's sublayer.

    Args:
        input: ``(..., *normalized_shape)``, the sublayer's output.
        residual: the sublayer's input, of the same shape.
        normalized_shape, weight, bias, eps: as in `layer_norm`.

    Raises:
        ValueError: a shape that does not fit ``normalized_shape``, or ``input``'s and ``residual``'s differ.
    """
    return _add_layer_norm(
        input, residual, weight, bias, normalized_shape=sizes_of_rows("add_layer_norm", normalized_shape), eps=eps
    )


# -- made of other ops -------------------------------------------------------------------------------------------------


@public("F")
def normalize(input: Any, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Tensor:
    r"""Normalise every vector along ``dim`` to length 1 in the p-norm: :math:`x / \max(‖x‖_p, ε)`.

    Args:
        input: floats with an axis ``dim``.
        p: the order of the norm.
        dim: the axis along which a vector lies, or the axes that hold it together.
        eps: the smallest divisor, so that a zero vector stays zero.

    Returns:
        The shape of ``input``.

    Raises:
        IndexError: ``input`` has no axis ``dim``.
    """
    input = floating("normalize", "input", input)
    return true_divide(input, clamp(vector_norm(input, p, dim, keepdim=True), min=eps))


@public("F")
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    r"""The cosine of the angle between vectors along ``dim``: :math:`⟨x_1, x_2⟩ / (\max(‖x_1‖, ε) \max(‖x_2‖, ε))`.

    Args:
        x1, x2: floats whose shapes broadcast.
        dim: the axis, of the broadcast shape, along which a vector lies.
        eps: the smallest divisor. Below it the length counts as constant in the gradient.

    Returns:
        The broadcast shape without ``dim``.

    Raises:
        ValueError: the shapes do not broadcast.
        IndexError: there is no axis ``dim``.
    """
    x1, x2 = floating("cosine_similarity", "x1", x1), floating("cosine_similarity", "x2", x2)
    try:
        shape = np.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        raise ValueError(f"cosine_similarity: shapes do not broadcast: x1 has {x1.shape}, x2 {x2.shape}") from None
    return sum(mul(normalize(expand(x1, shape), 2.0, dim, eps), normalize(expand(x2, shape), 2.0, dim, eps)), dim)
