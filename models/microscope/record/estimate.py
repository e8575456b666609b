"""The memory that the microscope needs for an example, estimated from passes over a few symbols."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...console.counts import counted
from ...data import UNKNOWN
from ...interface import LanguageModel
from ...memory import readable, refuse_beyond_memory
from .example import Example
from .trace import Traced, trace

__all__ = ["needed_memory", "refuse_too_large"]

_SHARE = 1.3
"""Beside the record's own arrays there are the tensors that they are copies of, and those of the checks; measured."""
_MUCH = 10**9
"""Bytes that are worth a note."""
_SHORT = np.arange(1, 4)


def refuse_too_large(model: LanguageModel, example: Example) -> None:
    """Raise if the microscope needs more memory for an example than there is; a note if it needs much.

    Args:
        model: in float64.
        example: what it reads.

    Raises:
        TooLargeError: it does.
    """
    lengths = [len(text["ids"]) for text in (example.source, example.target) if text is not None]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    most = 8 * parameters * (sum(lengths) + 16)  # if each symbol has a gradient for each weight
    if most < _MUCH or max(lengths) <= max(_SHORT):
        return
    needed = needed_memory(model, lengths)
    over = " and ".join([*map(str, lengths[:-1]), counted(lengths[-1], "symbol")])
    what = f"every number of a model of {parameters:,} parameters over {over}"
    smaller = example.run.config.model.smaller() if example.run else ""
    fix = (
        f"choose a shorter sentence or text, or train a smaller model{f', as with --set {smaller}' if smaller else ''}"
    )
    refuse_beyond_memory(needed, what, fix)
    if needed > _MUCH:
        warnings.warn(f"{what} takes about {readable(needed)} of memory; for less, {fix}", stacklevel=4)


def needed_memory(model: LanguageModel, lengths: Sequence[int]) -> int:
    """About how many bytes the record and its checks take for an example of so many symbols.

    A pass keeps a number of arrays for each symbol, in recurrent models as large as the weights, and for each pair of
    symbols: a polynomial of the second degree in their number, which three short passes determine.

    Args:
        model: in float64.
        lengths: the symbols of the source and of the target, or of the text alone, without control symbols.
    """
    short = _SHORT + (not model.delimited)  # of a part of a text the first symbol is given
    texts = [[UNKNOWN] * count for count in short.tolist()]
    sizes = [_size(trace(model, text if len(lengths) > 1 else None, text, False)) for text in texts]
    return int(_SHARE * np.polyval(np.polyfit(short, sizes, 2), sum(lengths) / len(lengths)))


def _size(traced: Traced) -> int:
    """The bytes of all arrays of the record, each counted once."""
    record = traced.record
    arrays: list[Any] = [array for leaf in record.leaves for array in (leaf.value, leaf.gradient)]
    for call in record.calls:
        arrays += [*call.values, *call.gradients, *call.contributions.values()]
    return sum({id(array): array.nbytes for array in arrays if array is not None}.values())
