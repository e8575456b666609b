"""LanguageModel and Translator: the methods of every model, on which training, decoding and the microscope rely.

A language model gives the next symbol from those before it; a translator is one with a source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np

from tinygrad_attn import nn
from tinygrad_attn.tensor import Tensor, default_dtype

from .setting import ConfigError, Section, Value, constant

__all__ = ["Decoder", "LanguageModel", "ModelSettings", "TextDecoder", "Translator", "Weights"]

Array = np.ndarray[Any, Any]

Weights = dict[str, Tensor]
"""Attention weights by the path of the attention module, each (B, heads, T, S): T queries over S keys.

The path of a self-attention module ends in ``self_attn``."""


@dataclass(frozen=True)
class ModelSettings(Section):
    """The model section of a config: the name of the model, and the arguments of its class.

    Each model's file defines a subclass. The methods answer questions about a model before it is built; a model without
    limits need not define them.

    Attributes:
        reads: what the model is trained on: "pairs" of source and target, or a "text"; by the model's base class
            `models.registry.register_model` sets it.
    """

    section = "model"
    reads: ClassVar[Literal["pairs", "text"]]

    name: str = constant("")

    def longest_source(self) -> int | None:
        """The most symbols of a source that the model reads (``model.max_length`` sets it), or None for no limit."""
        return None

    def longest_target(self) -> int | None:
        """The most symbols of a target that the model reads after ``<s>``, or None for no limit."""
        return None

    def limited_by(self) -> str:
        """The setting that sets these limits, as in "model.positions 'learned'"."""
        return f"model.name {self.name!r}"

    def check_vocabulary(self, shared: bool) -> None:
        """Raise `ConfigError` if the model needs one vocabulary for source and target but they have two."""

    def width(self) -> int:
        """The size of the model's vectors (d_model); the schedule "noam" depends on it."""
        raise ConfigError(f"the model {self.name} does not say its width, which the schedule 'noam' needs")

    def activations(self) -> int:
        """About how many numbers training keeps for each symbol of source and target until backward, without logits.

        Memory is estimated from it before it is asked for, so it must not be too high; 0 says that nothing is known.
        """
        return 0

    def smaller(self) -> str:
        """A setting that makes the model about half as wide, as in "model.hidden_size=32"; empty if none is known."""
        return ""

    @classmethod
    def suited(cls, width: int, steps: int) -> dict[str, Value]:
        """The settings, as ``section.key``, with which a model about so wide trains well for so many steps.

        They are chosen for a user who names no config; a model without advice leaves them out.
        """
        return {}


class Decoder(Protocol):
    """Reads tokens for R hypotheses at a time, one each, and keeps their states."""

    gather_share: float
    """A search may leave rows that have ended, until they are this share of all."""

    def step(self, tokens: Array) -> Array:
        """The logits (R, V) of the next token after R tokens; the caller may change them until the next step."""
        ...

    def choose(self, rows: Array) -> None:
        """Go on from these rows, in this order; a row may be chosen more than once."""
        ...


@runtime_checkable
class TextDecoder(Decoder, Protocol):
    """A `Decoder` of a model without a source that reads the beginning of a text at once."""

    def read(self, tokens: Array) -> Array:
        """Begin anew with one text, and read its first tokens (T,): the logits (1, V) of the next, as of `step`."""
        ...


class LanguageModel(nn.Module):
    """A model of p(text), read from left to right: the next symbol's logits from those before it.

    A model in training mode sees whole texts (teacher forcing):

        logits = model(text)

    and in use one token after the other:

        state = model.start()
        logits, state, _ = model.step(state, token)

    Both give the same logits, and with ``need_weights`` the attention weights too. Each model defines the type of its
    ``state``; every tensor in it must have the batch on axis 0, so that a search can reorder its rows.

    What a text depends on, such as a source, comes first: ``model(*given, text)`` and
    ``model.start(model.encode(*given))`` are right for every model. Here nothing is given.

    Attributes:
        Settings: the class of its settings, which `models.registry.register_model` sets.
        delimited: whether a text is read after ``<s>`` and ends with ``</s>``, as a sentence; otherwise it is a part of
            a longer one, whose first symbol is given.
        context: the most tokens that are read from one start, None for any number.
    """

    Settings: ClassVar[type[ModelSettings]]
    delimited: ClassVar[bool] = False
    context: int | None = None

    @classmethod
    def from_settings(
        cls, settings: ModelSettings, source_size: int, target_size: int, dtype: Any = default_dtype
    ) -> Self:
        """A new model with random parameters from the package's generator (see `tinygrad_attn.manual_seed`).

        Args:
            settings: its fields, without the name, are the arguments of the class.
            source_size, target_size: the numbers of symbols of the two tokenizers; without a source the second counts.
            dtype: of all parameters.

        Raises:
            ValueError: sizes that do not fit the settings, such as two vocabularies for a shared embedding.
        """
        return cls._make(settings, dtype, target_size)

    @classmethod
    def _make(cls, settings: ModelSettings, dtype: Any, *sizes: int) -> Self:
        chosen = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        del chosen["name"]
        make: Callable[..., Self] = cls  # each model's arguments are its own
        return make(*sizes, **chosen, dtype=dtype)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The logits of each token that follows a prefix of the text.

        Args:
            inputs: the text, (B, T), int64; before it what it depends on.
            options: ``need_weights``: return the attention weights too.

        Returns:
            (B, T, V) logits; those at t depend on ``text[:, :t + 1]`` only. With ``need_weights`` a pair: logits and
            weights.
        """
        raise NotImplementedError

    def encode(self, *given: Any, **options: Any) -> Any:
        """What a text depends on, computed once for all steps; None, since here it depends on nothing."""
        return None

    def start(self, *memory: Any, **options: Any) -> Any:
        """The state before the first token, from the result of `encode` (which is not needed if that is None)."""
        raise NotImplementedError

    def step(self, state: Any, token: Tensor, *, need_weights: bool = False) -> tuple[Tensor, Any, Weights]:
        """Read one token (B,) of each text.

        Returns:
            The logits (B, V) of the next token, the new state, and the weights (T = 1), which are empty without
            ``need_weights``. The old state may be continued again, by another token.
        """
        raise NotImplementedError

    def read(self, state: Any, text: Tensor) -> tuple[Tensor, Any]:
        """Read several tokens (B, T) of each text, T at least 1, as of a prompt.

        Returns:
            The logits (B, V) of the token that follows, and the new state. Here it takes `step` for each; a model that
            can read them at once does.
        """
        for token in text.array.T:
            logits, state, _ = self.step(state, Tensor(np.ascontiguousarray(token)))
        return logits, state

    def fused_decoder(self, state: Any, rows: int, *, int8: bool = False) -> Decoder | None:
        """A decoder that takes the steps of `step` from a state on, faster; None if there is none.

        A search asks for it where nobody looks on, and takes `step` otherwise. Its logits are those of `step`, to
        rounding.

        Args:
            state: the result of `start`, or of `read` of a model without a source; it is not changed.
            rows: the most hypotheses that it will have at a time.
            int8: round the weights to 8 bits; the logits are then nearly those of `step`.
        """
        return None


class Translator(LanguageModel):
    """A model of p(target | source), read from left to right: a language model of targets, with a source.

    B sentences have at most S source and T target ids. A model in training mode sees whole targets (teacher forcing):

        logits = model(source, source_mask, target_in)

    and in use one token after the other:

        memory = model.encode(source, source_mask)
        state = model.start(memory)
        logits, state, _ = model.step(state, token)

    Each model defines the types of its ``memory`` and ``state``. See `LanguageModel` for the rest.
    """

    delimited = True

    @classmethod
    def from_settings(
        cls, settings: ModelSettings, source_size: int, target_size: int, dtype: Any = default_dtype
    ) -> Self:
        """See `LanguageModel.from_settings`."""
        return cls._make(settings, dtype, source_size, target_size)

    def forward(
        self, source: Tensor, source_mask: Tensor, target_in: Tensor, *, need_weights: bool = False
    ) -> Tensor | tuple[Tensor, Weights]:
        """The logits of each token that follows a prefix of the target.

        Args:
            source: (B, S), int64.
            source_mask: (B, S), bool, True where ``source`` holds a token; other ids have no effect.
            target_in: (B, T), int64, beginning with ``<s>``.
            need_weights: return the attention weights too.

        Returns:
            (B, T, V) logits; those at t depend on ``target_in[:, :t + 1]`` only. With ``need_weights`` a pair: logits
            and weights.
        """
        raise NotImplementedError

    def encode(self, source: Tensor, source_mask: Tensor) -> Any:
        """The encoded source (the type is the model's own), computed once for all decoder steps."""
        raise NotImplementedError

    def start(self, memory: Any) -> Any:
        """The decoder's state before the first token."""
        raise NotImplementedError
