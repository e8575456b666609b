"""recompute_layers: stacks that keep what layers were given, and compute their inside again in the backward pass."""

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
    of most layers in place of what they compute (`layers_of`). A stack is a module with the attribute ``recompute``,
    whose forward takes its layers from `layers_of`: `TransformerEncoder`, `TransformerDecoder`, modules of your own.

    Returns:
        How many layers these stacks have.
    """
    stacks = [each for each in module.modules() if isinstance(getattr(each, "recompute", None), bool)]
    for stack in stacks:
        stack.recompute = recompute  # type: ignore[assignment]
    return sum(len(each) for stack in stacks for each in vars(stack).values() if isinstance(each, ModuleList))


def layers_of(layers: ModuleList, recompute: bool) -> Iterator[Callable[..., Any]]:
    """The layers in turn, to be called; with ``recompute`` those of the first two thirds each in a checkpoint.

    The last ones are kept, one at least: backward comes to them first, so that they are gone before the others are
    computed again. Keeping none would save little more, and take longer: a forward pass is two fifths of a step.
    """
    kept = max(1, len(layers) // 3)
    for position, layer in enumerate(layers):
        yield functools.partial(checkpoint, layer) if recompute and position < len(layers) - kept else layer
