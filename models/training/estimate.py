"""The memory that training needs, estimated before it is asked for."""

from __future__ import annotations

from ..runs.folder import Run
from .goal import EpochBatches

__all__ = ["refuse_too_large"]

# Weights, gradients, and Adam's two moments.
_COPIES = 4
_BYTES = 4


def refuse_too_large(run: Run, batches: EpochBatches | None = None) -> None:
    """Raise if the weights with all that training keeps of them, and the largest batch, exceed the machine's memory.

    Without batches only the weights count: so a model that is too large is told before texts that are too long for it.

    Of a batch count the activations that the model's settings tell (see `ModelSettings.activations`), and the logits
    with their gradient.

    Raises:
        TooLargeError: they do.
    """
    sources, targets = batches.largest() if batches else (0, 0)
    kept = (sources + targets) * run.config.model.activations() + 2 * targets * len(run.target)
    run.refuse_too_large(copies=_COPIES, more=_BYTES * kept)
