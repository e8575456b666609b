"""Modules as functions of their parameters, for the operators of `tinygrad_attn.func`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinygrad_attn.checked import shown
from tinygrad_attn.kernels.gemm.cache import keeping
from tinygrad_attn.modes import no_grad
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.joining import stack
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__ = ["functional_call", "stack_module_state"]


@public("func")
def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | tuple[Mapping[str, Tensor], ...],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers, which stay as they are.

    Args:
        module: not called by another thread meanwhile.
        parameter_and_buffer_dicts: tensors by path, as in ``dict(module.named_parameters())``, or several such dicts.
        args: the module's argument, or a tuple of them.
        kwargs: its named arguments.
        tie_weights: replace a parameter with several paths, such as a tied weight, in all of them.
        strict: all parameters and buffers must be given.

    Raises:
        TypeError: not a module, or what is given for a path is no tensor.
        ValueError: the module has nothing at a path, or with ``strict`` nothing is given for one.
    """
    if not isinstance(module, Module):
        raise TypeError(f"functional_call: expected a module, got {shown(module)}")
    several = parameter_and_buffer_dicts
    dicts = several if isinstance(several, (tuple, list)) else (several,)
    if not all(isinstance(each, Mapping) for each in dicts):
        raise TypeError(f"functional_call: expected a dict of tensors, or several, got {shown(several)}")
    given = {name: tensor for each in dicts for name, tensor in each.items()}
    own = {name: tensor for kind in ("parameters", "buffers") for name, tensor in module._named(kind)}
    for name, tensor in given.items():
        if name not in own:
            raise ValueError(f"functional_call: {type(module).__name__} has no parameter or buffer {name!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(f"functional_call: {name} must be a tensor, got {shown(tensor)}")
    by_tensor = {id(own[name]): tensor for name, tensor in given.items()} if tie_weights else {}
    replaced = {name: given.get(name, by_tensor.get(id(tensor))) for name, tensor in own.items()}
    if strict and (missing := [name for name, other in replaced.items() if other is None]):
        raise ValueError(f"functional_call: nothing is given for {', '.join(missing)}; strict=False keeps the module's")
    modules = dict(module.named_modules())
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    kept, keeping.kept = keeping.kept, None  # what is packed or made of the module's own
    try:
        for name, other in replaced.items():
            if other is not None:
                path, _, attribute = name.rpartition(".")
                vars(modules[path])[attribute] = other
        return module(*arguments, **(kwargs or {}))
    finally:
        keeping.kept = kept
        for name, tensor in own.items():
            path, _, attribute = name.rpartition(".")
            vars(modules[path])[attribute] = tensor


@public("func")
def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of modules of one class and one shape, by path, stacked along a new first axis.

    With `functional_call` inside `vmap` they are an ensemble. Stacked parameters are leaves of their own, which require
    a gradient if those of the modules do.

    Args:
        models: modules, at least one, all in training mode or none.

    Raises:
        TypeError: what is given are no modules, or modules of several classes.
        ValueError: there is none, they are in different modes, or their parameters differ in name or shape.
    """
    modules = list(models)
    if not modules:
        raise ValueError("stack_module_state: expected at least one module, got none")
    if not all(isinstance(each, Module) and type(each) is type(modules[0]) for each in modules):
        raise TypeError("stack_module_state: expected modules of one class")
    if len({each.training for each in modules}) > 1:
        raise ValueError("stack_module_state: some modules are in training mode and some are not")
    found = []
    for kind in ("parameters", "buffers"):
        each_own = [dict(getattr(module, f"named_{kind}")()) for module in modules]
        if any(own.keys() != each_own[0].keys() for own in each_own):
            raise ValueError(f"stack_module_state: the modules have {kind} of other names")
        found.append({name: _stacked(name, [own[name] for own in each_own]) for name in each_own[0]})
    return found[0], found[1]


def _stacked(name: str, tensors: Sequence[Tensor]) -> Tensor:
    if len({each.shape for each in tensors}) > 1 or len({each.requires_grad for each in tensors}) > 1:
        raise ValueError(f"stack_module_state: {name} has another shape in another module, or requires no gradient")
    with no_grad():
        joined = stack(list(tensors))
    return joined.requires_grad_(tensors[0].requires_grad)
