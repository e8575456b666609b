"""frozen_weights: a context in which weights are packed once for the matrix product."""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.kernels.gemm.cache import Kept, keeping
from tinygrad_attn.nn.module import Module

__all__ = ["frozen_weights"]


@context
def frozen_weights(model: Module) -> Iterator[None]:
    """Promise that nothing writes to the model's parameters or exchanges its parts inside, so that products of few rows
    reuse packed weights, and decoders the programs made of them.

    A decoder multiplies a few rows by the same weights at every step::

        with no_grad(), frozen_weights(model):
            ...

    The results are the same. It applies to the calling thread; inside it the weights take twice their memory.

    Raises:
        RuntimeError: a parameter was written to or exchanged inside; raised at the end of the context.
    """
    before = {name: (parameter, parameter.version) for name, parameter in model.named_parameters()}
    outside = keeping.kept

    def restore() -> None:
        keeping.kept = outside

    with undone_by(restore):
        if outside is None:  # within another block, this one changes nothing
            things = [*model.modules(), *model.parameters()]
            keeping.kept = Kept([parameter.array for parameter in model.parameters()], things)
        yield
    for name, parameter in model.named_parameters():
        same, version = before.get(name, (None, 0))
        if same is parameter and version == parameter.version:
            continue
        what = f"written to inside by {parameter.storage.writer}" if same is parameter else "put in its place inside"
        raise RuntimeError(
            f"frozen_weights: {name} was {what}, so results of the model may be those of the old weights; write to it "
            "outside, or leave frozen_weights out"
        )
