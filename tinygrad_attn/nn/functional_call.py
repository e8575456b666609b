"""A module as a function of its parameters, for the operators of `tinygrad_attn.func`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_attn.checked import shown
from tinygrad_attn.kernels.gemm.cache import keeping
from tinygrad_attn.nn.module import Module
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Tensor

__all__ = ["functional_call"]


@public("func")
def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | tuple[Mapping[str, Tensor], ...],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers, which stay as they are.

    Args:
        module: not called by another thread meanwhile.
        parameter_and_buffer_dicts: tensors by path, as in ``dict(module.named_parameters())``, or several such dicts.
            A parameter with several paths, such as a tied weight, is replaced in all of them.
        args: the module's argument, or a tuple of them.
        kwargs: its named arguments.

    Raises:
        TypeError: not a module, or what is given for a path is no tensor.
        ValueError: the module has nothing at a path.
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
    by_tensor = {id(own[name]): tensor for name, tensor in given.items()}
    replaced = {name: given.get(name, by_tensor.get(id(tensor))) for name, tensor in own.items()}
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
