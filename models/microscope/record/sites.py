"""Finds the attention sites of a model from the tensors it announces (`tinygrad_attn.modes.MARKS`).

A call of attention announces its tensors, from the query to the context. The calls of several decoder steps over the
same keys and values are one site, with a row for each step. Tensors that are not announced are not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tinygrad_attn.record import Call, Leaf, Mark, Output

from ...console.errors import UserError
from .trace import Traced

__all__ = ["AttentionSite", "Quantity", "find_sites"]

Array = np.ndarray[Any, Any]
Role = Literal["cross", "self", "causal"]

# The name in the site for each announced name, in the order in which a site lists them. Those of a call of attention:
_TENSORS = {
    "query": "Q", "key": "K", "value": "V", "scores": "scores", "weights": "weights", "gaussian": "gaussian",
    "mixed": "mixed", "context": "context",
}  # fmt: skip
# The tensors computed from the contexts, of one call or of several together.
_OUTCOMES = ("joined", "attentional", "logits")
_NEEDED = ("value", "scores", "weights", "context")
# The tensors that all queries share: each call announces the whole.
_SHARED = ("key", "value")


@dataclass
class Quantity:
    """A tensor of a site, from its announcements: each has some rows or, if ``shared``, the whole."""

    parts: list[Output]
    shared: bool = False
    """Whether each part is the whole: a key that several steps score against."""
    batch_second: bool = False
    """Whether the announced arrays have the batch on axis 1."""
    batched: bool = False
    """Whether the first of three axes is the batch, not that of the heads."""

    @property
    def value(self) -> Array:
        """(heads, rows, columns)."""
        arrays = [self._rows(part.value) for part in self.parts]
        return arrays[0] if self.shared else np.concatenate(arrays, axis=1)

    @property
    def gradient(self) -> Array | None:
        """The gradient through this site alone, of the same shape; None if there is none; 0 in parts without one."""
        if all(part.gradient is None for part in self.parts):
            return None
        found = [
            self._rows(np.zeros_like(part.value) if part.gradient is None else part.gradient) for part in self.parts
        ]
        if not self.shared:
            return np.concatenate(found, axis=1)
        total = found[0]
        for gradient in found[1:]:
            total = total + gradient
        return total

    def perturbed(self, cell: tuple[int, int, int], by: float) -> Iterator[tuple[Output, Array]]:
        """Each part that contains the cell, with its array after adding ``by`` to the cell."""
        head, row, column = cell
        for part in self.parts:
            array = part.value.copy()
            rows = self._rows(array)
            if self.shared or 0 <= row < rows.shape[1]:
                rows[head, row, column] += by
                yield part, array
            row -= 0 if self.shared else rows.shape[1]

    def origins(self) -> list[Output | Leaf | None]:
        """The outputs or leaves that were announced."""
        return [part.call.inputs[0] for part in self.parts]

    def calls(self) -> list[Call]:
        """The calls that made it."""
        made = {source.call.index: source.call for source in self.origins() if isinstance(source, Output)}
        return [made[index] for index in sorted(made)]

    def _rows(self, array: Array) -> Array:
        """A view (heads, rows, columns) of an announced array, for the first sentence of the batch."""
        if self.batch_second:
            array = np.swapaxes(array, 0, 1)
        if array.ndim == 2:  # (batch, columns), of one query
            return array[:, None]
        return array[0] if array.ndim == 4 else array[:1] if self.batched else array


@dataclass
class AttentionSite:
    """An attention module of the model, with the tensors of its calls."""

    id: str
    role: Role
    score: str
    """A name in `tinygrad_attn.nn.SCORES`, or the class of a score that is not there."""
    module: str
    """The path of the module that announced the weights, from the model's class on."""
    scale: float
    quantities: dict[str, Quantity]
    """Q, K, V, scores, weights, context and so on, see `models.microscope.record.schema.Site`."""
    mask: Array | None
    """Bool (1 or heads, queries, keys)."""
    parameters: dict[str, Array]
    """The parameters in the formula of the score, by their letters there."""
    outcomes: dict[str, tuple[str, str]]
    """The announced formulas of joined, attentional and logits, and of their gradients."""
    context_at: int | None
    """Where the context of the first head stands in joined, the others following; None without joined."""

    def joined_part(self, part: Literal["value", "gradient"]) -> Array | None:
        """The part of joined, or of its gradient, where the contexts stand, in their shape; None if there is none."""
        joined = self.quantities["joined"] if self.context_at is not None else None
        array = None if joined is None else getattr(joined, part)
        if array is None:
            return None
        heads, rows, size = self.quantities["context"].value.shape
        parts = array[0, :, self.context_at : self.context_at + heads * size]
        return np.ascontiguousarray(parts.reshape(rows, heads, size).swapaxes(0, 1))


@dataclass
class _Attending:
    """The announcements of one call of attention."""

    marks: dict[str, Mark]
    parameters: dict[str, Array]

    @property
    def module(self) -> str:
        return self.marks["weights"].module

    def detail(self, name: str, otherwise: Any) -> Any:
        """A detail of any of its marks, or ``otherwise``."""
        return next((mark.details[name] for mark in self.marks.values() if name in mark.details), otherwise)


def find_sites(traced: Traced) -> list[AttentionSite]:
    """The attention sites that the loss depends on, in the order of the forward pass.

    Raises:
        UserError: a call of attention that announces only some of the necessary tensors.
    """
    groups: dict[tuple[str, tuple[bytes, ...]], tuple[list[_Attending], dict[str, list[Mark]]]] = {}
    latest: dict[str, list[Mark]] = {}
    for found in _announced(traced.record.marks):
        if isinstance(found, Mark):
            latest.setdefault(found.name, []).append(found)
        elif found.marks["weights"].source.gradient is not None:
            read = (found.marks[name].source.value.tobytes() for name in _SHARED if name in found.marks)
            key = found.module, tuple(read)
            attending, latest = groups.setdefault(key, ([], {}))
            attending.append(found)
        else:
            latest = {}
    names = _names([attending[0].module for attending, _ in groups.values()])
    role: Role = "causal" if traced.source is None and traced.expected else "cross"
    return [_site(name, role, *group) for name, group in zip(names, groups.values(), strict=True)]


def _announced(marks: Sequence[Mark]) -> Iterator[_Attending | Mark]:
    """Each call of attention, and the announced tensors computed from contexts after it, in order."""
    current = _Attending({}, {})
    for mark in marks:
        if mark.name == "query" and current.marks:
            _check_complete(current)
        if mark.name == "parameter":
            current.parameters[mark.details["symbol"]] = mark.source.value
        elif mark.name in _TENSORS or mark.name == "mask":
            current.marks[mark.name] = mark
        elif mark.name in _OUTCOMES:
            yield mark
        if mark.name == "context":
            _check_complete(current)
            yield current
            current = _Attending({}, {})
    if current.marks:
        _check_complete(current)


def _check_complete(attending: _Attending) -> None:
    missing = [name for name in _NEEDED if name not in attending.marks]
    if missing:
        module = next(iter(attending.marks.values())).module
        raise UserError(
            f"{module} announces {', '.join(attending.marks)} of a call of attention, and no "
            f"{' and no '.join(missing)}; tinygrad_attn.modes.MARKS lists the tensors of a call"
        )


def _names(modules: Sequence[str]) -> list[str]:
    """The names of the sites: the paths of their modules, without the model's class and a first part common to all,
    unless that is the list whose numbers follow it.

    The name is "attention" for the model itself. Of equal names, the later ones are numbered.
    """
    paths = [module.partition(".")[2].split(".") for module in modules]
    if len({path[0] for path in paths}) == 1 and all(len(path) > 1 and not path[1].isdecimal() for path in paths):
        paths = [path[1:] for path in paths]
    found: list[str] = []
    for path in paths:
        name = ".".join(path) or "attention"
        number = 1 + sum(other.partition("#")[0] == name for other in found)
        found.append(name if number == 1 else f"{name}#{number}")
    return found


def _site(name: str, role: Role, attending: list[_Attending], outcomes: Mapping[str, list[Mark]]) -> AttentionSite:
    """The site of these calls, whose role is ``role`` if they announce none."""
    first, several = attending[0], len(attending) > 1
    quantities = {
        tensor: Quantity([each.marks[mark].source for each in attending], shared=several and mark in _SHARED)
        for mark, tensor in _TENSORS.items()
        if all(mark in each.marks for each in attending)
    }
    joined = outcomes.get("joined", [])
    for mark in _OUTCOMES:
        if mark in outcomes and (mark != "logits" or "attentional" in outcomes):
            batch_second = not outcomes[mark][0].details.get("batch_first", True)
            parts = [each.source for each in outcomes[mark]]
            quantities[mark] = Quantity(parts, batch_second=batch_second, batched=True)
    role = next((mark.details["role"] for mark in joined if "role" in mark.details), role)
    site = AttentionSite(
        id=name,
        role=first.detail("role", role),
        score=first.detail("score", ""),
        module=first.module,
        scale=float(first.detail("scale", 1.0)),
        quantities=quantities,
        mask=_mask(attending, quantities["scores"]),
        parameters=first.parameters,
        outcomes={
            mark: (details.get("formula", ""), details.get("gradient_formula", ""))
            for mark, details in ((mark, outcomes[mark][0].details) for mark in _OUTCOMES if mark in quantities)
        },
        context_at=joined[0].details.get("context", 0) if joined else None,
    )
    part = site.joined_part("value")
    if part is None or not np.array_equal(part, site.quantities["context"].value, equal_nan=True):
        site.context_at = None  # the contexts are joined in another order, or changed before they are
    return site


def _mask(attending: list[_Attending], scores: Quantity) -> Array | None:
    """Bool (1 or heads, queries, keys); None if nothing is masked."""
    masks = []
    for each, part in zip(attending, scores.parts, strict=True):
        mask = each.marks["mask"].source.value if "mask" in each.marks else np.ones((1,), bool)
        masks.append(scores._rows(np.broadcast_to(mask, part.value.shape)))
    joined = np.concatenate(masks, axis=1)
    if joined.all():
        return None
    alike = len(joined) > 1 and (joined == joined[:1]).all()
    return np.ascontiguousarray(joined[:1] if alike else joined)
