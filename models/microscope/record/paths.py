"""The paths of the gradient: by which way it enters the encoder, if there is one, and which branch of each layer it
takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.record import Mark

from .example import Example, name_of
from .schema import LayerPaths, Paths, Token
from .trace import Traced
from .ways import Ways

__all__ = ["find_paths"]

Array = np.ndarray[Any, Any]


def find_paths(traced: Traced, example: Example, tokens: Sequence[Token]) -> Paths | None:
    """The norms of the gradient of each encoder state by the way it came, and of each sublayer's input by its branch.

    None if the model announces neither.

    Args:
        traced: the pass.
        example: what the model read.
        tokens: the prediction after each symbol.
    """
    source = example.source["tokens"] if example.source else []
    layers = _layers(traced, source, [token["read"] for token in tokens])
    ways = traced.ways if traced.ways is not None and len(traced.ways.total) == len(source) else None
    if ways is None and not layers:
        return None
    parts, off = _norms_of_ways(ways) if ways is not None else ({}, 0.0)
    return {
        "run": name_of(example.run),
        "model": type(traced.model).__name__,
        "tokens": source if ways is not None else [],
        "ways": parts,
        "total": _norms(ways.total) if ways is not None else [],
        "off": off,
        "layers": layers,
        "loss": float(traced.loss.values[0]),
    }


def _norms_of_ways(ways: Ways) -> tuple[dict[str, list[float]], float]:
    """The norms of each way, and how far the ways added up are off the whole."""
    parts = dict(ways.parts)
    rest = ways.total - sum(parts.values(), np.zeros_like(ways.total))
    off = float(np.abs(rest).max(initial=0.0)) / max(float(np.abs(ways.total).max(initial=0.0)), np.finfo(float).tiny)
    if off > _ROUNDING:
        parts["other"], off = rest, 0.0
    return {name: _norms(rows) for name, rows in parts.items()}, off


_ROUNDING = 1e-9
"""What the parts may differ from the total by rounding; more came by a way that is not announced."""


def _layers(traced: Traced, source: Sequence[str], read: Sequence[str]) -> list[LayerPaths]:
    """Of every layer with a residual connection, in order, the gradient that passes by it and through its sublayer."""
    marks = traced.record.marks
    behind = max((mark.source.call.index for mark in marks if mark.name == "encoded"), default=-1)
    found: list[LayerPaths] = []
    skip: Mark | None = None
    for mark in marks:
        if mark.name == "skip":
            skip = mark
        elif mark.name == "branch" and skip is not None:
            tokens = source if mark.source.call.index < behind else read
            rows = [_of_branch(each) for each in (skip, mark)]
            if not traced.expected:  # nothing has names
                tokens = [str(place) for place in range(len(rows[0]))]
            if len(rows[0]) == len(tokens):
                found.append(
                    {
                        "module": mark.module, "sublayer": mark.details["sublayer"], "tokens": list(tokens),
                        "skip": _norms(rows[0]), "branch": _norms(rows[1]), "total": _norms(rows[0] + rows[1]),
                    }
                )  # fmt: skip
            skip = None
    return found


def _of_branch(mark: Mark) -> Array:
    """The gradient through an announced tensor, (length, D)."""
    value, gradient = mark.source.value, mark.source.gradient
    return (np.zeros_like(value) if gradient is None else gradient).reshape(-1, value.shape[-1])


def _norms(rows: Array) -> list[float]:
    return [float(norm) for norm in np.sqrt((rows * rows).sum(axis=1))]
