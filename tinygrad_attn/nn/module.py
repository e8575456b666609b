"""Module, the base of all layers and models: parameters, buffers, submodules, state_dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeGuard, TypeVar, cast

import numpy as np

from tinygrad_attn.checked import check_call, checked, shown
from tinygrad_attn.modes import current_modes, in_module
from tinygrad_attn.ops.conversion import target_dtype
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.values import as_array, flag

__all__ = [
    "Module", "NamedIterator", "Parameter", "clear_gradient", "is_plain", "named",
]  # fmt: skip

M = TypeVar("M", bound="Module")
_LOADED_FROM = {"f": "f", "i": "iu", "u": "iu", "b": "b"}
"""For each kind of dtype the kinds from which `Module.load_state_dict` converts."""


class Parameter(Tensor):
    """A trainable tensor of a module: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(np.array(data.array if isinstance(data, Tensor) else as_array(data), order="C"))
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter: " + super().__repr__()


def clear_gradient(parameter: Tensor, set_to_none: bool = True) -> None:
    """Set a gradient to None, or to zeros, in place, if not ``set_to_none``; without a gradient there is nothing to
    do."""
    if set_to_none or parameter.grad is None:
        parameter.grad = None
    else:
        writable(parameter.grad)[...] = 0.0
        parameter.grad._written_by("zero_grad()")


def writable(gradient: Tensor) -> np.ndarray[Any, Any]:
    """The array of a gradient; of one in read-only memory, as an expanded tensor has, a copy that replaces it."""
    if not gradient.array.flags.writeable:
        gradient.array = gradient.array.copy()
    return gradient.array


class NamedIterator(Iterator[Parameter]):
    """What `Module.parameters` returns: an iterator over parameters that also knows their paths, for errors.

    Attributes:
        named: the rest, each with its path.
    """

    def __init__(self, named: Iterator[tuple[str, Parameter]]) -> None:
        self.named = named

    def __next__(self) -> Parameter:
        return next(self.named)[1]


def named(owner: str, parameters: Any) -> list[tuple[str, Parameter]]:
    """Parameters as users give them, each with a name for errors.

    Args:
        owner: of the error's message.
        parameters: one tensor, or several; those of `Module.parameters` and `Module.named_parameters` have their
            paths for names, others their positions.

    Raises:
        TypeError: something else.
    """
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    elif isinstance(parameters, NamedIterator):
        parameters = parameters.named
    elif isinstance(parameters, (Module, str, Mapping)) or not isinstance(parameters, Iterable):
        hint = "; call its parameters()" if isinstance(parameters, Module) else ""
        raise TypeError(f"{owner}: expected parameters, got {shown(parameters)}{hint}")
    found: list[tuple[str, Parameter]] = []
    for position, entry in enumerate(parameters):
        is_pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
        name, parameter = entry if is_pair else (f"parameter {position}", entry)
        if not isinstance(parameter, Tensor):
            raise TypeError(f"{owner}: {name} must be a leaf tensor, got {shown(parameter)}")
        parameter = cast(Parameter, parameter)  # or any other tensor
        found.append((name if is_pair else f"{name} of shape {parameter.shape}", parameter))
    return found


class Module:
    """Base of all layers and models: write ``__init__`` and ``forward``, and call the module like a function.

    Attributes that are a `Parameter` or a `Module` are registered under their names; tensors that are not trained but
    belong to the state are registered with `register_buffer`. Parameters are named by their paths,
    ``"encoder.weight"``.
    """

    @checked
    def __init__(self) -> None:
        self.training = True
        self._buffers: set[str] = set()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module)) and "_buffers" not in vars(self):
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before assigning {name!r}")
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter) and value is not None:
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a parameter; assign a Parameter or None, "
                f"not {type(value).__name__}"
            )
        super().__setattr__(name, value)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The module's function; each subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        try:
            if not current_modes().observers:
                return self.forward(*inputs, **options)
            with in_module(self):
                return self.forward(*inputs, **options)
        except TypeError:
            check_call(type(self).__name__, self.forward, inputs, options)
            raise

    # -- submodules, parameters and buffers ----------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside, in the order of assignment, each with its name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules directly inside."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, depth first, each with its path; the module itself is ``prefix``."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all inside it."""
        return (module for _, module in self.named_modules())

    def _named(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                wanted = isinstance(value, Parameter) if kind == "parameters" else name in module._buffers
                if wanted and value is not None:
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Each parameter once, with the first of its paths."""
        seen: set[int] = set()
        for name, value in self._named("parameters"):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value  # type: ignore[misc]

    def parameters(self) -> Iterator[Parameter]:
        """Each parameter once."""
        return NamedIterator(self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Each buffer with its path."""
        return self._named("buffers")

    def buffers(self) -> Iterator[Tensor]:
        """Each buffer."""
        return (value for _, value in self.named_buffers())

    def get_submodule(self, target: str) -> Module:
        """The module inside at this path, such as ``"encoder.layers.0"``; "" for this one.

        Raises:
            AttributeError: there is none.
        """
        found = dict(self.named_modules()).get(target)
        if found is None:
            raise AttributeError(f"{type(self).__name__}: there is no module {target!r} inside")
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at this path.

        Raises:
            AttributeError: there is none.
        """
        found = dict(self._named("parameters")).get(target)
        if found is None:
            raise AttributeError(f"{type(self).__name__}: there is no parameter {target!r} inside")
        return found  # type: ignore[return-value]

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Assign a parameter, or None, to the attribute ``name``."""
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"register_parameter: param must be a Parameter or None, got {shown(param)}")
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Assign a module, or None, to the attribute ``name``."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"add_module: module must be a Module or None, got {shown(module)}")
        setattr(self, name, module)

    def register_buffer(self, name: str, value: Tensor | None) -> None:
        """Add ``value`` to the state under ``name`` without making it a parameter; None is not saved."""
        if not isinstance(name, str) or not isinstance(value, (Tensor, type(None))):
            raise TypeError(f"register_buffer: expected a name and a tensor, got {shown(name)} and {shown(value)}")
        setattr(self, name, value)
        self._buffers.add(name)

    # -- its state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by path, as detached tensors that share their memory."""
        return {name: value.detach() for kind in ("parameters", "buffers") for name, value in self._named(kind)}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values into the parameters and buffers of the same path, converted to their dtype.

        Args:
            state: tensors or arrays by path (those of a PyTorch module's ``state_dict`` too, as NumPy arrays).
            strict: raise if paths are missing or not expected.

        Raises:
            ValueError: paths missing or not expected (if strict), of another shape or of another kind, as integers for
                floats, all of them listed; nothing is loaded then.
            TypeError: not a mapping.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict of {type(self).__name__}: state must be a dict, got {shown(state)}")
        own = {name: value for kind in ("parameters", "buffers") for name, value in self._named(kind)}
        arrays = {name: value if isinstance(value, Tensor) else _as_numbers(value) for name, value in state.items()}
        complaints = []
        if strict:
            complaints += [f"missing: {name} {own[name].shape}" for name in own if name not in arrays]
            complaints += [f"unexpected: {name} {arrays[name].shape}" for name in arrays if name not in own]
        for name, value in own.items():
            if name in arrays and arrays[name].shape != value.shape:
                complaints.append(f"wrong shape: {name} is {arrays[name].shape}, expected {value.shape}")
            elif name in arrays and arrays[name].dtype.kind not in _LOADED_FROM[value.dtype.kind]:
                complaints.append(f"wrong dtype: {name} is {arrays[name].dtype}, expected {value.dtype}")
        if complaints:
            raise ValueError(f"load_state_dict of {type(self).__name__}:\n  " + "\n  ".join(complaints))
        for name, value in own.items():
            if name in arrays:
                given = arrays[name]
                value.array[...] = given.array if isinstance(given, Tensor) else given
                value._written_by("load_state_dict()")

    def train(self: M, mode: bool = True) -> M:
        """Set training mode (dropout drops), or with False evaluation mode, for this module and all inside it."""
        mode = flag("train", "mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Set evaluation mode: the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Set ``requires_grad`` of all parameters; False freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None, or to zeros if not ``set_to_none``."""
        for parameter in self.parameters():
            clear_gradient(parameter, set_to_none)

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call ``function`` on every module inside, then on this one."""
        if not callable(function):
            raise TypeError(f"apply: expected a function of a module, got {shown(function)}")
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def float(self: M) -> M:
        """Convert all floating-point parameters and buffers to float32 (see `to`)."""
        return self.to(np.float32)

    def double(self: M) -> M:
        """Convert all floating-point parameters and buffers to float64 (see `to`)."""
        return self.to(np.float64)

    def cpu(self: M) -> M:
        """The module itself: all tensors are in the CPU's memory."""
        return self

    def to(self: M, *targets: Any, dtype: Any = None, device: Any = None) -> M:
        """Convert all floating-point parameters and buffers, in place, to float32 or float64.

        Their gradients are dropped. "cpu", where all tensors are, changes nothing. Arguments as of `Tensor.to`.

        Raises:
            TypeError: another dtype, or another device.
        """
        wanted = target_dtype("to", targets, dtype, device)
        if wanted is None:
            return self
        if wanted.kind != "f":
            raise TypeError(f"to: parameters are float32 or float64, got {wanted}")
        for kind in ("parameters", "buffers"):
            for _, value in self._named(kind):
                if value.is_floating_point():
                    value.array = value.array.astype(wanted)
                    value.grad = None
        return self

    # -- as text -------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The text that ``repr`` shows in the module's parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(lines) + "\n)"

    def summary(self) -> str:
        """A table of all parameters: path, shape, count, and the total."""
        rows = [(name, str(p.shape), p.numel()) for name, p in self.named_parameters()]
        total = sum(count for _, _, count in rows)
        rows.append(("total", "", total))
        widths = [max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)]
        return "\n".join(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>12,}" for name, shape, count in rows)


def is_plain(module: object, kind: type[M]) -> TypeGuard[M]:
    """Whether ``module`` computes what ``kind`` does: it is no subclass, and no ``forward`` was assigned to it.

    What computes with the parameters of a module and does not call it is for such modules alone.
    """
    return type(module) is kind and "forward" not in vars(module)


def _as_numbers(value: Any) -> np.ndarray[Any, Any]:
    """An array of what a state holds; of objects, which no parameter takes, if it is none."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, and tensors of other libraries that refuse
        return np.asarray(None)
