"""Where a pass stopped being finite: the first weight or op with a NaN or an infinity that reaches the loss.

From there on no number has a right value, so nothing can be verified or refuted; the source is what a reader needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_attn.record import Call, Leaf, Output

from ..record.schema import NotFinite
from ..record.trace import Traced

__all__ = ["describe_not_finite", "find_not_finite"]

Array = np.ndarray[Any, Any]


def find_not_finite(traced: Traced) -> NotFinite | None:
    """The source of the NaNs and infinities of a pass; None if there are none that matter.

    A masked score of −∞ that a softmax makes 0 again does not matter. A weight that is not finite but leaves every
    number finite, since this pair does not use it, is found too: ``reaches`` is then False.
    """
    if not _finite(traced.loss.values[0]):
        return _first_source(traced, traced.loss)
    return _backward_source(traced) or _harmless(traced)


def describe_not_finite(found: NotFinite) -> str:
    """The source in one line."""
    place = f"[{', '.join(map(str, found['cell']))}]"
    if found["what"] == "weight":
        source = f"weight {found['name']}{place}, which is {found['value']}"
        return f"the pass is not finite since {source}" if found["reaches"] else f"{source}, leaves all numbers finite"
    where = f"op {found['call']}, {found['name']}" if found["what"] != "input" else found["name"]
    where += f" in {found['module']}" if found["module"] else ""
    where += "" if found["step"] is None else f", step {found['step']}"
    if found["what"] == "gradient":
        return f"the gradient is not finite since {where}: backward gives {found['value']} in {place}"
    return f"the pass is not finite since {where}: {found['value']} in {place}"


def _first_source(traced: Traced, call: Call) -> NotFinite:
    """Where what is not finite in a call comes from; −∞ alone, which is how scores are masked, only if nothing else."""
    return min(_sources(traced, call), key=lambda found: found[:2])[2]


def _sources(traced: Traced, last: Call) -> Iterator[tuple[int, int, NotFinite]]:
    """The calls and leaves behind a call that are not finite and follow from finite numbers alone.

    Each with whether it is −∞ alone, and its place in time.
    """
    names = {id(leaf): name for name, leaf in traced.parameters().items()}
    waiting, seen = [last], {last}
    while waiting:
        call = waiting.pop()
        spread = [source for source in call.inputs if source is not None and not _finite(source.value)]
        for source in spread:
            if isinstance(source, Leaf):
                what = "weight" if id(source) in names else "input"
                found = _found(what, names.get(id(source), "an input or constant"), source.value)
                if what == "input":
                    found["module"], found["step"] = call.module, call.step
                yield _masks_only(source.value), call.index, found
            elif source.call not in seen:
                seen.add(source.call)
                waiting.append(source.call)
        if not spread:
            array = next(value for value in call.values if not _finite(value))
            yield _masks_only(array), call.index, _of_call(traced, "op", call, array)


def _backward_source(traced: Traced) -> NotFinite | None:
    """The first op, backward, that sends on a gradient that is not finite."""
    for call in reversed(traced.forward):
        for contribution in call.contributions.values():
            if not _finite(contribution):
                spoilt = any(source is not None and not _finite(source.value) for source in call.inputs)
                return _first_source(traced, call) if spoilt else _of_call(traced, "gradient", call, contribution)
    return None


def _harmless(traced: Traced) -> NotFinite | None:
    """A weight that is not finite, although all numbers are."""
    for name, parameter in traced.model.named_parameters():
        if not _finite(parameter.array):
            return {**_found("weight", name, parameter.array), "reaches": False}
    return None


def _found(what: Any, name: str, array: Array) -> NotFinite:
    cell = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return {
        "what": what, "name": name, "call": None, "module": "", "step": None, "cell": list(cell),
        "value": str(float(array[cell])), "count": int((~np.isfinite(array)).sum()), "reaches": True,
    }  # fmt: skip


def _of_call(traced: Traced, what: Any, call: Call, array: Array) -> NotFinite:
    maker = traced.maker(Output(call, 0))  # an announcement's alias stands for the op behind it
    at = maker.call if isinstance(maker, Output) else call
    found = _found(what, traced.name(at.op), array)
    return {**found, "call": traced.numbers.get(at), "module": at.module, "step": at.step}


def _masks_only(array: Array) -> int:
    """Whether all that is not finite is −∞, as a number to sort by."""
    return int(bool((array[~np.isfinite(array)] == -np.inf).all()))


def _finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
