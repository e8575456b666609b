"""frozen_weights: a context in which weights are packed once for the matrix product."""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.kernels.gemm.cache import Kept, keeping
from tinygrad_attn.nn.module import Module

__all__ = ["frozen_weights"]


@context
def frozen_weights(model: Module) -> Iterator[None]:
    """Promise that nothing writes to the model's parameters inside, so that products of few rows reuse packed weights.

    A decoder multiplies a few rows by the same weights at every step::

        with no_grad(), frozen_weights(model):
            ...

    The results are the same. It applies to the calling thread; inside it the weights take twice their memory.

    Raises:
        RuntimeError: a parameter was written to inside; raised at the end of the context.
    """
    versions = {name: parameter.version for name, parameter in model.named_parameters()}
    outside = keeping.kept

    def restore() -> None:
        keeping.kept = outside

    with undone_by(restore):
        if outside is None:  # within another block, this one changes nothing
            keeping.kept = Kept(parameter.array for parameter in model.parameters())
        yield
    for name, parameter in model.named_parameters():
        if parameter.version != versions.get(name):
            raise RuntimeError(
                f"frozen_weights: {name} was written to inside by {parameter.storage.writer}, so results of the model "
                "may be those of the old weights; write to it outside, or leave frozen_weights out"
            )
