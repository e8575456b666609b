"""Optimizer, the base of all optimisers: parameters in groups, their options, and the state of each parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.checked import check_argument, shown
from tinygrad_attn.modes import span
from tinygrad_attn.nn.module import Parameter, clear_gradient, named
from tinygrad_attn.nn.utils import AboveZero, clip_factor, finite_norm
from tinygrad_attn.tensor import Tensor

__all__ = ["Optimizer", "Option", "Params"]

Array = np.ndarray[Any, Any]
Group = dict[str, Any]
Params = Iterable[Parameter] | Iterable[tuple[str, Parameter]] | Iterable[Group]
"""Leaf tensors; or pairs of a name and one, whose names errors then show; or groups, each a dict with the tensors under
"params" and, under the names of the optimiser's arguments, the options that are its own."""

_NONE = "no parameters to optimise; an iterator such as parameters() serves only once"
_KNOWN_TO_GROUPS = frozenset(("params", "name", "initial_lr"))


class Option:
    """An attribute of an optimiser that stands for an option of its groups: reads the first's, sets it in all."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Optimizer | None, owner: type | None = None) -> Any:
        return self if optimizer is None else optimizer.param_groups[0][self.name]

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        value = check_argument(type(optimizer).__name__, type(optimizer).__init__, self.name, value)
        for group in optimizer.param_groups:
            group[self.name] = value


class Optimizer:
    """Base of the optimisers: the parameters, and the state that belongs to each of them.

    A subclass gives its options to this constructor, and defines ``_update`` and ``_quantities``.

    Args:
        params: leaf tensors, at least one; ``model.parameters()``, a list, pairs of a name and a tensor, or groups (see
            `Params`).
        lr: the learning rate, not negative.
        options: what else a group may set for itself, with its value for all others.

    Attributes:
        lr: the learning rate of the first group; assigned, of all. A schedule sets it between steps.
        param_groups: a dict for each group: its tensors under "params", and its options.
        params: the parameters of all groups, in order.
        steps: how many steps were taken.
        counts: for each parameter, the number of steps in which it had a gradient and was updated.
        state: by name of a quantity, such as ``"exp_avg"``, one array for each parameter.

    Raises:
        ValueError: no parameters, one of them twice, or an option that cannot be, such as a negative ``lr``.
        TypeError: a parameter that is not a leaf tensor of floats.
    """

    lr = Option()

    def __init__(self, params: Params, lr: float, **options: Any) -> None:
        self.defaults = {"lr": lr, **options}
        self.param_groups: list[Group] = []
        self.params: list[Parameter] = []
        self.steps = 0
        self.counts: list[int] = []
        self.state: dict[str, list[Array]] = {}
        self._names: list[str] = []
        self._checked: list[tuple[Any, ...]] = []
        given = list(params) if isinstance(params, (list, tuple)) else None
        if given and all(isinstance(entry, dict) for entry in given):
            for group in given:
                self.add_param_group(group)
        else:
            self.add_param_group({"params": params})
        if not self.params:
            raise ValueError(f"{type(self).__name__}: {_NONE}")

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with options of their own; those left out are the optimiser's. An empty list adds none.

        Raises:
            ValueError, TypeError: as in the constructor, or an option that the optimiser does not have.
        """
        owner = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f"{owner}: a group is a dict with its tensors under 'params', got {shown(param_group)}")
        unknown = [name for name in param_group if name not in self.defaults and name not in _KNOWN_TO_GROUPS]
        if unknown:
            raise ValueError(
                f"{owner}: a group has the unknown option {unknown[0]!r}; there are {', '.join(self.defaults)}"
            )
        group = {**self.defaults, **param_group}
        self._check_options(group)
        added = self._check_parameters(param_group["params"])
        group["params"] = [parameter for _, parameter in added]
        self.param_groups.append(group)
        self.params += group["params"]
        self._names += [name for name, _ in added]
        self.counts += [0] * len(added)
        self._checked.append(())
        self._make_state()

    def _check_options(self, group: Group) -> None:
        for name in self.defaults:
            group[name] = check_argument(type(self).__name__, type(self).__init__, name, group[name])

    def _check_parameters(self, params: Any) -> list[tuple[str, Parameter]]:
        """The parameters of a group with their names."""
        owner = type(self).__name__
        if isinstance(params, Tensor):
            raise TypeError(f"{owner}: params must be a list of parameters, got one tensor; put it in a list")
        added = named(owner, params)
        if not added and not isinstance(params, (list, tuple)):
            raise ValueError(f"{owner}: {_NONE}")
        known = {id(parameter): name for name, parameter in zip(self._names, self.params, strict=True)}
        for name, parameter in added:
            if not parameter.is_leaf:
                raise TypeError(f"{owner}: {name} must be a leaf tensor, got the output of an op; detach() it")
            if not parameter.is_floating_point():
                raise TypeError(f"{owner}: {name} must hold floats, it is {parameter.dtype}")
            if not parameter.array.flags.writeable:
                raise ValueError(f"{owner}: {name} is read-only memory; make it of tensor(), which copies")
            if id(parameter) in known:
                raise ValueError(f"{owner}: {name} and {known[id(parameter)]} are the same parameter; give it once")
            known[id(parameter)] = name
        return added

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set all gradients to None, or to zeros if not ``set_to_none``."""
        for parameter in self.params:
            clear_gradient(parameter, set_to_none)

    @span("optimizer step")
    def step(self, clip_norm: AboveZero | None = None) -> float | None:
        """Take one step; parameters without a gradient do not change.

        Args:
            clip_norm: scale all gradients together so that their norm is at most this, above 0. The factor is part of
                the update: the gradients themselves do not change.

        Returns:
            The norm of all gradients before clipping, or None if ``clip_norm`` is None.

        Raises:
            NonFiniteGradientError: nan or infinity among the gradients that ``clip_norm`` should scale; their
                parameters are named, and none is changed.
            ValueError: an option that was assigned, or a ``clip_norm``, that cannot be.
        """
        self._prepare()
        used = [i for i, parameter in enumerate(self.params) if parameter.grad is not None]
        gradients = [self.params[i].grad.array for i in used]  # type: ignore[union-attr]
        norm, scale = None, 1.0
        if clip_norm is not None:
            owner = type(self).__name__
            clip_norm = check_argument(owner, Optimizer.step, "clip_norm", clip_norm)
            norm = finite_norm(gradients, lambda position: self._names[used[position]], owner)
            scale = clip_factor(norm, clip_norm)
        self.steps += 1
        for i in used:
            self.counts[i] += 1
        first = taken = 0
        for group in self.param_groups:
            first += len(group["params"])
            until = taken
            while until < len(used) and used[until] < first:
                until += 1
            self._update(group, used[taken:until], gradients[taken:until], scale)
            taken = until
        writer = f"{type(self).__name__}.step()"
        for i in used:
            self.params[i]._written_by(writer)
        return norm

    def _prepare(self) -> None:
        """Check the options that were assigned since the last step, and make the state that they need."""
        for number, group in enumerate(self.param_groups):
            try:
                values = tuple([group[name] for name in self.defaults])
            except KeyError as error:
                raise ValueError(f"{type(self).__name__}: group {number} has lost its option {error}") from None
            if values != self._checked[number]:
                self._check_options(group)
                self._checked[number] = tuple([group[name] for name in self.defaults])
        self._make_state()

    def _make_state(self) -> None:
        """Zeros for what has no state yet."""
        for name in dict.fromkeys(name for group in self.param_groups for name in self._quantities(group)):
            arrays = self.state.setdefault(name, [])
            arrays += [np.zeros(p.shape, p.dtype) for p in self.params[len(arrays) :]]

    def _quantities(self, group: Group) -> tuple[str, ...]:
        """The names in ``state`` of what a group's parameters need."""
        return ()

    def _state_of(self, name: str, position: int) -> Array:
        """A parameter's state, in the dtype that the parameter has now."""
        array = self.state[name][position]
        dtype = self.params[position].array.dtype
        if array.dtype.char != dtype.char:
            array = self.state[name][position] = array.astype(dtype)
        return array

    def _update(self, group: Group, used: Sequence[int], gradients: Sequence[Array], scale: float) -> None:
        """Update the parameters at the positions ``used``, of one group, in place, by their gradients times
        ``scale``."""
        raise NotImplementedError(f"{type(self).__name__} has no _update")

    def state_dict(self) -> dict[str, Array]:
        """The state as arrays: ``"exp_avg.0"`` …, ``"steps"`` and ``"counts"``; options are not part of it."""
        self._make_state()
        arrays = {f"{name}.{i}": array for name, values in self.state.items() for i, array in enumerate(values)}
        return {**arrays, "steps": np.asarray(self.steps), "counts": np.asarray(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: arrays missing, not expected, or of another shape or kind, all of them listed; nothing is loaded
                then.
            TypeError: not a dict.
        """
        given = self._checked_state(state)
        for name, values in self.state.items():
            for i, array in enumerate(values):
                array[...] = given[f"{name}.{i}"]
        self._set_counts(given)

    def _checked_state(self, state: Any) -> dict[str, Array]:
        """The arrays of a state that `load_state_dict` is given; see there."""
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict of {type(self).__name__}: state must be a dict, got {shown(state)}")
        given = {name: np.asarray(array) for name, array in state.items()}
        own = self.state_dict()
        wrong = [f"missing: {name}" for name in own if name not in given]
        wrong += [f"unexpected: {name}" for name in given if name not in own]
        for name, array in own.items():
            if name in given and given[name].shape != array.shape:
                wrong.append(f"wrong shape: {name} is {given[name].shape}, expected {array.shape}")
            elif name in given and given[name].dtype.kind != array.dtype.kind:
                wrong.append(f"wrong dtype: {name} is {given[name].dtype}, expected {array.dtype}")
        if wrong:
            raise ValueError(f"load_state_dict of {type(self).__name__}:\n  " + "\n  ".join(wrong))
        return given

    def _set_counts(self, given: Mapping[str, Array]) -> None:
        """Continue the counts of steps from a state."""
        self.steps = int(given["steps"])
        self.counts = [int(count) for count in given["counts"]]
