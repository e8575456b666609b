"""Optimisers: how a gradient becomes a step."""

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

    Attributes:
        lr: the learning rate; a schedule sets it between steps.
        steps: how many steps were taken.
        counts: how many of them moved each parameter, those in which it had a gradient.
        state: by name of a quantity, one array for each parameter.
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
        """Forget all gradients."""
        for parameter in self.params:
            parameter.grad = None

    @span("optimizer step")
    def step(self, clip_norm: float | None = None) -> float | None:
        """Take one step along the gradients; parameters without one stay.

        Args:
            clip_norm: scale all gradients together so that their norm is at most this, without a pass of its own.

        Returns:
            The norm of all gradients before clipping, or None if ``clip_norm`` is None.
        """
        used = [i for i, parameter in enumerate(self.params) if parameter.grad is not None]
        gradients = [self.params[i].grad.array for i in used]  # type: ignore[union-attr]
        norm = None if clip_norm is None else global_norm(gradients)
        self.steps += 1
        for i in used:
            self.counts[i] += 1
        self._update(used, gradients, 1.0 if norm is None or clip_norm is None else clip_factor(norm, clip_norm))
        writer = f"{type(self).__name__}.step()"
        for i in used:
            self.params[i].storage.written_by(writer)
        return norm

    def _update(self, used: list[int], gradients: list[Array], scale: float) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """The state as arrays: ``"exp_avg.0"`` …, ``"steps"`` and ``"counts"``."""
        arrays = {f"{name}.{i}": array for name, values in self.state.items() for i, array in enumerate(values)}
        return {**arrays, "steps": np.asarray(self.steps), "counts": np.asarray(self.counts)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            ValueError: arrays missing, not expected, or of another shape, all of them listed.
        """
        own = self.state_dict()
        wrong = [f"missing: {name}" for name in own if name not in state] + [
            f"unexpected: {name}" for name in state if name not in own
        ]
        wrong += [
            f"wrong shape: {n} is {state[n].shape}, expected {a.shape}"
            for n, a in own.items()
            if n in state and state[n].shape != a.shape
        ]
        if wrong:
            raise ValueError(f"load_state_dict of {type(self).__name__}:\n  " + "\n  ".join(wrong))
        for name, values in self.state.items():
            for i, array in enumerate(values):
                array[...] = state[f"{name}.{i}"]
        self.steps = int(state["steps"])
        self.counts = [int(count) for count in state["counts"]]


class SGD(Optimizer):
    """Gradient descent, with momentum: v ← μ·v + g, θ ← θ − lr·v."""

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
            change = gradient * scale + array * self.weight_decay
            if self.momentum:
                velocity = self.state["momentum_buffer"][i]
                velocity *= self.momentum
                velocity += change
                change = velocity
            array -= change * self.lr


class Adam(Optimizer):
    r"""Adam (Kingma and Ba 2015): θ ← θ − lr·m̂ / (√v̂ + eps), with m and v the running means of g and g².

    ``weight_decay`` is added to the gradient (L2); `AdamW` takes it from the parameter instead.
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
        # The means of a parameter are corrected by its own count; nearly always that is the same for all.
        for count in sorted({self.counts[i] for i in used}):
            chosen = [place for place, i in enumerate(used) if self.counts[i] == count]
            self._update_of([used[place] for place in chosen])([gradients[place] for place in chosen], count, settings)

    def _update_of(self, positions: list[int]) -> AdamUpdate:
        """The update of the parameters at ``positions``: that of the last step, unless arrays have been replaced."""
        params = [self.params[i].array for i in positions]
        m, v = ([arrays[i] for i in positions] for arrays in (self.state["exp_avg"], self.state["exp_avg_sq"]))
        if self._last_update is None or not self._last_update.is_for(params, m, v):
            self._last_update = AdamUpdate(params, m, v)
        return self._last_update


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): θ ← θ·(1 − lr·weight_decay) before the step."""

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
    """What gradients of global norm ``norm`` are multiplied by so that the norm is at most ``max_norm``."""
    return min(1.0, max_norm / (norm + 1e-6))


def clip_grad_norm_(parameters: Parameter | Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients together, in place, so that their norm is at most ``max_norm``.

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
