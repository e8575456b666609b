"""The memory that training needs: estimated before it is asked for, and what ``training.recompute`` saves of it."""

from __future__ import annotations

from tinygrad_attn import nn

from ..console.errors import UserError
from ..interface import LanguageModel
from ..runs.folder import Run
from .goal import EpochBatches

__all__ = ["build_model", "refuse_too_large"]

# Weights, gradients, and Adam's two moments.
_COPIES = 4
_BYTES = 4


def refuse_too_large(run: Run, batches: EpochBatches | None = None) -> None:
    """Raise if the weights with all that training keeps of them, and the largest batch, exceed the machine's memory.

    Without batches only the weights count: so a model that is too large is told before texts that are too long for it.

    Of a batch count the activations that the model's settings tell (see `ModelSettings.activations`), unless they are
    computed again, and the logits with their gradient.

    Raises:
        TooLargeError: they do.
    """
    sources, targets = batches.largest() if batches else (0, 0)
    of_symbol = 0 if run.config.training.recompute else run.config.model.activations()
    kept = (sources + targets) * of_symbol + 2 * targets * len(run.target)
    run.refuse_too_large(copies=_COPIES, more=_BYTES * kept)


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
