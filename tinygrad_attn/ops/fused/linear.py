"""linear, activated_linear (with an activation function), paired_linear (two maps, one weight)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_attn.kernels import linear as kernels
from tinygrad_attn.kernels.activation import activate_backward, gelu_in_place, times_slope
from tinygrad_attn.kernels.column_sums import column_sums
from tinygrad_attn.op import op
from tinygrad_attn.ops.activation import gelu, gelu_gradient, relu
from tinygrad_attn.ops.joining import cat
from tinygrad_attn.ops.matmul import matmul, product
from tinygrad_attn.ops.pointwise import add, where
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.ops.shape import reshape, transpose
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample, shape_error
from tinygrad_attn.tensor import Tensor

__all__ = [
    "activated_gradient", "activated_linear", "activated_samples", "activation_gradient", "linear", "linear_gradients",
    "outer_sum", "paired_linear", "row_sum",
]  # fmt: skip

Array = np.ndarray[Any, Any]


# -- linear ------------------------------------------------------------------------------------------------------------


def _linear_samples(draw: Draw) -> Sample:
    inputs, outputs = draw.integer(0, 4), draw.integer(0, 4)
    bias = draw.floats((outputs,)) if draw.boolean() else None
    return Sample((draw.floats((*draw.shape((0, 3)), inputs)), draw.floats((outputs, inputs)), bias))


def _check_linear(input: Any, weight: Any, bias: Any) -> None:
    if np.ndim(weight) != 2:
        raise ValueError(f"linear: weight must have shape (out, in), it has {np.shape(weight)}")
    if np.ndim(input) == 0:
        raise ValueError("linear: input needs at least one axis, it is 0-d")
    if input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: the last axis of input has size {input.shape[-1]}, weight (out, in) of shape {weight.shape} "
            f"takes {weight.shape[1]} (input has shape {input.shape})"
        )
    if bias is not None and np.shape(bias) != weight.shape[:1]:
        raise ValueError(f"linear: bias must have shape {weight.shape[:1]} as weight has rows, it has {np.shape(bias)}")


@public("F")
@op(
    r"z = x\,W^\top + b",
    samples=_linear_samples,
    errors=[
        shape_error((2, 3), (5, 4), match="input has size 3, .* takes 4"),
        shape_error((2, 3), (5, 3), (3,), match=r"bias must have shape \(5,\).*\(3,\)"),
        shape_error((2, 3), (3,), match=r"\(out, in\), it has \(3,\)"),
        shape_error((), (5, 3), match="at least one axis"),
    ],
    symbols={"W": "weight", "b": "bias"},
)
def linear(input: Array, weight: Array, bias: Array | None = None, /) -> Array:
    """A linear map of the last axis, the same for all leading axes.

    Args:
        input: ``(..., in)``.
        weight: ``(out, in)``.
        bias: ``(out,)``, or None.

    Returns:
        ``(..., out)``.

    Raises:
        ValueError: shapes other than these.
        TypeError: bool operands.
    """
    return _mapped(input, weight, bias)


def _mapped(input: Array, weight: Array, bias: Array | None, activation: str | None = None) -> Array:
    z = kernels.linear(input, weight, bias, activation)
    if z is None:
        _check_linear(input, weight, bias)
        z = product(input, weight.T, bias, activation)
    return z


def _rows(tensor: Tensor) -> Tensor:
    """All axes but the last made one."""
    return reshape(tensor, (math.prod(tensor.shape[:-1]), tensor.shape[-1]))


def outer_sum(g: Tensor, input: Tensor) -> Tensor:
    return matmul(transpose(_rows(g), 0, 1), _rows(input))


def row_sum(g: Tensor) -> Tensor:
    return sum(_rows(g), 0)


linear.vjp("input", r"\bar z\,W", lambda g, weight: matmul(g, weight))
linear.vjp("weight", r"\textstyle\sum_{\text{rows}} \bar z\,x^\top", outer_sum)
linear.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z", row_sum)


@linear.composed_of
def _linear_reference(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    _check_linear(input, weight, bias)
    z = matmul(input, transpose(weight, 0, 1))
    return z if bias is None else add(z, bias)


@linear.kernel
def linear_gradients(
    g: Array, input: Array, weight: Array, needs: tuple[bool, bool, bool]
) -> tuple[Array | None, Array | None, Array | None]:
    found = kernels.linear_backward(g, input, weight, needs)
    if found is not None:
        return found
    for_input = product(g, weight) if needs[0] else None
    g = _as_rows(g)
    for_weight = product(g.T, _as_rows(input)) if needs[1] else None
    return for_input, for_weight, column_sums(g) if needs[2] else None


def _as_rows(array: Array) -> Array:
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


# -- linear with an activation -----------------------------------------------------------------------------------------


def activated_samples(draw: Draw) -> Sample:
    input, weight, bias = _linear_samples(draw).operands
    # relu has a kink at 0: a bias larger than any product keeps all sums away from it.
    reach = 4.0 * max(weight.shape[1], 1) + 1.0
    if bias is not None:
        bias = bias + reach * np.where(draw.mask(bias.shape), 1.0, -1.0)
    return Sample((input, weight, bias), {"activation": "gelu" if bias is None else draw.choice(["relu", "gelu"])})


@public("F")
@op(
    r"z = \phi(a), \quad a = x\,W^\top + b",
    samples=activated_samples,
    errors=[
        ErrorSample((np.ones((2, 3)), np.ones((5, 4)), None), {"activation": "relu"}, ValueError, "input has size 3"),
        ErrorSample((np.ones((2, 3)), np.ones((5, 3)), None), {"activation": "tanh"}, ValueError, "relu, gelu.*'tanh'"),
    ],
    saves=("slopes",),
    symbols={"W": "weight", "b": "bias", r"\phi": "activation"},
)
def activated_linear(
    input: Array, weight: Array, bias: Array | None = None, /, *, activation: str
) -> tuple[Array, Array | None]:
    """`linear` followed by an activation function; relu is applied inside the matrix product.

    Of gelu the derivative is computed beside the value, with which it shares an exponential, and kept for backward.

    Args:
        input: ``(..., in)``.
        weight: ``(out, in)``.
        bias: ``(out,)``, or None.
        activation: "relu" or "gelu".

    Returns:
        ``(..., out)``.

    Raises:
        ValueError: other shapes, or another activation.
    """
    _check_activation(activation)
    if activation == "relu":
        return _mapped(input, weight, bias, "relu"), None
    z = _mapped(input, weight, bias)
    return z, gelu_in_place(z)


def _check_activation(activation: str) -> None:
    if activation not in ("relu", "gelu"):
        raise ValueError(f"activated_linear: activation must be one of relu, gelu, got {activation!r}")


def _before_gradient(g: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """ā, the gradient of the activation's input."""
    return activation_gradient(g, linear(input, weight, bias), activation)


def activation_gradient(g: Tensor, before: Tensor, activation: str) -> Tensor:
    return where(before <= 0.0, 0.0, g) if activation == "relu" else gelu_gradient(g, before, "none")


_BEFORE = r"\quad \bar a = \bar z \odot \phi'(a)"
activated_linear.vjp(
    "input",
    rf"\bar a\,W, {_BEFORE}",
    lambda g, input, weight, bias, activation: matmul(_before_gradient(g, input, weight, bias, activation), weight),
)
activated_linear.vjp(
    "weight",
    rf"\textstyle\sum_{{\text{{rows}}}} \bar a\,x^\top, {_BEFORE}",
    lambda g, input, weight, bias, activation: outer_sum(_before_gradient(g, input, weight, bias, activation), input),
)
activated_linear.vjp(
    "bias",
    rf"\textstyle\sum_{{\text{{rows}}}} \bar a, {_BEFORE}",
    lambda g, input, weight, bias, activation: row_sum(_before_gradient(g, input, weight, bias, activation)),
)


@activated_linear.composed_of
def _activated_linear_reference(input: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    _check_activation(activation)
    before = linear(input, weight, bias)
    return relu(before) if activation == "relu" else gelu(before)


@activated_linear.kernel
def _activatedlinear_gradients(
    g: Array,
    z: Array,
    input: Array,
    weight: Array,
    slopes: Array | None,
    needs: tuple[bool, bool, bool],
) -> tuple[Array | None, Array | None, Array | None]:
    return linear_gradients(activated_gradient(g, z, slopes), input, weight, needs)


def activated_gradient(g: Array, z: Array, slopes: Array | None) -> Array:
    """The gradient of the activation's input from that of its result z; ``slopes`` are those of gelu, else None."""
    return activate_backward("relu", g, z) if slopes is None else times_slope(g, slopes)


# -- two linear maps in one matrix -------------------------------------------------------------------------------------


def _paired_samples(draw: Draw) -> Sample:
    x, weight, bias = _linear_samples(draw).operands
    y = draw.floats((*draw.shape((0, 2)), weight.shape[1]))
    return Sample((x, y, weight, bias), {"rows": draw.integer(0, weight.shape[0])})


@op(
    r"z_x = x\,W_{<n}^\top + b_{<n}, \quad z_y = y\,W_{\ge n}^\top + b_{\ge n}",
    samples=_paired_samples,
    errors=[
        ErrorSample((np.ones((2, 3)), np.ones((2, 4)), np.ones((5, 3)), None), {"rows": 2}, ValueError, "size 4"),
        ErrorSample((np.ones((2, 3)), np.ones((2, 3)), np.ones((5, 3)), None), {"rows": 6}, ValueError, "rows .* 5"),
    ],
    outputs=2,
    symbols={"W": "weight", "b": "bias", "n": "rows"},
)
def paired_linear(x: Array, y: Array, weight: Array, bias: Array | None = None, /, *, rows: int) -> tuple[Array, Array]:
    """Two linear maps, one of ``x`` and one of ``y``, whose matrices are stacked in ``weight``.

    The gradients of both matrices are written into one array.

    Args:
        x, y: ``(..., in)``, with any leading axes of their own.
        weight: ``(out, in)``.
        bias: ``(out,)``, or None.
        rows: n, how many rows of ``weight`` are for ``x``; the others are for ``y``.

    Returns:
        ``(..., rows)`` and ``(..., out - rows)``.

    Raises:
        ValueError: shapes other than these.
    """
    _check_paired(x, y, weight, bias, rows)
    of_x, of_y = slice(0, rows), slice(rows, None)
    return (
        _mapped(x, weight[of_x], None if bias is None else bias[of_x]),
        _mapped(y, weight[of_y], None if bias is None else bias[of_y]),
    )


def _check_paired(x: Any, y: Any, weight: Any, bias: Any, rows: int) -> None:
    _check_linear(x, weight, bias)
    _check_linear(y, weight, bias)
    if not 0 <= rows <= weight.shape[0]:
        raise ValueError(f"paired_linear: rows must be from 0 to {weight.shape[0]}, the rows of weight, got {rows}")


Arrived = tuple[Tensor | None, Tensor | None]


def _paired_weight_gradient(g: Arrived, x: Tensor, y: Tensor, rows: int, shapes: Any) -> Tensor:
    outputs, inputs = shapes[2]
    return cat(
        [
            Tensor(np.zeros((count, inputs), x.dtype)) if arrived is None else outer_sum(arrived, input)
            for arrived, input, count in zip(g, (x, y), (rows, outputs - rows), strict=True)
        ]
    )


def _paired_bias_gradient(g: Arrived, rows: int, shapes: Any, dtypes: Any) -> Tensor:
    outputs = shapes[2][0]
    return cat(
        [
            Tensor(np.zeros(count, dtypes[2])) if arrived is None else row_sum(arrived)
            for arrived, count in zip(g, (rows, outputs - rows), strict=True)
        ]
    )


paired_linear.vjp(
    "x", r"\bar z_x\,W_{<n}", lambda g, weight, rows: None if g[0] is None else matmul(g[0], weight[:rows])
)
paired_linear.vjp(
    "y", r"\bar z_y\,W_{\ge n}", lambda g, weight, rows: None if g[1] is None else matmul(g[1], weight[rows:])
)
paired_linear.vjp(
    "weight",
    r"\bar W_{<n} = \textstyle\sum_{\text{rows}} \bar z_x\,x^\top, "
    r"\quad \bar W_{\ge n} = \sum_{\text{rows}} \bar z_y\,y^\top",
    _paired_weight_gradient,
)
paired_linear.vjp(
    "bias",
    r"\bar b_{<n} = \textstyle\sum_{\text{rows}} \bar z_x, \quad \bar b_{\ge n} = \sum_{\text{rows}} \bar z_y",
    _paired_bias_gradient,
)


@paired_linear.composed_of
def _paired_linear_reference(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor | None, rows: int
) -> tuple[Tensor, Tensor]:
    _check_paired(x, y, weight, bias, rows)
    of_x, of_y = slice(0, rows), slice(rows, None)
    return (
        linear(x, weight[of_x], None if bias is None else bias[of_x]),
        linear(y, weight[of_y], None if bias is None else bias[of_y]),
    )


@paired_linear.kernel
def _pairedlinear_gradients(
    g: tuple[Array | None, Array | None],
    x: Array,
    y: Array,
    weight: Array,
    rows: int,
    needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:
    if g[0] is not None and g[1] is not None and all(needs):
        found = kernels.paired_linear_backward((g[0], g[1]), (x, y), weight, rows)
        if found is not None:
            return found
    for_weight = np.empty(weight.shape, weight.dtype) if needs[2] else None
    for_bias = np.empty(weight.shape[0], weight.dtype) if needs[3] else None
    inputs: list[Array | None] = []
    for of, arrived, operand, needed in zip((slice(0, rows), slice(rows, None)), g, (x, y), needs[:2], strict=True):
        if arrived is None:
            inputs.append(None)
            for gradient in (for_weight, for_bias):
                if gradient is not None:
                    gradient[of] = 0.0
            continue
        inputs.append(product(arrived, weight[of]) if needed else None)
        arrived = _as_rows(arrived)
        if for_weight is not None:
            product(arrived.T, _as_rows(operand), out=for_weight[of])
        if for_bias is not None:
            for_bias[of] = column_sums(arrived)
    return (*inputs, for_weight, for_bias)
