"""Optimisers: SGD, Adam, AdamW, and clipping of the gradient's norm.

optimizer = Adam(model.parameters(), lr=1e-3)
for batch in batches:
    optimizer.zero_grad()
    loss(batch).backward()
    optimizer.step(clip_norm=1.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_attn.kernels.adam import AdamSettings, AdamUpdate, global_norm
from tinygrad_attn.modes import span
from tinygrad_attn.nn.module import Parameter
from tinygrad_attn.tensor import Tensor

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_"]

Array = np.ndarray[Any, Any]


class Optimizer:
    """Base of the optimisers: the parameters, and the state that belongs to each of them.

    A subclass defines ``_update``.

    Args:
        params: leaf tensors; at least one.
        lr: the learning rate, not negative.

    Attributes:
        lr: the learning rate; a schedule sets it between steps.
        steps: how many steps were taken.
        counts: for each parameter, the number of steps in which it had a gradient and was updated.
        state: by name of a quantity, such as ``"exp_avg"``, one array for each parameter.

    Raises:
        ValueError: no parameters, or a negative ``lr``.
        TypeError: a parameter that is not a leaf tensor.
    """

    def __init__(self, params: Iterable[Parameter], lr: float) -> None:
        self.params = list(params)
        if not self.params:
            raise ValueError(f"{type(self).__name__}: no parameters to optimise")
        if lr < 0:
            raise ValueError(f"{type(self).__name__}: lr must not be negative, got {lr}")
        self.lr = lr
        for position, parameter in enumerate(self.params):
            if not isinstance(parameter, Tensor) or not parameter.is_leaf:
                found = "the output of an op" if isinstance(parameter, Tensor) else type(parameter).__name__
                raise TypeError(f"{type(self).__name__}: parameter {position} must be a leaf tensor, got {found}")
        self.steps = 0
        self.counts = [0] * len(self.params)
        self.state: dict[str, list[Array]] = {}

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for parameter in self.params:
            parameter.grad = None

    @span("optimizer step")
    def step(self, clip_norm: float | None = None) -> float | None:
        """Take one step; parameters without a gradient do not change.

        Args:
            clip_norm: scale all gradients together so that their norm is at most this. The factor is part of the
                update: the gradients themselves do not change.

        Returns:
            The norm of all gradients before clipping, or None if ``clip_norm`` is None.
        """
        used = [i for i, parameter in enumerate(self.params) if parameter.grad is not None]
        gradients = [self.params[i].grad.array for i in used]  # type: ignore[union-attr]
        norm, scale = None, 1.0
        if clip_norm is not None:
            norm = global_norm(gradients)
            scale = clip_factor(norm, clip_norm)
        self.steps += 1
        for i in used:
            self.counts[i] += 1
        self._update(used, gradients, scale)
        writer = f"{type(self).__name__}.step()"
        for i in used:
            self.params[i].storage.written_by(writer)
        return norm

    def _update(self, used: list[int], gradients: list[Array], scale: float) -> None:
        """Update the parameters at the positions ``used``, in place, by their gradients times ``scale``."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """The state as arrays: ``"exp_avg.0"`` …, ``"steps"`` and ``"counts"``."""
        arrays = {f"{name}.{i}": array for name, values in self.state.items() for i, array in enumerate(values)}
        return {**arrays, "steps": np.asarray(self.steps), "counts": np.asarray(self.counts)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: arrays missing, not expected, or of another shape, all of them listed.
        """
        own = self.state_dict()
        wrong = [f"missing: {name}" for name in own if name not in state]
        wrong += [f"unexpected: {name}" for name in state if name not in own]
        wrong += [
            f"wrong shape: {name} is {state[name].shape}, expected {array.shape}"
            for name, array in own.items()
            if name in state and state[name].shape != array.shape
        ]
        if wrong:
            raise ValueError(f"load_state_dict of {type(self).__name__}:\n  " + "\n  ".join(wrong))
        for name, values in self.state.items():
            for i, array in enumerate(values):
                array[...] = state[f"{name}.{i}"]
        self.steps = int(state["steps"])
        self.counts = [int(count) for count in state["counts"]]


class SGD(Optimizer):
    """Gradient descent with momentum: v ← μ·v + g, θ ← θ − lr·v.

    Args:
        params: leaf tensors.
        lr: the learning rate.
        momentum: μ; with 0, the default, v is the gradient.
        weight_decay: times the parameter, added to its gradient (L2).

    Raises:
        ValueError, TypeError: see `Optimizer`.
    """

    def __init__(
        self, params: Iterable[Parameter], lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr)
        self.momentum = momentum
        self.weight_decay = weight_decay
        if momentum:
            self.state["momentum_buffer"] = [np.zeros_like(p.array) for p in self.params]

    def _update(self, used: list[int], gradients: list[Array], scale: float) -> None:
        for i, gradient in zip(used, gradients, strict=True):
            array = self.params[i].array
            velocity = gradient * scale + array * self.weight_decay
            if self.momentum:
                buffer = self.state["momentum_buffer"][i]
                buffer *= self.momentum
                buffer += velocity
                velocity = buffer
            array -= velocity * self.lr


class Adam(Optimizer):
    r"""Adam: θ ← θ − lr·m̂ / (√v̂ + eps), with m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², m̂ = m / (1 − β₁ᵗ) and
    v̂ = v / (1 − β₂ᵗ) in step t.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.

    Args:
        params: leaf tensors.
        lr: the learning rate.
        betas: β₁ and β₂, in [0, 1).
        eps: added to the denominator.
        weight_decay: times the parameter, added to its gradient (L2); `AdamW` decouples the two.

    Raises:
        ValueError: betas out of range; and see `Optimizer`.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr)
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"{type(self).__name__}: betas must be in [0, 1), got {betas}")
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.state = {name: [np.zeros_like(p.array) for p in self.params] for name in ("exp_avg", "exp_avg_sq")}
        self._last_update: AdamUpdate | None = None

    def _update(self, used: list[int], gradients: list[Array], scale: float) -> None:
        settings = AdamSettings(self.lr, *self.betas, self.eps, self.weight_decay, self.decoupled, scale)
        # t is the parameter's own count of steps; it is the same for all that always had a gradient.
        for count in sorted({self.counts[i] for i in used}):
            chosen = [(i, gradient) for i, gradient in zip(used, gradients, strict=True) if self.counts[i] == count]
            positions, of_these = (list(column) for column in zip(*chosen, strict=True))
            self._update_of(positions)(of_these, count, settings)

    def _update_of(self, positions: list[int]) -> AdamUpdate:
        """The update of the parameters at ``positions``; reused from the last step unless arrays have been replaced."""
        params = [self.params[i].array for i in positions]
        m, v = ([arrays[i] for i in positions] for arrays in (self.state["exp_avg"], self.state["exp_avg_sq"]))
        if self._last_update is None or not self._last_update.is_for(params, m, v):
            self._last_update = AdamUpdate(params, m, v)
        return self._last_update


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ·(1 − lr·weight_decay), then the step of `Adam` without decay.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019. The arguments are those of `Adam`.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


def clip_factor(norm: float, max_norm: float) -> float:
    """The factor that brings gradients of norm ``norm`` to at most ``max_norm``; at most 1."""
    return min(1.0, max_norm / (norm + 1e-6))


def clip_grad_norm_(parameters: Parameter | Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients together, in place, so that their norm is at most ``max_norm``.

    Args:
        parameters: one tensor or several; those without a gradient do not count.
        max_norm: of all elements of all gradients, Euclidean.

    Returns:
        The norm before.
    """
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    gradients = [parameter.grad for parameter in given if parameter.grad is not None]
    norm = global_norm([gradient.array for gradient in gradients])
    factor = clip_factor(norm, max_norm)
    if factor < 1.0:
        for gradient in gradients:
            gradient.array *= factor
            gradient.storage.written_by("clip_grad_norm_()")
    return norm
