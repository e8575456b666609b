"""own: runs any module on inputs and a loss of the user's own, checks the numbers, and makes the microscope's data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_attn import enable_grad
from tinygrad_attn.creation import as_tensor
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.module import Module
from tinygrad_attn.tensor import Tensor

from ...console.errors import UserError
from .build import found_in, meta_of
from .example import Example
from .nudge import nudged
from .over_training import film, given_checkpoints
from .schema import LIMIT, SCHEMA, Data, Identity
from .trace import Traced, copy_in_float64, dtype_of, trace_pass, trace_with

__all__ = ["Loss", "build_own"]

Loss = Callable[[Any], Tensor]
"""From what a module returns to a scalar."""


@enable_grad()
@np.errstate(all="ignore")  # as in `build`
def build_own(
    model: Module,
    inputs: Any,
    loss: Loss,
    *,
    nudge: dict[str, Any] | None = None,
    broken: str | None = None,
    checkpoints: Mapping[int, Mapping[str, Any]] | None = None,
    limit: int = LIMIT,
    witness: Callable[[Traced], Sequence[Identity]] = lambda traced: (),
    missing: Sequence[str] = (),
) -> Data:
    """Run the module, verify the numbers, and return them as one dict that JSON can store.

    Args:
        model: any module; a copy of it runs in float64 and in evaluation mode.
        inputs: a tensor or array, a tuple of several, or a dict of several by name. Floats are computed with in
            float64, and get gradients.
        loss: from what the module returns to a scalar.
        nudge, broken, checkpoints, limit: as in `models.microscope.record.build.build`.
        witness: compares the traced pass with one from elsewhere.
        missing: what cannot be shown, beside what is found out here; see `models.microscope.record.schema.Meta`.

    Raises:
        UserError: a loss that is no scalar tensor with a gradient, one that reads attention weights themselves, or
            inputs that are none.
    """
    if not callable(loss):
        raise UserError(
            f"microscope: the loss must be a function from what {type(model).__name__} returns to a scalar tensor, it "
            f"is {type(loss).__name__}"
        )
    copied = copy_in_float64(model)
    change = None if nudge is None else nudged(copied, nudge)
    positional, named = _arguments(inputs)

    def traced_pass(module: Module, positional: list[Any], named: dict[str, Any]) -> Traced:
        def attempt() -> Traced:
            return trace_pass(module, lambda: (_scalar(loss(module(*positional, **named))), None))

        return trace_with(broken, attempt, type(model).__name__) if broken else attempt()

    traced = traced_pass(copied, positional, named)
    _refuse_other_uses(traced)
    kept = given_checkpoints(checkpoints or {})
    reel = film("", model, traced, lambda module: traced_pass(module, *_arguments(inputs)), kept, change is not None)
    given = _described(copied, positional, named)
    example = Example(None, {"text": ", ".join(given), "tokens": [], "ids": []}, None)
    meta = meta_of(traced, None)
    meta["trained_dtype"], meta["broken"], meta["nudge"] = dtype_of(model), broken, change
    meta["inputs"] = given
    meta["missing"] = ["tokens", *missing, *_missing(model, traced)]
    found: Any = {
        "schema": SCHEMA,
        "meta": meta,
        "translation": None,
        **found_in(traced, example, None, limit, witness(traced), reels=[reel]),
    }
    return found


def _arguments(inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    """The positional arguments, and those by name."""
    if isinstance(inputs, Mapping):
        return [], {str(name): _input(str(name), value) for name, value in inputs.items()}
    values = inputs if isinstance(inputs, tuple) else (inputs,)
    return [_input(f"input {place}", value) for place, value in enumerate(values)], {}


def _input(name: str, value: Any) -> Any:
    """An input: floats in float64 and with a gradient, arrays and lists as tensors, all else as it is."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray) and value.dtype == np.float16:
        value = value.astype(np.float64)
    try:
        array = as_tensor(value).array
    except (TypeError, ValueError) as error:
        raise UserError(f"microscope: {name} is no tensor, array or list of numbers: {error}") from None
    if not array.size:
        raise UserError(f"microscope: {name} has no elements, its shape is {array.shape}; give at least one of each")
    if array.dtype.kind != "f":
        return Tensor(array.copy())
    return Tensor(array.astype(np.float64), requires_grad=True)


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        raise UserError(f"microscope: the loss must be a tensor with one number, as of mean() or sum(); it is {found}")
    if not loss.requires_grad:
        raise UserError("microscope: the loss has no gradient: it depends on no parameter and no input of floats")
    return loss.reshape(())


def _described(model: Module, positional: Sequence[Any], named: Mapping[str, Any]) -> list[str]:
    """The name of each input in `forward`, with its dtype and shape."""
    names = list(inspect.signature(model.forward).parameters)
    names += [f"input {place}" for place in range(len(names), len(positional))]
    pairs = [*zip(names, positional, strict=False), *named.items()]
    return [
        f"{name}: {value.dtype.name} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{name}: {value!r}"
        for name, value in pairs
        if value is not None
    ]


def _refuse_other_uses(traced: Traced) -> None:
    """Refuse weights with a gradient that comes past the context, since the formulas shown know of none."""
    marks = traced.record.marks
    for place, mark in enumerate(marks):
        if mark.name != "weights":
            continue
        uses = [
            call
            for call in traced.forward
            if any(x == mark.source and np.any(call.contributions.get(i, 0)) for i, x in enumerate(call.inputs))
        ]
        context = next((each.source.gradient for each in marks[place:] if each.name == "context"), None)
        if len(uses) > 1 or (uses and (context is None or not context.any())):
            raise UserError(
                f"microscope: the loss reads the attention weights of {mark.module} themselves, beside the context; "
                "the formulas shown know no such gradient: leave the weights out of the loss"
            )


def _missing(model: Module, traced: Traced) -> Iterator[str]:
    weights = [mark.source.value for mark in traced.record.marks if mark.name == "weights"]
    if any(value.ndim == 4 and len(value) > 1 for value in weights):
        yield "batch"
    if any(module.training and _drops(module) for module in model.modules()):
        yield "evaluation"


def _drops(module: Module) -> bool:
    share = module.p if isinstance(module, Dropout) else getattr(module, "dropout", 0.0)
    return isinstance(share, float) and share > 0
