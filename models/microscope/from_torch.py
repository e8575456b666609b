"""from_torch: the attention of a PyTorch module on the microscope's page, held to PyTorch's own numbers.

PyTorch runs the module, forward and backward. Every call of ``nn.MultiheadAttention`` is then computed again by this
package: on the inputs that PyTorch gave it, with its weights, and with the gradient ḡ that PyTorch's loss sent to its
output o. So the loss here is L + Σ ⟨ḡ, o − o₀⟩, equal to PyTorch's where it stands and with the same gradients. What
comes out is compared with PyTorch's own outputs and gradients, and ḡ with differences of PyTorch's loss.
"""

from __future__ import annotations

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
from .torch_pass import INPUTS, Call, Pass, attentions, drops, numbers, weights_of
from .view import Microscope

__all__ = ["from_torch"]

Array = np.ndarray[Any, Any]

_TOLERANCE, _OF_DIFFERENCES = 1e-9, 1e-5
_STEP = 1e-4
_SAMPLES = 2
_SAFETY = 64  # roundings of the loss that a difference may have
_MASKS = ("key_padding_mask", "attn_mask")


def from_torch(module: Any, inputs: Any, loss: Callable[[Any], Any], *, limit: int = LIMIT) -> Microscope:
    """Record and verify the attention of a PyTorch module, forward and backward::

        from_torch(encoder, (x,), lambda output: output.square().mean())

    A copy of the module runs in float64, in evaluation mode and on the CPU; it is not changed. Every call of
    ``nn.MultiheadAttention`` is shown, with its queries, keys, values, weights, and all their gradients. What the
    module or the loss makes in float32, as masks and targets, takes part in float64.

    Args:
        module: a ``torch.nn.Module`` with one or more ``nn.MultiheadAttention``, called in any way: self or cross
            attention, ``batch_first`` or not, with any masks, with and without biases.
        inputs: a tensor or array, a tuple of the positional arguments, or a dict of arguments by name.
        loss: from what the module returns to a scalar tensor of PyTorch.
        limit: the most bytes of arrays to keep.

    Raises:
        UserError: PyTorch is not installed, the module has or calls no ``nn.MultiheadAttention``, one of them has
            ``add_bias_kv`` or ``add_zero_attn``, the module or the loss fails on these inputs, the loss reads attention
            weights themselves, or PyTorch's numbers are not finite.
    """
    module = _checked(module)
    import torch

    with torch.inference_mode(False), torch.enable_grad():  # whatever mode PyTorch was in
        calls = Pass(module, inputs, loss)
        data = build_own(
            _mirror(calls), (), lambda output: output, limit=limit,
            witness=lambda traced: list(_compared(calls, traced)),
            missing=["outside", *(["evaluation"] if drops(module) else [])],
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
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    found = attentions(module)
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


def _kind(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)


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

    _loss: float  # no name of a part of PyTorch's module
    """PyTorch's."""
    _computed: list[_Computed]
    """The calls that the loss depends on."""

    def forward(self) -> Tensor:
        loss = Tensor(np.array(self._loss))
        for each in self._computed:
            loss = loss + each.departure()
        return loss


def _mirror(calls: Pass) -> _Mirror:
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
    mirror._loss, mirror._computed = calls.loss, []
    for call in calls.reached():
        own: dict[int, Tensor] = {}
        inputs = [
            own.setdefault(id(x), Tensor(numbers(x), requires_grad=True)) for x in (call.given[name] for name in INPUTS)
        ]
        options: dict[str, Any] = {name: _mask(call.given[name]) for name in _MASKS}
        options["average_attn_weights"] = call.given["average_attn_weights"]
        options["need_weights"] = len(call.results) > 1
        of_torch = [numbers(x) for x in call.results], [numbers(x) for x in call.gradients]
        mirror._computed.append(_Computed(made[call.path], inputs, options, *of_torch, []))
    return mirror


def _same(attention: Any) -> nn.MultiheadAttention:
    """A module of this package with PyTorch's weights."""
    same = nn.MultiheadAttention(
        attention.embed_dim, attention.num_heads, bias=attention.in_proj_bias is not None, kdim=attention.kdim,
        vdim=attention.vdim, batch_first=attention.batch_first, dtype=np.float64,
    )  # fmt: skip
    same.load_state_dict({name: numbers(value) for name, value in weights_of(attention).items()})
    return same


def _mask(mask: Any) -> Tensor | None:
    """Bool, or floats to add, in the scores' dtype."""
    if mask is None:
        return None
    array = numbers(mask)
    return Tensor(array if array.dtype == np.bool_ else array.astype(np.float64))


# -- held to PyTorch ---------------------------------------------------------------------------------------------------


def _compared(calls: Pass, traced: Traced) -> Iterator[Identity]:
    """Outputs, gradients, and differences of PyTorch's loss, of every attention."""
    assert isinstance(traced.model, _Mirror)
    leaves = {id(leaf.tensor): leaf for leaf in traced.record.leaves}
    of_weights: dict[str, dict[str, Array]] = {}
    reached = calls.reached()
    for call, here in zip(reached, traced.model._computed, strict=True):
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


def _gradients(call: Call) -> tuple[list[Array], dict[str, Array]]:
    """PyTorch's gradients through this call alone: of query, key and value, and of the weights by name."""
    import torch
    import torch.nn.utils.parametrize

    own: dict[int, Any] = {}  # one leaf for each tensor that is given, so that query is key stays true
    given = [own.setdefault(id(x), x.detach().clone().requires_grad_()) for x in (call.given[name] for name in INPUTS)]
    attend = torch.nn.MultiheadAttention.forward
    with torch.nn.utils.parametrize.cached():  # a weight that is computed is the same tensor each time
        results = attend(call.module, **{**call.given, **dict(zip(INPUTS, given, strict=True))})
        weights = weights_of(call.module)
    wanted = [*given, *weights.values()]
    found = torch.autograd.grad([x for x in results if x is not None], wanted, call.gradients, allow_unused=True)
    arrays = [
        np.zeros(tuple(x.shape)) if gradient is None else numbers(gradient)
        for x, gradient in zip(wanted, found, strict=True)
    ]
    return arrays[:3], dict(zip(weights, arrays[3:], strict=True))


def _differences(calls: Pass, call: Call) -> Iterator[tuple[Array, Array]]:
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


def _identity(call: Call, name: str, latex: str, pairs: list[tuple[Array, Array]], tolerance: float) -> Identity:
    """That all pairs agree, each in proportion to its largest number."""
    worst = 0.0
    for ours, theirs in pairs:
        size = float(np.abs(theirs).max(initial=0.0)) or 1.0
        worst = max(worst, float(np.abs(ours - theirs).max(initial=0.0)) / size)
    site = call.path or "attention"
    return equation(site, name, latex, worst, tolerance)
