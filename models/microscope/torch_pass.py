"""A pass of a PyTorch module through its attention, in float64: what every call was given, and what it gave.

The module that is given stays as it is: a copy of it runs, in float64, in evaluation mode and with the same random
numbers each time, whatever the module, its masks and the loss are made of.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from ..console.errors import UserError

__all__ = ["INPUTS", "Call", "Pass", "attentions", "drops", "numbers", "weights_of"]

Array = np.ndarray[Any, Any]

INPUTS = ("query", "key", "value")
_WEIGHTS = (
    "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "out_proj.weight",
    "out_proj.bias",
)  # fmt: skip


@dataclass
class Call:
    """One call of an attention by PyTorch."""

    number: int
    path: str
    module: Any
    given: dict[str, Any]
    """The arguments, as PyTorch's tensors."""
    results: tuple[Any, ...]
    """The output, and the weights if they were asked for."""
    gradients: tuple[Any, ...] = ()
    """Of the results; zeros where none arrived."""

    @property
    def reached(self) -> bool:
        return any(bool((gradient != 0).any()) for gradient in self.gradients)


class Pass:
    """A module's pass through PyTorch, and the calls of attention in it.

    Args:
        module: has some ``nn.MultiheadAttention``.
        inputs: a tensor, a tuple of the positional arguments, or a dict of arguments by name.
        loss: from what the module returns to a scalar.

    Raises:
        UserError: the module or the loss fails, calls no attention, or gives numbers that are not finite.
    """

    def __init__(self, module: Any, inputs: Any, loss: Callable[[Any], Any]) -> None:
        import torch

        self.name = type(module).__name__
        self.trained_dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
        self.module = _copied(module)
        self.attentions = attentions(self.module)
        named = isinstance(inputs, Mapping)
        self._named = {name: _held(value) for name, value in inputs.items()} if named else {}
        given = () if named else inputs if isinstance(inputs, tuple) else (inputs,)
        self._positional = [_held(value) for value in given]
        self._loss = loss
        result, self.calls = self.run()
        self.loss = float(result.detach())
        if not self.calls:
            raise UserError(f"from_torch: {self.name} calls none of its nn.MultiheadAttention")
        found = [each for call in self.calls for each in call.results if each.requires_grad]
        given = torch.autograd.grad(result, found, allow_unused=True) if found else ()
        gradients = {id(each): gradient for each, gradient in zip(found, given, strict=True) if gradient is not None}
        for call in self.calls:
            call.gradients = tuple(gradients.get(id(each), torch.zeros_like(each)) for each in call.results)
            for each in (*call.results, *call.gradients):
                if not bool(torch.isfinite(each).all()):
                    raise UserError(
                        f"from_torch: PyTorch's numbers at {call.path or self.name} are not finite; a "
                        "query whose keys are all masked gives nan there"
                    )
        if not self.reached():
            raise UserError("from_torch: the loss does not depend on any nn.MultiheadAttention")

    def named_inputs(self) -> Iterator[tuple[str, Any]]:
        names = [*inspect.signature(self.module.forward).parameters, *map(str, range(len(self._positional)))]
        yield from zip(names, self._positional, strict=False)
        yield from self._named.items()

    def reached(self) -> list[Call]:
        """The calls that the loss depends on."""
        return [call for call in self.calls if call.reached]

    def run(self, moved: Mapping[int, Any] | None = None) -> tuple[Any, list[Call]]:
        """The loss, a scalar, and the calls; ``moved`` is what is added to the output of a call, by its number."""
        import torch

        calls: list[Call] = []
        base, original = torch.nn.MultiheadAttention, torch.nn.MultiheadAttention.forward
        base.forward = _recording(calls, self.attentions, moved or {})
        try:
            with torch.random.fork_rng(devices=[]), _float64_mode():
                torch.manual_seed(0)
                output = _attempted(f"{self.name} fails on these inputs", self.module, *self._positional, **self._named)
                result = _attempted(f"the loss fails on what {self.name} returns", self._loss, output)
        finally:
            base.forward = original
        if not isinstance(result, torch.Tensor) or result.numel() != 1:
            raise UserError("from_torch: the loss must be a tensor of PyTorch with one number, as of mean() or sum()")
        if not result.requires_grad:
            raise UserError("from_torch: the loss has no gradient")
        return result.reshape(()).double(), calls


def attentions(module: Any) -> dict[str, Any]:
    """Every nn.MultiheadAttention by its path."""
    import torch

    return {name: each for name, each in module.named_modules() if isinstance(each, torch.nn.MultiheadAttention)}


def weights_of(attention: Any) -> dict[str, Any]:
    """The tensors that an attention computes with, by name; what parametrises one of them is within it."""
    found = {name: attrgetter(name)(attention) for name in _WEIGHTS}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def drops(module: Any) -> bool:
    """Whether the module drops something in the mode that it is in."""
    import torch

    for each in module.modules():
        dropout = isinstance(each, torch.nn.modules.dropout._DropoutNd)
        share = each.p if dropout else getattr(each, "dropout", 0.0)
        if each.training and isinstance(share, float) and share > 0:
            return True
    return False


def numbers(x: Any) -> Array:
    """A tensor of PyTorch as an array of its own."""
    found: Array = x.detach().cpu().numpy().copy()
    return found


# -- the copy ----------------------------------------------------------------------------------------------------------


def _copied(module: Any) -> Any:
    """A copy in float64 and in evaluation mode, on the CPU."""
    import torch

    # Tensors that the module has kept of an earlier pass are copied as constants, for PyTorch refuses to copy them.
    kept = [x for each in module.modules() for x in vars(each).values() if isinstance(x, torch.Tensor)]
    memo = {id(x): x.detach().clone() for x in kept if not x.is_leaf}
    try:
        copied = copy.deepcopy(module, memo).cpu().double().eval()
    except Exception as error:
        raise UserError(f"from_torch: {type(module).__name__} cannot be copied: {_line(error)}") from error
    for each in copied.modules():
        for name, value in vars(each).items():
            if isinstance(value, torch.Tensor):  # neither a parameter nor a buffer
                vars(each)[name] = _wide(value)
    for parameter in copied.parameters():
        parameter.requires_grad_()
    return copied


def _held(value: Any) -> Any:
    """An input: tensors and arrays in it as constants on the CPU, floats in float64."""
    import torch

    def constant(x: Any) -> Any:
        if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
            x = torch.as_tensor(x)
        return _wide(x.detach().cpu().clone()) if isinstance(x, torch.Tensor) else x

    return _mapped(constant, value)


def _attempted(failing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"from_torch: {failing}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


# -- the pass ----------------------------------------------------------------------------------------------------------


def _recording(calls: list[Call], attended: Mapping[str, Any], moved: Mapping[int, Any]) -> Callable[..., Any]:
    """A forward in place of nn.MultiheadAttention's, which adds each call of these attentions to ``calls``, also where
    a subclass calls its base's."""
    import torch

    paths = {id(attention): path for path, attention in attended.items()}
    original = torch.nn.MultiheadAttention.forward
    signature = inspect.signature(original)

    def forward(*arguments: Any, **options: Any) -> Any:
        attention = arguments[0]
        if id(attention) not in paths:  # of another module, in another thread
            return original(*arguments, **options)
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given.pop("self")
        held: dict[int, Any] = {}  # one for each tensor that is given, so that query is key stays true
        given |= {name: held.setdefault(id(given[name]), _wide(given[name])) for name in INPUTS}
        given = {name: _wide(value) for name, value in given.items()}
        results = original(attention, **given)
        number = len(calls)
        if number in moved:
            results = (results[0] + moved[number], *results[1:])
        copies = {id(x): x.detach().clone() for x in held.values()}
        kept = {name: copies[id(value)] if name in INPUTS else value for name, value in given.items()}
        calls.append(
            Call(number, paths[id(attention)], attention, kept, tuple(each for each in results if each is not None))
        )
        # Copies, for the module may write over what it gets.
        return tuple(None if each is None else each.clone() for each in results)

    return forward


def _float64_mode() -> Any:
    """A mode of PyTorch, in which all that it computes with is float64 on the CPU, also what a module or a loss makes
    in float32."""
    import torch
    from torch.overrides import TorchFunctionMode

    narrow = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}

    class Wide(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in narrow:
                function = torch.Tensor.double
            first = 1 if _writes(getattr(function, "__name__", "")) else 0  # in place, into the tensor itself
            options = {
                name: value if name == "out" else _mapped(_wide, value) for name, value in (kwargs or {}).items()
            }
            if options.get("device") is not None:
                options["device"] = "cpu"
            found = function(*args[:first], *_mapped(_wide, tuple(args[first:])), **options)
            return found if first or "out" in options else _mapped(_wide, found)

    return Wide()


def _writes(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or name == "__setitem__" or name.startswith("__i")


def _wide(x: Any) -> Any:
    """Floats, and the dtypes of floats, in float64; anything else as it is."""
    import torch

    if isinstance(x, torch.Tensor):
        return x.double() if x.is_floating_point() and x.dtype != torch.float64 else x
    if isinstance(x, torch.dtype):
        return torch.float64 if x.is_floating_point else x
    return torch.device("cpu") if isinstance(x, torch.device) else x


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with the function of everything in its lists, tuples and dicts."""
    if type(value) in (list, tuple):
        return type(value)(_mapped(function, item) for item in value)
    if type(value) is dict:
        return {key: _mapped(function, item) for key, item in value.items()}
    return function(value)
