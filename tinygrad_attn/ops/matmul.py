"""Products of matrices, vectors and batches of them.

All multiply through `product`, and so by one kernel; a transposed operand is read where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.activation import activate, activate_backward
from tinygrad_attn.kernels.column_sums import column_sums
from tinygrad_attn.kernels.gemm import gemm
from tinygrad_attn.op import broadcast_clash, op
from tinygrad_attn.ops.activation import gelu, relu
from tinygrad_attn.ops.elementwise import add, quiet
from tinygrad_attn.ops.shape import reshape, squeeze, transpose, unsqueeze
from tinygrad_attn.samples import Draw, ErrorSample, Sample, Samples
from tinygrad_attn.tensor import Tensor

__all__ = ["activated_linear", "bmm", "dot", "linear", "matmul", "mm", "mv", "outer", "paired_linear"]

Array = np.ndarray[Any, Any]


@quiet
def product(
    x: Array, y: Array, bias: Array | None = None, activation: str | None = None, out: Array | None = None
) -> Array:
    """``activation(x @ y + bias)`` on arrays of one dtype and any strides.

    Args:
        x: ``(..., M, K)``, or a vector ``(K,)``.
        y: ``(..., K, N)``, or a vector ``(K,)``. Leading axes broadcast.
        bias: ``(N,)``, or None.
        activation: "relu", or None; of floats only, as ``out``.
        out: where to write the product of two matrices, or None.

    Returns:
        ``out``, or a new array ``(..., M, N)``, without the axis that a vector does not have.

    Raises:
        TypeError: bool operands.
    """
    if x.dtype == np.bool_:
        raise TypeError("bool operands have no matrix product; convert them to a float or integer dtype")
    if x.dtype.kind != "f":
        return np.asarray(np.matmul(x, y) if bias is None else np.matmul(x, y) + bias)
    z = gemm(x if x.ndim > 1 else x[None, :], y if y.ndim > 1 else y[:, None], out, bias=bias, activation=activation)
    if y.ndim == 1:
        z = z.reshape(z.shape[:-1])
        return z.reshape(z.shape[:-1]) if x.ndim == 1 else z
    return z.reshape(*z.shape[:-2], z.shape[-1]) if x.ndim == 1 else z


class _Functions(NamedTuple):
    """What the derivatives of `matmul` are written in: on tensors for the rules, on arrays for the kernels."""

    multiply: Callable[[Any, Any], Any]
    transpose: Callable[[Any, int, int], Any]
    unsqueeze: Callable[[Any, int], Any]
    squeeze: Callable[[Any, int], Any]
    reshape: Callable[[Any, tuple[int, ...]], Any]


def _error(*shapes: tuple[int, ...], match: str) -> ErrorSample:
    return ErrorSample(tuple(np.ones(shape) for shape in shapes), {}, ValueError, match)


# -- matmul ------------------------------------------------------------------------------------------------------------


def _matmul_samples(draw: Draw) -> Sample:
    rows, depth, columns = (draw.integer(0, 4) for _ in range(3))
    batch = draw.shape((0, 2), (0, 3))
    x = (depth,) if draw.integer(0, 3) == 3 else (*draw.broadcastable(batch), rows, depth)
    y = (depth,) if draw.integer(0, 3) == 3 else (*draw.broadcastable(batch), depth, columns)
    return Sample((draw.floats(x), draw.floats(y)))


def _check_matmul(x: Array, y: Array) -> None:
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        raise ValueError(f"matmul: x and y need at least one axis, they have {np.ndim(x)} and {np.ndim(y)}; use x * y")
    _check_depth("matmul", x, y)
    clash = broadcast_clash({"x": (*x.shape[:-2], 1, 1), "y": (*y.shape[:-2], 1, 1)})
    if clash:
        raise ValueError(f"matmul: batch {clash} (x has shape {x.shape}, y has shape {y.shape})")


def _check_depth(name: str, x: Array, y: Array) -> None:
    axis = max(y.ndim - 2, 0)
    if x.shape[-1] != y.shape[axis]:
        raise ValueError(
            f"{name}: axis {x.ndim - 1} of x has size {x.shape[-1]} and axis {axis} of y has size {y.shape[axis]}; "
            f"they are summed over and must be equal (x has shape {x.shape}, y has shape {y.shape})"
        )


@op(
    r"z = x\,y",
    samples=_matmul_samples,
    errors=[
        _error((2, 3), (4, 2), match="axis 1 of x has size 3 and axis 0 of y has size 4"),
        _error((3,), (4,), match="axis 0 of x has size 3 and axis 0 of y has size 4"),
        ErrorSample((np.ones((2, 3)), 2.0), {}, ValueError, "at least one axis"),
        _error((2, 1, 3), (4, 3, 1), match="axis -3 has size 2 in x and 4 in y"),
        ErrorSample((np.ones((2, 2)) > 0, np.ones((2, 2)) > 0), {}, TypeError, "bool"),
    ],
)
def matmul(x: Array, y: Array) -> Array:
    """The matrix product, batched.

    Args:
        x: ``(..., M, K)``; or a vector ``(K,)``, taken as a row that the result lacks.
        y: ``(..., K, N)``; or a vector ``(K,)``, taken as a column that the result lacks. Leading axes broadcast.

    Returns:
        ``(..., M, N)``, ``(..., N)`` or ``(..., M)`` where one is a vector, a scalar where both are.

    Raises:
        ValueError: a 0-d operand, sizes of K that differ, or leading axes that do not broadcast.
        TypeError: bool operands.
    """
    _check_matmul(x, y)
    return product(x, y)


def _toward_x(on: _Functions, g: Any, y: Any, shapes: Any) -> Any:
    x_is_vector = len(shapes[0]) == 1
    if y.ndim == 1:
        g, y = on.unsqueeze(g, -1), on.unsqueeze(y, -1)
    if x_is_vector:
        g = on.unsqueeze(g, -2)
    gradient = on.multiply(g, on.transpose(y, -2, -1))
    return on.squeeze(gradient, -2) if x_is_vector else gradient


def _toward_y(on: _Functions, g: Any, x: Any, shapes: Any) -> Any:
    y_is_vector = len(shapes[1]) == 1
    if y_is_vector:
        g = on.unsqueeze(g, -1)
    if x.ndim == 1:
        g, x = on.unsqueeze(g, -2), on.unsqueeze(x, -2)
    if len(shapes[1]) <= 2 and x.ndim > 2:
        # One tall product also sums over the batch.
        rows = math.prod(x.shape[:-1])
        g, x = on.reshape(g, (rows, g.shape[-1])), on.reshape(x, (rows, x.shape[-1]))
    gradient = on.multiply(on.transpose(x, -2, -1), g)
    return on.squeeze(gradient, -1) if y_is_vector else gradient


_on_tensors = _Functions(matmul, transpose, unsqueeze, squeeze, reshape)
_on_arrays = _Functions(product, np.swapaxes, np.expand_dims, np.squeeze, np.reshape)

matmul.vjp("x", r"\bar z\,y^\top", partial(_toward_x, _on_tensors), partial(_toward_x, _on_arrays))
matmul.vjp("y", r"x^\top \bar z", partial(_toward_y, _on_tensors), partial(_toward_y, _on_arrays))

# -- products of given ranks -------------------------------------------------------------------------------------------


def _shaped(x: str, y: str) -> Samples:
    """A sampler of two operands with an axis for each letter; one letter stands for one size."""

    def sampler(draw: Draw) -> Sample:
        sizes = {letter: draw.integer(0, 4) for letter in sorted(set(x + y))}
        return Sample(tuple(draw.floats(tuple(sizes[letter] for letter in letters)) for letters in (x, y)))

    return sampler


def _check_ranks(name: str, x: Array, y: Array, x_ndim: int, y_ndim: int) -> None:
    if np.ndim(x) != x_ndim or np.ndim(y) != y_ndim:
        raise ValueError(
            f"{name}: x needs {x_ndim} and y {y_ndim} axes, they have shapes {np.shape(x)} and {np.shape(y)}; "
            "matmul takes any number of axes"
        )


@op(
    r"z = x\,y",
    samples=_shaped("mk", "kn"),
    errors=[
        _error((2, 3), (4, 2), match="axis 1 of x has size 3 and axis 0 of y has size 4"),
        _error((1, 2, 3), (3, 2), match=r"2 axes.*\(1, 2, 3\)"),
    ],
)
def mm(x: Array, y: Array) -> Array:
    """The product of two matrices, ``(M, K)`` and ``(K, N)``, without broadcasting.

    Raises:
        ValueError: an operand that is no matrix, or sizes of K that differ.
    """
    _check_ranks("mm", x, y, 2, 2)
    _check_depth("mm", x, y)
    return product(x, y)


mm.vjp("x", r"\bar z\,y^\top", lambda g, y: mm(g, transpose(y, 0, 1)), lambda g, y: product(g, y.T))
mm.vjp("y", r"x^\top \bar z", lambda g, x: mm(transpose(x, 0, 1), g), lambda g, x: product(x.T, g))


@op(
    r"z_b = x_b\,y_b",
    samples=_shaped("bmk", "bkn"),
    errors=[
        _error((2, 1, 3), (2, 4, 1), match="axis 2 of x has size 3 and axis 1 of y has size 4"),
        _error((2, 1, 3), (1, 3, 1), match="batch of 2 in x and of 1 in y"),
        _error((2, 3), (3, 2), match=r"3 axes.*\(2, 3\)"),
    ],
)
def bmm(x: Array, y: Array) -> Array:
    """The products of a batch of matrices, ``(B, M, K)`` and ``(B, K, N)``, without broadcasting.

    Raises:
        ValueError: an operand of other than three axes, or sizes of B or K that differ.
    """
    _check_ranks("bmm", x, y, 3, 3)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"bmm: batch of {x.shape[0]} in x and of {y.shape[0]} in y must be equal; matmul broadcasts")
    _check_depth("bmm", x, y)
    return product(x, y)


bmm.vjp("x", r"\bar z_b\,y_b^\top", lambda g, y: bmm(g, transpose(y, 1, 2)), lambda g, y: product(g, y.swapaxes(1, 2)))
bmm.vjp("y", r"x_b^\top \bar z_b", lambda g, x: bmm(transpose(x, 1, 2), g), lambda g, x: product(x.swapaxes(1, 2), g))


@op(
    r"z = x\,y",
    samples=_shaped("mk", "k"),
    errors=[
        _error((2, 3), (4,), match="axis 1 of x has size 3 and axis 0 of y has size 4"),
        _error((3,), (3,), match=r"x needs 2 and y 1 axes.*\(3,\) and \(3,\)"),
    ],
)
def mv(x: Array, y: Array) -> Array:
    """The product of a matrix ``(M, K)`` and a vector ``(K,)``.

    Raises:
        ValueError: operands of other ranks, or sizes of K that differ.
    """
    _check_ranks("mv", x, y, 2, 1)
    _check_depth("mv", x, y)
    return product(x, y)


mv.vjp("x", r"\bar z\,y^\top", lambda g, y: unsqueeze(g, 1) * y, lambda g, y: np.multiply.outer(g, y))
mv.vjp("y", r"x^\top \bar z", lambda g, x: mv(transpose(x, 0, 1), g), lambda g, x: product(x.T, g))


@op(
    r"z = x^\top y = \textstyle\sum_k x_k\,y_k",
    samples=_shaped("k", "k"),
    errors=[
        _error((3,), (4,), match="axis 0 of x has size 3 and axis 0 of y has size 4"),
        _error((2, 3), (3,), match=r"1 axes.*\(2, 3\)"),
    ],
)
def dot(x: Array, y: Array) -> Array:
    """The scalar product of two vectors ``(K,)``.

    Raises:
        ValueError: operands that are no vectors, or whose sizes differ.
    """
    _check_ranks("dot", x, y, 1, 1)
    _check_depth("dot", x, y)
    return product(x, y)


dot.vjp("x", r"\bar z\,y", lambda g, y: g * y, kernel=True)
dot.vjp("y", r"\bar z\,x", lambda g, x: g * x, kernel=True)


@op(
    r"z = x\,y^\top, \quad z_{mn} = x_m\,y_n",
    samples=_shaped("m", "n"),
    errors=[_error((2, 3), (3,), match=r"x needs 1 and y 1 axes.*\(2, 3\)")],
)
@quiet
def outer(x: Array, y: Array) -> Array:
    """Every element of a vector ``(M,)`` times every element of another ``(N,)``: ``(M, N)``.

    Raises:
        ValueError: an operand that is no vector.
    """
    _check_ranks("outer", x, y, 1, 1)
    return np.multiply.outer(x, y)


outer.vjp("x", r"\bar z\,y", lambda g, y: mv(g, y), lambda g, y: product(g, y))
outer.vjp("y", r"\bar z^\top x", lambda g, x: mv(transpose(g, 0, 1), x), lambda g, x: product(g.T, x))

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


@op(
    r"z = x\,W^\top + b",
    samples=_linear_samples,
    errors=[
        _error((2, 3), (5, 4), match="input has size 3, .* takes 4"),
        _error((2, 3), (5, 3), (3,), match=r"bias must have shape \(5,\).*\(3,\)"),
        _error((2, 3), (3,), match=r"\(out, in\), it has \(3,\)"),
        _error((), (5, 3), match="at least one axis"),
    ],
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
    _check_linear(input, weight, bias)
    return product(input, weight.T, bias)


linear.vjp("input", r"\bar z\,W")
linear.vjp("weight", r"\textstyle\sum_{\text{rows}} \bar z\,x^\top")
linear.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z")


@linear.composed_of
def _linear_reference(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    _check_linear(input, weight, bias)
    z = matmul(input, transpose(weight, 0, 1))
    return z if bias is None else add(z, bias)


@linear.kernel
def _linear_gradients(
    g: Array, input: Array, weight: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, Array | None, Array | None]:
    for_input = product(g, weight) if needs[0] else None
    g = _as_rows(g)
    for_weight = product(g.T, _as_rows(input)) if needs[1] else None
    return for_input, for_weight, column_sums(g) if needs[2] else None


def _as_rows(array: Array) -> Array:
    return array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


# -- linear with an activation -----------------------------------------------------------------------------------------


def _activated_samples(draw: Draw) -> Sample:
    input, weight, bias = _linear_samples(draw).operands
    # relu has a kink at 0: a bias larger than any product keeps all sums off it, on either side.
    reach = 4.0 * max(weight.shape[1], 1) + 1.0
    if bias is not None:
        bias = bias + reach * np.where(draw.mask(bias.shape), 1.0, -1.0)
    return Sample((input, weight, bias), {"activation": "gelu" if bias is None else draw.choice(["relu", "gelu"])})


@op(
    r"z = \phi(a), \quad a = x\,W^\top + b",
    samples=_activated_samples,
    errors=[
        ErrorSample((np.ones((2, 3)), np.ones((5, 4)), None), {"activation": "relu"}, ValueError, "input has size 3"),
        ErrorSample((np.ones((2, 3)), np.ones((5, 3)), None), {"activation": "tanh"}, ValueError, "relu, gelu.*'tanh'"),
    ],
    saves=("before",),
)
def activated_linear(
    input: Array, weight: Array, bias: Array | None = None, /, *, activation: str
) -> tuple[Array, Array | None]:
    """`linear` and an activation function of its output, relu while the product is still in the cache.

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
    _check_linear(input, weight, bias)
    _check_activation(activation)
    if activation == "relu":
        return product(input, weight.T, bias, "relu"), None
    before = product(input, weight.T, bias)
    return activate("gelu", before), before


def _check_activation(activation: str) -> None:
    if activation not in ("relu", "gelu"):
        raise ValueError(f"activated_linear: activation must be one of relu, gelu, got {activation!r}")


activated_linear.vjp("input", r"\bar a\,W, \quad \bar a = \bar z \odot \phi'(a)")
activated_linear.vjp("weight", r"\textstyle\sum_{\text{rows}} \bar a\,x^\top, \quad \bar a = \bar z \odot \phi'(a)")
activated_linear.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar a, \quad \bar a = \bar z \odot \phi'(a)")


@activated_linear.composed_of
def _activated_linear_reference(input: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    _check_activation(activation)
    before = linear(input, weight, bias)
    return relu(before) if activation == "relu" else gelu(before)


@activated_linear.kernel
def _activated_linear_gradients(
    g: Array, z: Array, input: Array, weight: Array, before: Array | None, needs: tuple[bool, ...], activation: str
) -> tuple[Array | None, Array | None, Array | None]:
    return _linear_gradients(activate_backward(activation, g, z if before is None else before), input, weight, needs)


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
)
def paired_linear(x: Array, y: Array, weight: Array, bias: Array | None = None, /, *, rows: int) -> tuple[Array, Array]:
    """Two linear maps, one of ``x`` and one of ``y``, whose matrices lie one under the other in ``weight``.

    Their gradients are written where they belong in one array.

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
        product(x, weight[of_x].T, None if bias is None else bias[of_x]),
        product(y, weight[of_y].T, None if bias is None else bias[of_y]),
    )


def _check_paired(x: Any, y: Any, weight: Any, bias: Any, rows: int) -> None:
    _check_linear(x, weight, bias)
    _check_linear(y, weight, bias)
    if not 0 <= rows <= weight.shape[0]:
        raise ValueError(f"paired_linear: rows must be from 0 to {weight.shape[0]}, the rows of weight, got {rows}")


paired_linear.vjp("x", r"\bar z_x\,W_{<n}")
paired_linear.vjp("y", r"\bar z_y\,W_{\ge n}")
paired_linear.vjp("weight", r"\textstyle\sum_{\text{rows}} \bar z_x\,x^\top \text{ above } \bar z_y\,y^\top")
paired_linear.vjp("bias", r"\textstyle\sum_{\text{rows}} \bar z_x \text{ and then } \bar z_y")


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
def _paired_linear_gradients(
    g: tuple[Array | None, Array | None],
    x: Array,
    y: Array,
    weight: Array,
    rows: int,
    needs: tuple[bool, ...],
) -> tuple[Array | None, ...]:
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
