"""Losses as modules: CrossEntropyLoss, MSELoss, …; each is the function of its name with its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from tinygrad_attn.checked import Index, NonNegative, Positive, Probability, checked
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.arguments import layer_input
from tinygrad_attn.ops.fused.cross_entropy import cross_entropy, nll_loss
from tinygrad_attn.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    smooth_l1_loss,
)
from tinygrad_attn.tensor import Tensor

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "KLDivLoss", "L1Loss", "Loss", "MSELoss",
    "NLLLoss", "SmoothL1Loss",
]  # fmt: skip

Reduction = Literal["mean", "sum", "none"]


class Loss(Module):
    """Base of the losses: options, which are passed to a function of input and target.

    A weight, if one is given, is a buffer, as in PyTorch.

    Args:
        reduction: "mean", "sum", or "none" for one loss for each element or row.
    """

    function: ClassVar[Callable[..., Tensor]]
    """The loss as a function of input and target."""
    options: ClassVar[tuple[str, ...]] = ()
    """The attributes that the function takes besides ``reduction``."""

    @checked
    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss of an input with a target; shapes and errors are those of the function."""
        options = {name: getattr(self, name) for name in self.options}
        return self.function(input, target, **options, reduction=self.reduction)

    def _keep_weight(self, name: str, weight: Any) -> None:
        kept = None if weight is None else layer_input(type(self).__name__, name, weight)
        self.register_buffer(name, kept)

    def extra_repr(self) -> str:
        shown = [f"{n}={v!r}" for n in self.options if not isinstance(v := getattr(self, n), Tensor) and v is not None]
        return ", ".join([*shown, f"reduction={self.reduction!r}"])


class L1Loss(Loss):
    """|x − y|: see `tinygrad_attn.nn.functional.l1_loss`."""

    function = staticmethod(l1_loss)


class MSELoss(Loss):
    """(x − y)²: see `tinygrad_attn.nn.functional.mse_loss`."""

    function = staticmethod(mse_loss)


class SmoothL1Loss(Loss):
    """(x − y)² / 2β where |x − y| < β, else |x − y| − β/2: see `tinygrad_attn.nn.functional.smooth_l1_loss`."""

    function = staticmethod(smooth_l1_loss)
    options = ("beta",)

    @checked
    def __init__(self, reduction: Reduction = "mean", beta: NonNegative = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta


class HuberLoss(Loss):
    """(x − y)² / 2 where |x − y| ≤ δ, else δ (|x − y| − δ/2): see `tinygrad_attn.nn.functional.huber_loss`."""

    function = staticmethod(huber_loss)
    options = ("delta",)

    @checked
    def __init__(self, reduction: Reduction = "mean", delta: Positive = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta


class KLDivLoss(Loss):
    """The Kullback-Leibler divergence from log-probabilities: see `tinygrad_attn.nn.functional.kl_div`."""

    function = staticmethod(kl_div)
    options = ("log_target",)

    @checked
    def __init__(
        self, reduction: Literal["mean", "batchmean", "sum", "none"] = "mean", log_target: bool = False
    ) -> None:
        super().__init__()
        self.reduction = reduction  # type: ignore[assignment]
        self.log_target = log_target


class BCELoss(Loss):
    """The cross entropy of two classes, from probabilities: see `tinygrad_attn.nn.functional.binary_cross_entropy`.

    Attributes:
        weight: broadcast to the input; a buffer, or None.
    """

    function = staticmethod(binary_cross_entropy)
    options = ("weight",)

    @checked
    def __init__(self, weight: Any = None, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)


class BCEWithLogitsLoss(Loss):
    """The same from logits: see `tinygrad_attn.nn.functional.binary_cross_entropy_with_logits`.

    Attributes:
        weight, pos_weight: broadcast to the input; buffers, or None.
    """

    function = staticmethod(binary_cross_entropy_with_logits)
    options = ("weight", "pos_weight")

    @checked
    def __init__(self, weight: Any = None, *, reduction: Reduction = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)
        self._keep_weight("pos_weight", pos_weight)


class NLLLoss(Loss):
    """The negative log-likelihood, from log-probabilities: see `tinygrad_attn.nn.functional.nll_loss`.

    Attributes:
        weight: (C,), a factor for each class; a buffer, or None.
    """

    function = staticmethod(nll_loss)
    options = ("weight", "ignore_index")

    @checked
    def __init__(self, weight: Any = None, *, ignore_index: Index = -100, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)
        self.ignore_index = ignore_index


class CrossEntropyLoss(Loss):
    """The cross entropy, from logits: see `tinygrad_attn.nn.functional.cross_entropy`.

    Attributes:
        weight: (C,), a factor for each class; a buffer, or None.
    """

    function = staticmethod(cross_entropy)
    options = ("weight", "ignore_index", "label_smoothing")

    @checked
    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: Index = -100,
        reduction: Reduction = "mean",
        label_smoothing: Probability = 0.0,
    ) -> None:
        super().__init__(reduction)
        self._keep_weight("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
