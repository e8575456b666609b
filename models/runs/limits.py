"""Which sentences are too long for a model: learned positions, and the score "location", are for so many symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..data import DataError
from .config import ModelConfig

__all__ = ["refuse_too_long"]


def refuse_too_long(
    settings: ModelConfig, sources: Iterable[Sequence[int]], targets: Iterable[Sequence[int]] = ()
) -> None:
    """Refuse sentences that a model cannot read.

    Args:
        settings: of the model.
        sources: ids.
        targets: ids that the decoder is led along, without the ``<s>`` that it reads before them.

    Raises:
        DataError: a sentence is too long for ``model.max_length``, and the model is one with such a limit.
    """
    for limited, side, sentences, start in (
        (settings.limits_sources, "sentence", sources, 0),
        (settings.limits_targets, "target sentence", targets, 1),
    ):
        longest = max(map(len, sentences), default=0)
        if limited and longest + start > settings.max_length:
            raise DataError(
                f"a {side} has {longest} symbols, but this model reads {settings.max_length - start} at most; "
                f"shorten it, or train one with --set model.max_length={longest + start}"
            )
