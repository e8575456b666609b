"""A reader: encoder layers that say a symbol at every position, the smallest model with self-attention.

Experiments build it from layers of their own, and train it on sequences of random symbols; what it is to say is a
function of the whole sequence, such as its reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.nn import functional as F

from .training import captured, fit

__all__ = ["Answer", "Reader", "Sequences", "fit_reader", "gradients_by_layer", "loss_of", "reverse", "said_right"]

Array = np.ndarray[Any, Any]

Answer = Callable[[Array], Array]
"""From sequences (B, S) to what is to be said at each position."""


def reverse(ids: Array) -> Array:
    """At position i the symbol at S - 1 - i."""
    return ids[:, ::-1].copy()


class Reader(nn.Module):
    """Embedding, with positions, then layers, then a linear map: (B, S) ids to logits (B, S, V).

    Args:
        symbols: V.
        d_model: the width of the layers.
        layers: each maps (B, S, d_model) to the same shape.
        positions: adds vectors of positions, or None.
        norm: at the end, as pre-norm layers need it, or None.
    """

    def __init__(
        self,
        symbols: int,
        d_model: int,
        layers: Iterable[nn.Module],
        positions: nn.Module | None = None,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, d_model)
        self.positions = positions
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.output = nn.Linear(d_model, symbols)

    def states(self, ids: Tensor) -> list[Tensor]:
        """What each layer reads, and last what the last one gives."""
        x = self.embedding(ids)
        states = [x if self.positions is None else self.positions(x)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states

    def said(self, state: Tensor) -> Tensor:
        """The logits from the last layer's output."""
        logits: Tensor = self.output(state if self.norm is None else self.norm(state))
        return logits

    def forward(self, ids: Tensor) -> Tensor:
        return self.said(self.states(ids)[-1])


@dataclass(frozen=True)
class Sequences:
    """Sequences of random symbols, and how a reader is trained on them."""

    symbols: int = 8
    length: int = 8
    batch: int = 32
    steps: int = 300
    tested: int = 256
    rate: float = 0.003

    def draw(self, generator: np.random.Generator, count: int) -> Array:
        """(count, length) ids."""
        return generator.integers(0, self.symbols, (count, self.length))

    def test(self, seed: int) -> Array:
        """Sequences to measure with, which training does not draw."""
        return self.draw(np.random.default_rng([seed, 1]), self.tested)


def loss_of(logits: Tensor, answers: Tensor) -> Tensor:
    """The mean cross entropy of all positions."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), answers.reshape(-1))


def fit_reader(model: nn.Module, sequences: Sequences, answer: Answer, seed: int, warmup: float = 0.1) -> list[float]:
    """Train a model from ids to logits; see `models.lab.form.training.fit`."""
    generator = np.random.default_rng([seed, 0])

    def batches() -> Iterator[tuple[Any, ...]]:
        while True:
            ids = sequences.draw(generator, sequences.batch)
            yield ids, answer(ids)

    def loss(ids: Tensor, answers: Tensor) -> Tensor:
        return loss_of(model(ids), answers)

    return fit(model, captured(loss), batches(), sequences.steps, sequences.rate, warmup)


def said_right(model: nn.Module, ids: Array, answer: Answer) -> float:
    """How many per cent of the positions have the right answer."""
    with ta.no_grad():
        said = model(Tensor(ids)).array.argmax(-1)
    return 100.0 * float(np.mean(said == answer(ids)))


def gradients_by_layer(model: Reader, ids: Array, answer: Answer) -> list[float]:
    """The norm of ∂L/∂x for what each layer reads, and last for what the last one gives."""
    states = model.states(Tensor(ids))
    for state in states:
        state.retain_grad()
    loss_of(model.said(states[-1]), Tensor(answer(ids))).backward()
    model.zero_grad()
    return [float(np.linalg.norm(state.grad.array)) for state in states if state.grad is not None]
