"""What every model is to those who train it, decode with it and look into it."""

from __future__ import annotations

from typing import Any

from tinygrad_attn import nn
from tinygrad_attn.tensor import Tensor

__all__ = ["Translator", "Weights"]

Weights = dict[str, Tensor]
"""Attention weights by the place in the model where they arise, each (B, heads, T, S): T queries over S keys.

The name of a place where a sequence attends to itself ends in ``self_attn``."""


class Translator(nn.Module):
    """A model of p(target | source), read from left to right.

    B sentences have at most S source and T target ids. A model in training mode sees whole targets (teacher forcing):

        logits = model(source, source_mask, target_in)

    and in use one token after the other:

        memory = model.encode(source, source_mask)
        state = model.start(memory)
        logits, state, _ = model.step(state, token)

    Both give the same logits, and with ``need_weights`` the attention weights too. What ``memory`` and ``state`` are is
    each model's own affair, but for one thing: every tensor in a state has the batch on axis 0, so that a search can
    reorder its sentences.
    """

    def forward(
        self, source: Tensor, source_mask: Tensor, target_in: Tensor, *, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Weights]:
        """The logits of each token that follows a prefix of the target.

        Args:
            source: (B, S), int64.
            source_mask: (B, S), bool, True where ``source`` holds a token; what lies elsewhere changes nothing.
            target_in: (B, T), int64, beginning with ``<s>``.
            need_weights: return the attention weights too.

        Returns:
            (B, T, V) logits; those at t depend on ``target_in[:, :t + 1]`` only. With ``need_weights`` the pair of them
            and the weights.
        """
        raise NotImplementedError

    def encode(self, source: Tensor, source_mask: Tensor) -> Any:
        """All that decoding needs of the source, computed once."""
        raise NotImplementedError

    def start(self, memory: Any) -> Any:
        """The decoder's state before the first token."""
        raise NotImplementedError

    def step(self, state: Any, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, Any, Weights]:
        """Read one token (B,) of each sentence.

        Returns:
            The logits (B, V) of the next token, the new state, and the weights (T = 1), which are empty without
            ``need_weights``. The old state may be continued again, by another token.
        """
        raise NotImplementedError
