"""Scheduled sampling: the decoder reads a random mixture of the reference and its own output.

Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks", 2015. With teacher forcing
the decoder reads the reference, at inference its own output, mistakes included. Here each token that it reads is the
reference's with probability ``ratio``, else its own most probable one. No gradient flows through the choice.
"""

from __future__ import annotations

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor

from ..data import PAD, START, Batch
from ..interface import LanguageModel

__all__ = ["sampled_logits"]


def sampled_logits(model: LanguageModel, batch: Batch, ratio: float, generator: np.random.Generator) -> Tensor:
    """The logits (B, T, V) of a decoder that reads a mixture of the target and its own predictions, step by step.

    Args:
        model: any; with ``ratio`` 1 it gives the logits of ``model(*given, target_in)``.
        batch: of B texts, with T tokens at most.
        ratio: the probability of a reference token.
        generator: draws the choices.
    """
    state = model.start(model.encode(*map(Tensor, batch.given)))
    true = np.less(generator.random(batch.target_in.shape), ratio)
    true[:, 0] = True  # <s>, or the first of a text without
    own = np.full(len(batch), START)
    steps = []
    for t in range(batch.target_in.shape[1]):
        logits, state, _ = model.step(state, Tensor(np.where(true[:, t], batch.target_in[:, t], own)))
        steps.append(logits)
        scores = logits.array.copy()
        scores[:, [PAD, START]] = -np.inf  # never part of a translation
        own = scores.argmax(axis=-1)
    return ta.stack(steps, 1)
