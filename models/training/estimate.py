"""The memory that training needs: estimated before it is asked for, and what ``training.recompute`` saves of it."""

from __future__ import annotations

from tinygrad_attn import nn

from ..console.errors import UserError
from ..interface import LanguageModel
from ..runs.folder import Run
from .goal import EpochBatches

__all__ = ["COPIES", "build_model", "kept_bytes", "refuse_too_large"]

COPIES = 4
"""Of the parameters: weights, gradients, and Adam's two moments."""
_BYTES = 4


def refuse_too_large(run: Run, batches: EpochBatches | None = None) -> None:
    """Raise if the weights with all that training keeps of them, and the largest batch, exceed the machine's memory.

    Without batches only the weights count: so a model that is too large is told before texts that are too long for it.

    Raises:
        TooLargeError: they do.
    """
    of_layers, of_logits = kept_bytes(run, batches) if batches else (0, 0)
    recompute = run.config.training.recompute
    run.refuse_too_large(copies=COPIES, more=of_logits + (0 if recompute else of_layers))


def kept_bytes(run: Run, batches: EpochBatches) -> tuple[int, int]:
    """About the bytes that training keeps of the largest batch until its backward pass: of the layers, as far as the
    model's settings tell (see `ModelSettings.activations`), and of the logits with their gradient."""
    sources, targets = batches.largest()
    return _BYTES * (sources + targets) * run.config.model.activations(), _BYTES * 2 * targets * len(run.target)


def build_model(run: Run) -> LanguageModel:
    """A new model of a run, whose stacks of layers do as ``training.recompute`` says.

    Raises:
        UserError: it asks for what the model has not got.
    """
    model = run.build()
    if run.config.training.recompute and not nn.recompute_layers(model):
        raise UserError(
            f"training.recompute computes layers again, and the model {run.config.model.name} has no stack of layers "
            "(see nn.recompute_layers); set it to false"
        )
    return model
