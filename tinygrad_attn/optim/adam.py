"""Adam and AdamW: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import Betas, NonNegative, checked
from tinygrad_attn.kernels.adam import AdamSettings, AdamUpdate
from tinygrad_attn.optim.optimizer import Optimizer, Option, Params

__all__ = ["Adam", "AdamW"]

Array = np.ndarray[Any, Any]


class Adam(Optimizer):
    r"""Adam: θ ← θ − lr·m̂ / (√v̂ + eps), with m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², m̂ = m / (1 − β₁ᵗ) and
    v̂ = v / (1 − β₂ᵗ) in step t.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.

    Args:
        params: leaf tensors, or groups of them.
        lr: the learning rate.
        betas: β₁ and β₂, in [0, 1).
        eps: added to the denominator.
        weight_decay: times the parameter, added to its gradient (L2); `AdamW` decouples the two.

    Raises:
        ValueError: betas out of range; and see `Optimizer`.
    """

    betas = Option()
    eps = Option()
    weight_decay = Option()
    decoupled = False

    @checked
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        # The last update of each group, by the first of its positions: the addresses are taken once.
        self._last_updates: dict[int, AdamUpdate] = {}
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _quantities(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _update(self, group: dict[str, Any], used: Sequence[int], gradients: Sequence[Array], scale: float) -> None:
        beta1, beta2 = group["betas"]
        settings = AdamSettings(group["lr"], beta1, beta2, group["eps"], group["weight_decay"], self.decoupled, scale)
        # t is the parameter's own count of steps; it is the same for all that always had a gradient.
        for count in sorted({self.counts[i] for i in used}):
            chosen = [(i, gradient) for i, gradient in zip(used, gradients, strict=True) if self.counts[i] == count]
            positions, of_these = (list(column) for column in zip(*chosen, strict=True))
            self._update_of(positions, of_these, count, settings)

    def _update_of(self, positions: list[int], gradients: list[Array], count: int, settings: AdamSettings) -> None:
        """Update the parameters at ``positions``."""
        params = [self.params[i].array for i in positions]
        m, v = ([arrays[i] for i in positions] for arrays in (self.state["exp_avg"], self.state["exp_avg_sq"]))
        update = self._last_updates.get(positions[0])
        if update is None or not update.is_for(params, m, v):
            m, v = ([self._state_of(name, i) for i in positions] for name in ("exp_avg", "exp_avg_sq"))
            # The kernel takes contiguous memory: of other layouts it gets a copy, which is written back.
            contiguous = [np.asarray(array, order="C") for array in params]
            update = AdamUpdate(contiguous, m, v)
            if any(copy is not array for copy, array in zip(contiguous, params, strict=True)):
                update(gradients, count, settings)
                for copy, array in zip(contiguous, params, strict=True):
                    array[...] = copy
                return
            self._last_updates[positions[0]] = update
        update(gradients, count, settings)


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ·(1 − lr·weight_decay), then the step of `Adam` without decay.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019. The arguments are those of `Adam`.
    """

    decoupled = True

    @checked
    def __init__(
        self,
        params: Params,
        lr: NonNegative = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
