"""LayerNorm and RMSNorm: normalisation over the last axes."""

from __future__ import annotations

from tinygrad_attn.checked import FloatDtype, NonNegative, Sizes, checked
from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import current_modes, mark, marks_are_heard
from tinygrad_attn.nn import init
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.module import Module, is_plain
from tinygrad_attn.ops.fused.normalize import layer_norm
from tinygrad_attn.ops.fused.residual_norm import residual_layer_norm
from tinygrad_attn.ops.fused.rms_norm import rms_norm
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.tensor import Tensor

__all__ = ["LayerNorm", "RMSNorm", "add_and_norm"]


def add_and_norm(skip: Tensor, output: Tensor, norm: Module, sublayer: str) -> tuple[Tensor, Tensor]:
    """What the next sublayer starts with where norms come first: the residual sum ``skip + output``, and its norm.

    Both are of one op where they can be, unless someone looks: then the sum is announced by `mark`, too.

    Args:
        skip: (…, d), on its way past the sublayer before.
        output: (…, d), of that sublayer.
        norm: of the next sublayer.
        sublayer: the next one's name, as in `mark`'s "branch".
    """
    if is_plain(norm, LayerNorm) and not (current_modes().unfused or marks_are_heard()):
        sizes, eps = norm.normalized_shape, norm.eps
        return residual_layer_norm(output, skip, norm.weight, norm.bias, normalized_shape=sizes, eps=eps)
    x = mark("residual", add(skip, output))
    return mark("skip", x), norm(mark("branch", x, sublayer=sublayer))


class LayerNorm(Module):
    """(x − mean) / √(var + eps) ⊙ weight + bias, over the last axes, of shape ``normalized_shape`` (Ba et al. 2016).

    Attributes:
        weight: ``normalized_shape``, initially ones; None if not ``elementwise_affine``.
        bias: ``normalized_shape``, initially zeros; None if not ``elementwise_affine`` or not ``bias``.
    """

    @checked
    def __init__(
        self,
        normalized_shape: Sizes,
        eps: NonNegative = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__()
        self.normalized_shape: tuple[int, ...] = normalized_shape  # type: ignore[assignment]
        self.eps = eps
        self.weight = empty_parameter(self.normalized_shape, dtype) if elementwise_affine else None
        self.bias = empty_parameter(self.normalized_shape, dtype) if elementwise_affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight to ones, bias to zeros."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(…, *normalized_shape), the same shape out."""
        return mark("norm", layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps))

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """x / √(mean(x²) + eps) ⊙ weight, over the last axes, of shape ``normalized_shape`` (Zhang and Sennrich 2019).

    The mean is not subtracted, and there is no bias.

    Attributes:
        weight: ``normalized_shape``, initially ones; None if not ``elementwise_affine``.

    Args:
        normalized_shape: the sizes of the axes that are normalised together.
        eps: added to the mean square; the input's machine epsilon if None.
        elementwise_affine: whether there is a weight.
        dtype: of the weight.
    """

    @checked
    def __init__(
        self,
        normalized_shape: Sizes,
        eps: NonNegative | None = None,
        elementwise_affine: bool = True,
        dtype: FloatDtype = default_dtype,
    ) -> None:
        super().__init__()
        self.normalized_shape: tuple[int, ...] = normalized_shape  # type: ignore[assignment]
        self.eps = eps
        self.weight = empty_parameter(self.normalized_shape, dtype) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight to ones."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """(…, *normalized_shape), the same shape out.

        Raises:
            ValueError: a shape that does not end in ``normalized_shape``.
        """
        return mark("norm", rms_norm(input, self.normalized_shape, self.weight, self.eps))

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
