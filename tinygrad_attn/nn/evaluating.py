"""evaluating: a context in which a model is in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.nn.module import Module

__all__ = ["evaluating"]


@context
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode (nothing is dropped) inside; afterwards every module has the mode that it had before."""
    before = [(module, module.training) for module in model.modules()]

    def restore() -> None:
        for module, training in before:
            module.training = training

    with undone_by(restore):
        model.eval()
        yield
