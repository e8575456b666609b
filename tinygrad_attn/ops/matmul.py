"""Products of matrices, vectors and batches of them.

All use `product`, and so one kernel; a transposed operand is not copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.product import gemm
from tinygrad_attn.op import broadcast_clash, op
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.pointwise import add, mul
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.shape import reshape, squeeze, transpose, unsqueeze
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample, Samples, shape_error
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import number

__all__ = ["addmm", "baddbmm", "bmm", "dot", "matmul", "mm", "mv", "outer", "product"]

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
        ``out``, or a new array ``(..., M, N)``; without M if ``x`` is a vector, without N if ``y`` is.

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
    """The functions that the derivatives of `matmul` use: on tensors for the rules, on arrays for the kernels."""

    multiply: Callable[[Any, Any], Any]
    transpose: Callable[[Any, int, int], Any]
    unsqueeze: Callable[[Any, int], Any]
    squeeze: Callable[[Any, int], Any]
    reshape: Callable[[Any, tuple[int, ...]], Any]


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


@public("ta", "Tensor", "Tensor.__matmul__", "Tensor.__rmatmul__")
@op(
    r"z = x\,y",
    samples=_matmul_samples,
    errors=[
        shape_error((2, 3), (4, 2), match="axis 1 of x has size 3 and axis 0 of y has size 4"),
        shape_error((3,), (4,), match="axis 0 of x has size 3 and axis 0 of y has size 4"),
        ErrorSample((np.ones((2, 3)), 2.0), {}, ValueError, "at least one axis"),
        shape_error((2, 1, 3), (4, 3, 1), match="axis -3 has size 2 in x and 4 in y"),
        ErrorSample((np.ones((2, 2)) > 0, np.ones((2, 2)) > 0), {}, TypeError, "bool"),
    ],
)
def matmul(x: Array, y: Array) -> Array:
    """The matrix product, batched.

    Args:
        x: ``(..., M, K)``; or a vector ``(K,)``, used as a row: the result has no axis M.
        y: ``(..., K, N)``; or a vector ``(K,)``, used as a column: the result has no axis N. Leading axes broadcast.

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
        # One product of tall matrices also sums over the batch.
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


@public("ta", "Tensor")
@op(
    r"z = x\,y",
    samples=_shaped("mk", "kn"),
    errors=[
        shape_error((2, 3), (4, 2), match="axis 1 of x has size 3 and axis 0 of y has size 4"),
        shape_error((1, 2, 3), (3, 2), match=r"2 axes.*\(1, 2, 3\)"),
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


@public("ta", "Tensor")
@op(
    r"z_b = x_b\,y_b",
    samples=_shaped("bmk", "bkn"),
    errors=[
        shape_error((2, 1, 3), (2, 4, 1), match="axis 2 of x has size 3 and axis 1 of y has size 4"),
        shape_error((2, 1, 3), (1, 3, 1), match="batch of 2 in x and of 1 in y"),
        shape_error((2, 3), (3, 2), match=r"3 axes.*\(2, 3\)"),
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


@public("ta", "Tensor")
@op(
    r"z = x\,y",
    samples=_shaped("mk", "k"),
    errors=[
        shape_error((2, 3), (4,), match="axis 1 of x has size 3 and axis 0 of y has size 4"),
        shape_error((3,), (3,), match=r"x needs 2 and y 1 axes.*\(3,\) and \(3,\)"),
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


@public("ta", "Tensor")
@op(
    r"z = x^\top y = \textstyle\sum_k x_k\,y_k",
    samples=_shaped("k", "k"),
    errors=[
        shape_error((3,), (4,), match="axis 0 of x has size 3 and axis 0 of y has size 4"),
        shape_error((2, 3), (3,), match=r"1 axes.*\(2, 3\)"),
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


@public("ta", "Tensor")
@op(
    r"z = x\,y^\top, \quad z_{mn} = x_m\,y_n",
    samples=_shaped("m", "n"),
    errors=[shape_error((2, 3), (3,), match=r"x needs 1 and y 1 axes.*\(2, 3\)")],
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


# -- a product added to something --------------------------------------------------------------------------------------


@public("ta", "Tensor")
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)`` of matrices; ``input`` broadcasts to the product.

    Raises:
        ValueError: shapes that do not fit, or an operand that is no matrix.
    """
    return _added("addmm", input, mm(mat1, mat2), beta, alpha)


@public("ta", "Tensor")
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (batch1 @ batch2)`` of batches of matrices; ``input`` broadcasts to the product.

    Raises:
        ValueError: shapes that do not fit, or an operand that is no batch of matrices.
    """
    return _added("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def _added(name: str, input: Any, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    scale, x, share = number(name, "alpha", alpha), as_tensor(input, f"{name}: input"), number(name, "beta", beta)
    if any(isinstance(factor, float) for factor in (scale, share)) and not product.is_floating_point():
        raise TypeError(f"{name}: beta and alpha must be integers for a product of {product.dtype}")
    lead = product.ndim - x.ndim
    if lead < 0 or any(mine not in (1, size) for mine, size in zip(x.shape, product.shape[lead:], strict=True)):
        raise ValueError(f"{name}: input of shape {x.shape} does not broadcast to the product's {product.shape}")
    scaled = product if scale == 1 else mul(product, scale)
    if share == 0:
        return scaled  # whatever input holds, nan too, as in PyTorch
    return add(x if share == 1 else mul(x, share), scaled)
