"""SGD: gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import NonNegative, checked
from tinygrad_attn.optim.optimizer import Optimizer, Option, Params

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent with momentum: v ← μ·v + g, θ ← θ − lr·v.

    Args:
        params: leaf tensors, or groups of them.
        lr: the learning rate.
        momentum: μ; with 0, the default, v is the gradient.
        weight_decay: times the parameter, added to its gradient (L2).

    Raises:
        ValueError, TypeError: see `Optimizer`.
    """

    momentum = Option()
    weight_decay = Option()

    @checked
    def __init__(
        self, params: Params, lr: NonNegative = 1e-3, momentum: NonNegative = 0.0, weight_decay: NonNegative = 0.0
    ) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def _quantities(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _update(
        self, group: dict[str, Any], used: Sequence[int], gradients: Sequence[np.ndarray[Any, Any]], scale: float
    ) -> None:
        momentum, decay, lr = group["momentum"], group["weight_decay"], group["lr"]
        for i, gradient in zip(used, gradients, strict=True):
            array = self.params[i].array
            velocity = gradient * scale + array * decay
            if momentum:
                buffer = self._state_of("momentum_buffer", i)
                buffer *= momentum
                buffer += velocity
                velocity = buffer
            array -= velocity * lr
