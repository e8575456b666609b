"""A model whose logits come from a table, for tests of decoding."""

from typing import NamedTuple

import numpy as np
from tinygrad_attn_models.interface import Translator

from tinygrad_attn import Tensor


class State(NamedTuple):
    sentence: Tensor
    place: int


class Scripted(Translator):
    """The logits of the next token are ``table[sentence, place, token before]``; a sentence is named by its first id.

    ``steps`` lists how many sentences each step was for.
    """

    def __init__(self, table):
        super().__init__()
        self.table = np.asarray(table, dtype=np.float64)
        self.steps = []

    def encode(self, source, source_mask):
        return Tensor(source.array[:, 0])

    def start(self, memory):
        return State(memory, 0)

    def step(self, state, token):
        self.steps.append(len(token.array))
        logits = self.table[state.sentence.array, min(state.place, self.table.shape[1] - 1), token.array]
        return Tensor(logits), State(state.sentence, state.place + 1), {}


def sentences(count):
    """The source and mask of sentences 0 to ``count - 1``."""
    return np.arange(count)[:, None], np.ones((count, 1), dtype=bool)
