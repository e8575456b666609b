"""softmax, log_softmax and masked_softmax along an axis, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.kernels import softmax as kernels
from tinygrad_attn.op import op
from tinygrad_attn.ops.arguments import only_floats
from tinygrad_attn.ops.dims import one_dim
from tinygrad_attn.ops.pointwise import exp
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.reduction import sum
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample

__all__ = ["log_softmax", "masked_softmax", "softmax"]

Array = np.ndarray[Any, Any]

errors = [
    ErrorSample((np.ones((2, 3)),), {"dim": 2}, IndexError, "dim 2 is out of range .* 2 axes"),
    ErrorSample((np.ones((2, 3)),), {}, TypeError, "dim"),
    ErrorSample((np.ones((2, 3), int),), {"dim": 0}, TypeError, "input must be float32 or float64, it is int64"),
    ErrorSample((np.ones((2, 3)),), {"dim": 0, "dtype": np.float64}, TypeError, "dtype"),
]


def _samples(draw: Draw) -> Sample:
    shape = draw.shape()
    reach = max(len(shape), 1)
    return Sample((draw.floats(shape),), {"dim": draw.integer(-reach, reach - 1)})


def _along(dim: int, kernel: Callable[..., Array], *arrays: Array) -> Array:
    """``kernel``, which works along the last axis, along ``dim``."""
    if arrays[0].ndim == 0:
        return kernel(*[array.reshape(1) for array in arrays]).reshape(())
    if dim == arrays[0].ndim - 1:
        return kernel(*arrays)
    return np.moveaxis(kernel(*[np.moveaxis(array, dim, -1) for array in arrays]), -1, dim)


def _axis(name: str, input: Array, dim: int) -> int:
    only_floats(name, input)
    return one_dim(name, dim, input.ndim)


def _mark_empty(input: Array, result: Array) -> Array:
    """Write nan to the rows of ``result`` whose ``input`` is -inf throughout: 0 / 0, which the kernels count as 0."""
    if input.size:
        empty = np.isneginf(input[..., 0])
        if empty.any():
            empty &= np.isneginf(input).all(axis=-1)
            result[empty] = np.nan
    return result


@public("ta", "F", "Tensor")
@op(r"z_i = e^{x_i} / \textstyle\sum_j e^{x_j}", samples=_samples, errors=errors)
@quiet
def softmax(input: Array, *, dim: int) -> Array:
    """Positive weights along ``dim`` that sum to 1, without overflow; a row of -inf alone gives nan.

    Args:
        input: of any shape, float32 or float64.
        dim: the axis.

    Raises:
        IndexError: no such axis.
        TypeError: the input is not floating-point, or ``dim`` is missing.
    """
    dim = _axis("softmax", input, dim)
    return _along(dim, lambda rows: _mark_empty(rows, kernels.softmax(rows)), input)


softmax.vjp(
    "input",
    r"z \odot (\bar z - \textstyle\sum_j \bar z_j z_j)",
    lambda g, z, dim: z * (g - sum(g * z, dim, keepdim=True)),
    lambda g, z, dim: _along(dim % max(z.ndim, 1), kernels.softmax_backward, g, z),
)


@public("ta", "F", "Tensor")
@op(r"z_i = x_i - \ln \textstyle\sum_j e^{x_j}", samples=_samples, errors=errors)
@quiet
def log_softmax(input: Array, *, dim: int) -> Array:
    """The logarithm of `softmax`, accurate even where softmax underflows; a row of -inf alone gives nan.

    Args:
        input: of any shape, float32 or float64.
        dim: the axis.

    Raises:
        IndexError: no such axis.
        TypeError: the input is not floating-point, or ``dim`` is missing.
    """
    dim = _axis("log_softmax", input, dim)
    return _along(dim, lambda rows: _mark_empty(rows, kernels.log_softmax(rows)), input)


log_softmax.vjp(
    "input",
    r"\bar z - e^z \odot \textstyle\sum_j \bar z_j",
    lambda g, z, dim: g - exp(z) * sum(g, dim, keepdim=True),
    lambda g, z, dim: _along(dim % max(z.ndim, 1), kernels.log_softmax_backward, g, z),
)


def _masked_samples(draw: Draw) -> Sample:
    sample = _samples(draw)
    return Sample((*sample.operands, draw.mask(draw.broadcastable(sample.operands[0].shape))), sample.options)


@public("F")
@op(
    r"z_i = m_i\,e^{x_i} / \textstyle\sum_j m_j\,e^{x_j}, \quad 0 \text{ where } m = 0",
    samples=_masked_samples,
    errors=[
        ErrorSample((np.ones((2, 3)), np.ones((2, 3))), {}, TypeError, "mask must be bool, it is float64"),
        ErrorSample((np.ones((2, 3)), np.ones((2, 4), bool)), {}, ValueError, r"mask of shape \(2, 4\) .* \(2, 3\)"),
        ErrorSample((np.ones(3), np.ones((2, 3), bool)), {}, ValueError, r"mask of shape \(2, 3\) .* \(3,\)"),
        ErrorSample((np.ones(3), np.ones(3, bool)), {"dim": 1}, IndexError, "dim 1 is out of range"),
        ErrorSample((np.ones(3, int), np.ones(3, bool)), {}, TypeError, "input must be float32 or float64"),
    ],
)
@quiet
def masked_softmax(input: Array, mask: Array, dim: int = -1) -> Array:
    """Softmax along ``dim`` over the elements where ``mask`` is True; the others get the weight 0.

    A row whose elements are all masked or -inf gives zeros, and its gradient is zero.

    Args:
        input: of any shape, float32 or float64; masked elements may have any value, even nan.
        mask: bool, broadcasts to the input; True where an element takes part.
        dim: the axis.

    Raises:
        IndexError: no such axis.
        TypeError: the mask is not bool, or the input is not floating-point.
        ValueError: the mask does not broadcast to the input.
    """
    dim = _axis("masked_softmax", input, dim)
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise TypeError(f"masked_softmax: mask must be bool, it is {mask.dtype}; write it as a comparison")
    lead = input.ndim - mask.ndim
    if lead < 0 or any(m not in (1, n) for m, n in zip(mask.shape, input.shape[max(lead, 0) :], strict=False)):
        raise ValueError(f"masked_softmax: mask of shape {mask.shape} does not broadcast to the input's {input.shape}")
    return _along(dim, kernels.softmax, input, mask.reshape((1,) * lead + mask.shape))


masked_softmax.vjp(
    "input",
    r"z \odot (\bar z - \textstyle\sum_j \bar z_j z_j)",
    lambda g, z, dim: z * (g - sum(g * z, dim, keepdim=True)),
    lambda g, z, dim: _along(dim % max(z.ndim, 1), kernels.softmax_backward, g, z),
)
