"""The decoder of a search: any model's steps, and the choice of rows (sentences or hypotheses) of its state.

A state consists of tensors, each with the batch on axis 0, in tuples, named tuples, lists, dicts and dataclasses;
numbers, such as the count of tokens read, hold for all sentences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn import Tensor

from ..console.errors import UserError
from ..interface import Decoder, LanguageModel

__all__ = ["PlainDecoder", "Rows", "decoder_of", "map_tensors", "state_bytes"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]


def map_tensors(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The state with ``function`` applied to each of its tensors.

    Raises:
        TypeError: the state holds something that is neither a tensor, nor a container of them, nor a plain value.
    """
    if isinstance(state, Tensor):
        return function(state)
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    if isinstance(state, dict):
        return {key: map_tensors(function, value) for key, value in state.items()}
    if isinstance(state, (tuple, list)):
        values = [map_tensors(function, value) for value in state]
        return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        fields = [field.name for field in dataclasses.fields(state)]
        return dataclasses.replace(state, **{name: map_tensors(function, getattr(state, name)) for name in fields})
    raise TypeError(
        f"a decoder's state holds a {type(state).__name__}, whose rows cannot be chosen; keep tensors, with the batch "
        "on axis 0, in tuples, lists, dicts or dataclasses"
    )


def state_bytes(state: Any) -> int:
    """The bytes of all tensors of a state."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.array.nbytes)
        return tensor

    map_tensors(note, state)
    return sum(sizes)


class Rows:
    """Selects rows of a state after each step, without copying tensors that would not change.

    A tensor that no step has replaced, such as the keys of the source, depends on the sentence alone: its rows are
    equal for all hypotheses of a sentence. It is not copied as long as each row stays with its sentence.

    Args:
        state: the state before the first step, with one row for each sentence.
    """

    def __init__(self, state: Any) -> None:
        self._sentences = np.arange(0)
        self._about_source: set[int] = set()

        def remember(tensor: Tensor) -> Tensor:
            self._sentences = np.arange(len(tensor.array))
            self._about_source.add(id(tensor))
            return tensor

        map_tensors(remember, state)

    def choose(self, state: Any, rows: IntArray) -> Any:
        """The state that the last step returned, with these rows, in this order; a row may be chosen more than once."""
        sentences = self._sentences[rows]
        same_sentences = np.array_equal(sentences, self._sentences)
        same_rows = np.array_equal(rows, np.arange(len(self._sentences)))
        about_source: set[int] = set()  # tensors by id: all of them are in the state that is returned, so none is freed

        def choose(tensor: Tensor) -> Tensor:
            untouched = id(tensor) in self._about_source
            unchanged = same_rows or (untouched and same_sentences)
            chosen = tensor if unchanged else Tensor(tensor.array[rows])
            if untouched:
                about_source.add(id(chosen))
            return chosen

        chosen = map_tensors(choose, state)
        self._sentences, self._about_source = sentences, about_source
        return chosen


class PlainDecoder:
    """A `Decoder` that takes the steps of a model's `LanguageModel.step`, from a state of `LanguageModel.start` on."""

    gather_share = 0.25
    """Gathering the state's rows costs as much as a few steps of rows that have ended."""

    def __init__(self, model: LanguageModel, state: Any) -> None:
        self._model = model
        self._state = state
        self._rows = Rows(state)

    def step(self, tokens: IntArray) -> np.ndarray[Any, Any]:
        """See `Decoder.step`."""
        logits, self._state, _ = self._model.step(self._state, Tensor(tokens))
        return logits.array

    def read(self, tokens: IntArray) -> np.ndarray[Any, Any]:
        """See `TextDecoder.read`."""
        logits, self._state = self._model.read(self._model.start(self._model.encode()), Tensor(tokens[None]))
        self._rows = Rows(self._state)
        return logits.array.copy()

    def choose(self, rows: IntArray) -> None:
        """See `Decoder.choose`."""
        self._state = self._rows.choose(self._state, rows)


def decoder_of(model: LanguageModel, state: Any, rows: int, int8: bool = False) -> Decoder:
    """The model's own fast decoder, if it has one, or its steps one by one.

    Args:
        model: in evaluation mode.
        state: from `LanguageModel.start`.
        rows: the most hypotheses at a time.
        int8: with weights of 8 bits.

    Raises:
        UserError: ``int8``, and the model has no decoder of its own.
    """
    fused = model.fused_decoder(state, rows, int8=int8)
    if int8 and fused is None:
        raise UserError(
            f"decoding.int8 is for models with a decoder that packs its weights, as the Transformer has, and this "
            f"{type(model).__name__} has none here; leave it out"
        )
    return fused or PlainDecoder(model, state)
