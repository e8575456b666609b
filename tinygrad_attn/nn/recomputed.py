"""recompute_layers: stacks that keep what each layer was given, and compute its inside again in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_attn.checkpoint import checkpoint
from tinygrad_attn.nn.containers import ModuleList
from tinygrad_attn.nn.module import Module

__all__ = ["layers_of", "recompute_layers"]


def recompute_layers(module: Module, recompute: bool = True) -> int:
    """Let every stack of layers in a module compute its layers again in the backward pass (`tinygrad_attn.checkpoint`).

    The numbers are the same, to the last bit; for about a third more time the graph of a training step keeps the inputs
    of the layers, and the inside of one at a time. A stack is a module with the attribute ``recompute``, whose forward
    takes its layers from `layers_of`: `TransformerEncoder`, `TransformerDecoder`, and modules of your own.

    Returns:
        How many layers these stacks have.
    """
    stacks = [each for each in module.modules() if isinstance(getattr(each, "recompute", None), bool)]
    for stack in stacks:
        stack.recompute = recompute  # type: ignore[assignment]
    return sum(len(each) for stack in stacks for each in vars(stack).values() if isinstance(each, ModuleList))


def layers_of(layers: ModuleList, recompute: bool, backward_begins: bool = True) -> Iterator[Callable[..., Any]]:
    """The layers in turn, to be called, with ``recompute`` each in a checkpoint.

    Args:
        layers: the stack.
        recompute: whether their values are computed again.
        backward_begins: whether backward comes to the last layer first. Its values are kept then: they would be needed
            while all inputs are still there, so nothing would be saved.
    """
    kept = len(layers) - 1 if backward_begins else -1
    for position, layer in enumerate(layers):
        yield functools.partial(checkpoint, layer) if recompute and position != kept else layer
