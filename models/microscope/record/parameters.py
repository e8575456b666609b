"""The JSON of the parameters: value, gradient, and what every use of each contributed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_attn import nn
from tinygrad_attn.record import Call, Output, gradient_state

from .arrays import Store
from .example import Example, symbols_of
from .schema import Token
from .tape import norm
from .trace import Traced
from .uses import LARGEST, ParameterUses, Use
from .views import Block, Parameter, UseGroup

__all__ = ["blocks_of", "described_parameters", "makes_logits", "share_of", "sum_of_uses"]

Array = np.ndarray[Any, Any]

# What the rows of a layer's packed parameters are, as PyTorch orders them.
_GATES: list[tuple[type, tuple[str, ...]]] = [
    (nn.LSTM, ("i", "f", "g", "o")), (nn.LSTMCell, ("i", "f", "g", "o")),
    (nn.GRU, ("r", "z", "n")), (nn.GRUCell, ("r", "z", "n")),
]  # fmt: skip


def described_parameters(
    traced: Traced, parameters: Sequence[ParameterUses], after: set[Call], store: Store, example: Example,
    tokens: Sequence[Token],
) -> list[Parameter]:  # fmt: skip
    """The JSON of every parameter; its arrays go into ``store``. ``after``: the calls that depend on the target."""
    lengths = {"source": 0 if example.source is None else len(example.source["ids"]), "target": len(tokens)}
    outputs = makes_logits(traced)
    found: list[Parameter] = []
    for parameter in parameters:
        gradient = parameter.leaf.gradient
        rows = _rows_with_gradient(parameter)
        whole = parameter.leaf.value.reshape(parameter.matrix)
        value = whole if rows is None else whole[rows]
        kept = parameter.leaf.value.size <= LARGEST or rows is not None
        summed = all(use.left is not None for use in parameter.uses)
        name = parameter.name
        found.append(
            {
                "name": name,
                "shape": list(parameter.leaf.value.shape),
                "rows": rows,
                "row_names": _row_names(parameter, rows, traced, example, after, outputs),
                "value": store.put(name, value, "parameter") if kept else None,
                "gradient": None
                if gradient is None or summed or not kept
                else store.put(f"dL/d {name}", gradient.reshape(parameter.matrix), "parameter"),
                "norm": norm(parameter.leaf.value),
                "gradient_norm": None if gradient is None else norm(gradient),
                "state": gradient_state(gradient),
                "blocks": list(blocks_of(traced, parameter)),
                "uses": list(_groups(traced, parameter, rows, store, lengths, after)),
                "off": _off(parameter),
            }
        )
    return found


def sum_of_uses(parameter: ParameterUses) -> tuple[Array, Array] | None:
    """The sum of the uses' vectors' products, as a matrix, and the sum of their sizes; None if some have none."""
    total, terms = np.zeros(parameter.matrix), np.zeros(parameter.matrix)
    for use in parameter.uses:
        if use.left is None or use.right is None or use.rows is None:
            return None
        part = slice(*use.rows)
        total[part] += use.left.T @ use.right
        terms[part] += np.abs(use.left).T @ np.abs(use.right)
    return total, terms


def _off(parameter: ParameterUses) -> float:
    """See `Parameter`; of a parameter too large for matrices, the shares' sum minus 1."""
    gradient = parameter.leaf.gradient
    if gradient is None:
        return 0.0
    summed = sum_of_uses(parameter)
    if summed is None:
        return abs(float(sum(share_of(use, gradient) for use in parameter.uses)) - 1.0) if gradient.any() else 0.0
    largest = max(float(np.abs(gradient).max(initial=0.0)), np.finfo(float).tiny)
    return float(np.abs(summed[0] - gradient.reshape(parameter.matrix)).max(initial=0.0)) / largest


def share_of(use: Use, gradient: Array) -> float:
    """⟨contribution, gradient⟩ / ‖gradient‖² of a whole use."""
    size = float(np.sum(gradient * gradient))
    return float(np.sum(use.contribution * use.seen(gradient))) / size if size else 0.0


def _rows_with_gradient(parameter: ParameterUses) -> list[int] | None:
    """The rows that have a gradient, if not all have one; None for all."""
    gradient = parameter.leaf.gradient
    if gradient is None or gradient.ndim < 2 or any(use.call.op.name != "embedding" for use in parameter.uses):
        return None
    rows = np.flatnonzero(gradient.reshape(parameter.matrix).any(axis=1))
    return [int(row) for row in rows] if 0 < len(rows) < len(gradient) else None


def makes_logits(traced: Traced) -> set[Call]:
    """The products that the logits are made of: walking back from them, past a bias and what only rearranges."""
    found: set[Call] = set()
    waiting = [mark.source.call for mark in traced.record.marks if mark.name == "logits"]
    while waiting:
        call = waiting.pop()
        if call.op.name == "matmul":
            found.add(call)
        elif call.op.name in ("add", "alias", "squeeze", "unsqueeze", "reshape", "stack"):
            waiting += [source.call for source in call.inputs if isinstance(source, Output)]
    return found


def _row_names(
    parameter: ParameterUses, rows: list[int] | None, traced: Traced, example: Example, after: set[Call],
    outputs: set[Call],
) -> list[str] | None:  # fmt: skip
    """The symbols of the rows of an embedding, or of the output layer."""
    count = parameter.matrix[0]
    places = range(count) if rows is None else rows
    reads = [use.call for use in parameter.uses if use.call.op.name == "embedding"]
    if any(use.call in outputs for use in parameter.uses) or any(call in after for call in reads):
        return symbols_of(places, example.run.target if example.run else None)
    if reads and example.source is not None and any(traced.source == ids for ids in map(_ids, reads)):
        names = dict(zip(example.source["ids"], example.source["tokens"], strict=True))
        return [names.get(place, str(place)) for place in places]
    return None


def _ids(call: Call) -> list[int]:
    return [int(i) for i in np.ravel(call.arrays[0])]


def blocks_of(traced: Traced, parameter: ParameterUses) -> Iterator[Block]:
    """The rows that are matrices of their own, of layers that pack several into one parameter."""
    path, _, last = parameter.name.rpartition(".")
    module = traced.model.get_submodule(path)
    sizes: list[tuple[str, int]] = []
    total = parameter.matrix[0]
    if isinstance(module, nn.MultiheadAttention) and last.startswith("in_proj"):
        keys = (total - module.embed_dim) // 2
        sizes = [("Q", module.embed_dim), ("K", keys), ("V", keys)]
    for kind, gates in _GATES:
        if isinstance(module, kind) and last.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh")):
            sizes = [(gate, total // len(gates)) for gate in gates]
    first = 0
    gradient = parameter.leaf.gradient
    for name, size in sizes:
        part = slice(first, first + size)
        yield {
            "name": name,
            "rows": [first, first + size],
            "norm": norm(parameter.leaf.value[part]),
            "gradient_norm": None if gradient is None else norm(gradient[part]),
        }
        first += size


def _groups(
    traced: Traced, parameter: ParameterUses, rows: list[int] | None, store: Store, lengths: dict[str, int],
    after: set[Call],
) -> Iterator[UseGroup]:  # fmt: skip
    """The uses by op and module, each with a term for each product of vectors, or for each use without such."""
    groups: dict[tuple[Any, ...], list[Use]] = {}
    for use in parameter.uses:
        key = use.call.op.name, use.call.module, use.rows, use.left is None, use.call.step is None
        groups.setdefault(key, []).append(use)
    gradient = parameter.leaf.gradient
    for (op, module, block, whole, _), uses in groups.items():
        of = "target" if any(use.call in after for use in uses) else "source" if lengths["source"] else "target"
        lefts = [use.left for use in uses if use.left is not None]
        rights = [use.right for use in uses if use.right is not None]
        counts = [1] * len(uses) if whole else [len(left) for left in lefts]
        positions = [
            use.call.step if count == 1 and use.call.step is not None else n
            for use, count in zip(uses, counts, strict=True)
            for n in range(count)
        ]
        group: UseGroup = {
            "op": op, "module": module, "of": of if max(positions) < lengths[of] else "",  # type: ignore[typeddict-item]
            "rows": None if block is None else list(block), "left": None, "right": None,
            "calls": [traced.numbers[use.call] for use, count in zip(uses, counts, strict=True) for _ in range(count)],
            "positions": positions, "shares": [], "norms": [],
        }  # fmt: skip
        if whole:
            group["shares"] = [0.0 if gradient is None else share_of(use, gradient) for use in uses]
            group["norms"] = [norm(use.contribution) for use in uses]
        else:
            left, right = np.concatenate(lefts), np.concatenate(rights)
            group["norms"] = [float(n) for n in np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)]
            group["shares"] = _shares(parameter, block, left, right)
            name = f"uses of {parameter.name}"
            group["left"] = store.put(name, left if rows is None else left[:, rows], "parameter")
            group["right"] = store.put(name, right, "parameter")
        yield group


def _shares(parameter: ParameterUses, block: Any, left: Array, right: Array) -> list[float]:
    """left_n G right_n / ‖G‖² for each n, with the gradient's rows of the block."""
    gradient = parameter.leaf.gradient
    if gradient is None or not gradient.any():
        return [0.0] * len(left)
    part = gradient.reshape(parameter.matrix)[slice(*block)]
    return [float(x) for x in np.sum((left @ part) * right, axis=1) / np.sum(gradient * gradient)]
