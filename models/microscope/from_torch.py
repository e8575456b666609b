"""from_torch: the attention of a PyTorch module on the microscope's page, held to PyTorch's own numbers.

PyTorch runs the module, forward and backward. Every call of ``nn.MultiheadAttention`` is then computed again by this
package: on the inputs that PyTorch gave it, with its weights, and with the gradient ḡ that PyTorch's loss sent to its
output o. So the loss here is L + Σ ⟨ḡ, o − o₀⟩, equal to PyTorch's where it stands and with the same gradients. What
comes out is compared with PyTorch's own outputs and gradients, and ḡ with differences of PyTorch's loss.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn import nn
from tinygrad_attn.nn.module import Module
from tinygrad_attn.record import Leaf
from tinygrad_attn.tensor import Tensor

from ..console.errors import UserError
from .checks.equations import equation
from .record.own import build_own
from .record.schema import LIMIT, Identity
from .record.trace import Traced
from .view import Microscope

__all__ = ["from_torch"]

Array = np.ndarray[Any, Any]

_TOLERANCE, _OF_DIFFERENCES = 1e-9, 1e-5
_STEP = 1e-4
_SAMPLES = 2
_SAFETY = 64  # roundings of the loss that a difference may have
_INPUTS = ("query", "key", "value")
_MASKS = ("key_padding_mask", "attn_mask")


def from_torch(module: Any, inputs: Any, loss: Callable[[Any], Any], *, limit: int = LIMIT) -> Microscope:
    """Record and verify the attention of a PyTorch module, forward and backward::

        from_torch(encoder, (x,), lambda output: output.square().mean())

    A copy of the module runs in float64 and in evaluation mode; it is not changed. Every call of
    ``nn.MultiheadAttention`` is shown, with its queries, keys, values, weights, and all their gradients.

    Args:
        module: a ``torch.nn.Module`` with one or more ``nn.MultiheadAttention``, called in any way: self or cross
            attention, ``batch_first`` or not, with any masks, with and without biases.
        inputs: a tensor, a tuple of the positional arguments, or a dict of arguments by name.
        loss: from what the module returns to a scalar tensor of PyTorch.
        limit: the most bytes of arrays to keep.

    Raises:
        UserError: PyTorch is not installed, the module has or calls no ``nn.MultiheadAttention``, one of them has
            ``add_bias_kv`` or ``add_zero_attn``, the loss reads attention weights themselves, or PyTorch's numbers are
            not finite.
    """
    calls = _Pass(_checked(module), inputs, loss)
    mirror = _mirror(calls)
    data = build_own(
        mirror, (), lambda output: output, limit=limit, witness=lambda traced: list(_compared(calls, traced)),
        missing=["outside"],
    )  # fmt: skip
    given = [f"{name}: {_kind(value)}" for name, value in calls.named_inputs() if value is not None]
    data["meta"]["inputs"], data["target"]["text"] = given, ", ".join(given)
    data["meta"]["trained_dtype"] = calls.trained_dtype
    data["meta"]["parameters"] = sum(parameter.numel() for parameter in module.parameters())
    return Microscope(data)


def _checked(module: Any) -> Any:
    """The module, which can be shown."""
    try:
        import torch
    except ImportError:
        raise UserError("from_torch needs PyTorch: pip install torch") from None
    if not isinstance(module, torch.nn.Module):
        raise UserError(f"from_torch: the module must be a torch.nn.Module, it is {type(module).__name__}")
    found = _attentions(module)
    if not found:
        raise UserError(
            f"from_torch: {type(module).__name__} has no nn.MultiheadAttention; other attention of PyTorch, such as "
            "F.scaled_dot_product_attention, announces nothing that could be shown"
        )
    for name, each in found.items():
        for option, given in (("add_bias_kv", each.bias_k is not None), ("add_zero_attn", each.add_zero_attn)):
            if given:
                raise UserError(f"from_torch: {name or 'the module'} has {option}=True, which cannot be shown")
    return module


def _attentions(module: Any) -> dict[str, Any]:
    """Every nn.MultiheadAttention by its path."""
    import torch

    return {name: each for name, each in module.named_modules() if isinstance(each, torch.nn.MultiheadAttention)}


def _kind(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)


@dataclass
class _Call:
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


class _Pass:
    """A module's pass through PyTorch, and the calls of attention in it."""

    def __init__(self, module: Any, inputs: Any, loss: Callable[[Any], Any]) -> None:
        import torch

        self.trained_dtype = str(next(module.parameters()).dtype).removeprefix("torch.")
        self.module = copy.deepcopy(module).double().eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_()
        self.attentions = _attentions(self.module)
        self._positional, self._named = _arguments(inputs)
        self._loss = loss
        result, self.calls = self.run()
        self.loss = float(result.detach())
        found = [each for call in self.calls for each in call.results]
        if not self.calls:
            raise UserError(f"from_torch: {type(module).__name__} calls none of its nn.MultiheadAttention")
        gradients = iter(torch.autograd.grad(result, found, allow_unused=True))
        for call in self.calls:
            call.gradients = tuple(
                torch.zeros_like(each) if gradient is None else gradient
                for each, gradient in zip(call.results, gradients, strict=False)
            )
            for each in (*call.results, *call.gradients):
                if not bool(torch.isfinite(each).all()):
                    raise UserError(
                        f"from_torch: PyTorch's numbers at {call.path or type(module).__name__} are not finite; a "
                        "query whose keys are all masked gives nan there"
                    )
        if not self.reached():
            raise UserError("from_torch: the loss does not depend on any nn.MultiheadAttention")

    def named_inputs(self) -> Iterator[tuple[str, Any]]:
        names = [*inspect.signature(self.module.forward).parameters, *map(str, range(len(self._positional)))]
        yield from zip(names, self._positional, strict=False)
        yield from self._named.items()

    def reached(self) -> list[_Call]:
        """The calls that the loss depends on."""
        return [call for call in self.calls if call.reached]

    def run(self, moved: Mapping[int, Any] | None = None) -> tuple[Any, list[_Call]]:
        """The loss, a scalar, and the calls; ``moved`` is what is added to the output of a call, by its number."""
        import torch

        calls: list[_Call] = []
        for path, attention in self.attentions.items():
            attention.forward = _recorded(calls, path, attention, moved or {})
        try:
            with torch.enable_grad():
                result = self._loss(self.module(*self._positional, **self._named))
        finally:
            for attention in self.attentions.values():
                del attention.forward  # which hid the method of the class
        if not isinstance(result, torch.Tensor) or result.numel() != 1:
            raise UserError("from_torch: the loss must be a tensor of PyTorch with one number, as of mean() or sum()")
        if not result.requires_grad:
            raise UserError("from_torch: the loss has no gradient")
        return result.reshape(()), calls


def _recorded(calls: list[_Call], path: str, attention: Any, moved: Mapping[int, Any]) -> Callable[..., Any]:
    """The attention's forward; each call of it is added to ``calls``."""
    original, signature = type(attention).forward, inspect.signature(attention.forward)

    def forward(*arguments: Any, **options: Any) -> Any:
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        given = dict(bound.arguments)
        results = original(attention, **given)
        number = len(calls)
        if number in moved:
            results = (results[0] + moved[number], *results[1:])
        found = tuple(each for each in results if each is not None)
        calls.append(_Call(number, path, attention, given, found))
        return results

    return forward


def _arguments(inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    """The positional arguments, and those by name; floats in float64."""
    if isinstance(inputs, Mapping):
        return [], {name: _in_float64(value) for name, value in inputs.items()}
    return [_in_float64(value) for value in (inputs if isinstance(inputs, tuple) else (inputs,))], {}


def _in_float64(value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().double() if value.is_floating_point() else value.detach()


# -- the same here -----------------------------------------------------------------------------------------------------


@dataclass
class _Computed:
    """A call of attention, to be computed here."""

    attention: nn.MultiheadAttention
    inputs: list[Tensor]
    """Query, key and value; the same tensor where PyTorch was given the same."""
    options: dict[str, Any]
    results: list[Array]
    """PyTorch's."""
    gradients: list[Array]
    """Of the results."""
    outputs: list[Tensor]
    """The results here, once computed."""

    def departure(self) -> Tensor:
        """Σ ⟨ḡ, o − o₀⟩ over the results."""
        self.outputs = [each for each in self.attention(*self.inputs, **self.options) if each is not None]
        together = zip(self.outputs, self.results, self.gradients, strict=True)
        terms = [((ours - theirs) * gradient).sum() for ours, theirs, gradient in together]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]


class _Mirror(Module):
    """The attentions of a PyTorch module under the same names; called, it gives the loss."""

    loss: float
    """PyTorch's."""
    computed: list[_Computed]
    """The calls that the loss depends on."""

    def forward(self) -> Tensor:
        loss = Tensor(np.array(self.loss))
        for each in self.computed:
            loss = loss + each.departure()
        return loss


def _mirror(calls: _Pass) -> _Mirror:
    mirror = type(type(calls.module).__name__, (_Mirror,), {})()
    made = {path: _same(attention) for path, attention in calls.attentions.items()}
    for path, attention in made.items():
        *above, name = (path or "attention").split(".")
        owner: Any = mirror
        for part in above:
            if not hasattr(owner, part):
                setattr(owner, part, Module())
            owner = getattr(owner, part)
        setattr(owner, name, attention)
    mirror.loss, mirror.computed = calls.loss, []
    for call in calls.reached():
        own: dict[int, Tensor] = {}
        inputs = [
            own.setdefault(id(x), Tensor(_numbers(x), requires_grad=True))
            for x in (call.given[name] for name in _INPUTS)
        ]
        options: dict[str, Any] = {name: _mask(call.given[name]) for name in _MASKS}
        options["average_attn_weights"] = call.given["average_attn_weights"]
        options["need_weights"] = len(call.results) > 1
        of_torch = [_numbers(x) for x in call.results], [_numbers(x) for x in call.gradients]
        mirror.computed.append(_Computed(made[call.path], inputs, options, *of_torch, []))
    return mirror


def _same(attention: Any) -> nn.MultiheadAttention:
    """A module of this package with PyTorch's weights."""
    same = nn.MultiheadAttention(
        attention.embed_dim, attention.num_heads, bias=attention.in_proj_bias is not None, kdim=attention.kdim,
        vdim=attention.vdim, batch_first=attention.batch_first, dtype=np.float64,
    )  # fmt: skip
    same.load_state_dict({name: _numbers(value) for name, value in attention.state_dict().items()})
    return same


def _numbers(x: Any) -> Array:
    return x.detach().cpu().numpy().copy()


def _mask(mask: Any) -> Tensor | None:
    """Bool, or floats to add, in the scores' dtype."""
    if mask is None:
        return None
    array = _numbers(mask)
    return Tensor(array if array.dtype == np.bool_ else array.astype(np.float64))


# -- held to PyTorch ---------------------------------------------------------------------------------------------------


def _compared(calls: _Pass, traced: Traced) -> Iterator[Identity]:
    """Outputs, gradients, and differences of PyTorch's loss, of every attention."""
    assert isinstance(traced.model, _Mirror)
    leaves = {id(leaf.tensor): leaf for leaf in traced.record.leaves}
    of_weights: dict[str, dict[str, Array]] = {}
    reached = calls.reached()
    for call, here in zip(reached, traced.model.computed, strict=True):
        pairs = [(ours.array, theirs) for ours, theirs in zip(here.outputs, here.results, strict=True)]
        yield _identity(call, "torch_outputs", r"o = o_{\mathrm{torch}}", pairs, _TOLERANCE)
        of_inputs, of_parameters = _gradients(call)
        pairs = [(_gradient(leaves, ours), theirs) for ours, theirs in zip(here.inputs, of_inputs, strict=True)]
        total = of_weights.setdefault(call.path, {})
        for name, gradient in of_parameters.items():
            total[name] = total.get(name, 0.0) + gradient
        if call is [each for each in reached if each.path == call.path][-1]:  # its weights have had all of their uses
            own = dict(here.attention.named_parameters())
            pairs += [(_gradient(leaves, own[name]), gradient) for name, gradient in total.items()]
        yield _identity(call, "torch_gradients", r"\bar x = \bar x_{\mathrm{torch}}", pairs, _TOLERANCE)
        pairs = list(_differences(calls, call))
        latex = r"\bar o \approx \frac{L(o + h) - L(o - h)}{2h}"
        yield _identity(call, "torch_differences", latex, pairs, _OF_DIFFERENCES)


def _gradient(leaves: Mapping[int, Leaf], tensor: Tensor) -> Array:
    leaf = leaves.get(id(tensor))
    return np.zeros(tensor.shape) if leaf is None or leaf.gradient is None else leaf.gradient


def _gradients(call: _Call) -> tuple[list[Array], dict[str, Array]]:
    """PyTorch's gradients through this call alone: of query, key and value, and of the weights by name."""
    import torch

    names, parameters = zip(*call.module.named_parameters(), strict=True)
    own: dict[int, Any] = {}  # one leaf for each tensor that is given, so that query is key stays true
    given = [own.setdefault(id(x), x.detach().clone().requires_grad_()) for x in (call.given[name] for name in _INPUTS)]
    results = type(call.module).forward(call.module, **{**call.given, **dict(zip(_INPUTS, given, strict=True))})
    wanted = [*given, *parameters]
    found = torch.autograd.grad([x for x in results if x is not None], wanted, call.gradients, allow_unused=True)
    arrays = [
        np.zeros(tuple(x.shape)) if gradient is None else _numbers(gradient)
        for x, gradient in zip(wanted, found, strict=True)
    ]
    return arrays[:3], dict(zip(names, arrays[3:], strict=True))


def _differences(calls: _Pass, call: _Call) -> Iterator[tuple[Array, Array]]:
    """Cells of the output's gradient, the largest among them, and central differences of PyTorch's loss."""
    import torch

    output, gradient = call.results[0], call.gradients[0]
    chosen = np.random.default_rng(call.number).permutation(gradient.numel())[: _SAMPLES - 1].tolist()
    rounding = _SAFETY * np.finfo(float).eps * abs(calls.loss) / _STEP  # of a difference
    scale = max(float(gradient.abs().max()), rounding / _OF_DIFFERENCES)
    for cell in {int(gradient.abs().argmax()), *chosen}:
        step = torch.zeros(output.numel(), dtype=output.dtype, device=output.device)
        step[cell] = _STEP
        step = step.reshape(output.shape)
        above, below = (float(calls.run({call.number: sign * step})[0].detach()) for sign in (1.0, -1.0))
        # In proportion to the scale, which stands beside it.
        yield np.array([float(gradient.reshape(-1)[cell]), scale]), np.array([(above - below) / (2 * _STEP), scale])


def _identity(call: _Call, name: str, latex: str, pairs: list[tuple[Array, Array]], tolerance: float) -> Identity:
    """That all pairs agree, each in proportion to its largest number."""
    worst = 0.0
    for ours, theirs in pairs:
        size = float(np.abs(theirs).max(initial=0.0)) or 1.0
        worst = max(worst, float(np.abs(ours - theirs).max(initial=0.0)) / size)
    site = call.path or "attention"
    return equation(site, name, latex, worst, tolerance)
