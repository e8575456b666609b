"""The text of a translation; an unknown symbol may be replaced by the piece of the source that it attends to most.

Luong, Sutskever, Le, Vinyals and Zaremba, "Addressing the Rare Word Problem in Neural Machine Translation", 2015: names
and numbers that the model does not know are mostly the same in both languages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..console.errors import UserError
from ..data import UNKNOWN, Tokenizer
from ..interface import Translator
from ..runs.config import DecodingConfig
from .alignment import Alignment, align

__all__ = ["Detokenizer"]


class Detokenizer:
    """Makes texts of translations as ``decoding.unknown`` says.

    Args:
        model: in evaluation mode.
        source, target: its tokenizers.
        settings: of decoding.

    Raises:
        UserError: the setting is "replace", and the model has no attention.
    """

    def __init__(self, model: Translator, source: Tokenizer, target: Tokenizer, settings: DecodingConfig) -> None:
        self.model = model
        self.source = source
        self.target = target
        self.replaces = settings.unknown == "replace"
        if self.replaces and not align(model, source, target, [UNKNOWN], []).weights:
            raise UserError(
                "decoding.unknown is 'replace', which takes the source word that <unk> attends to, but this model has "
                "no attention; choose keep or forbid"
            )

    def text(self, source: str, translation: Sequence[int]) -> str:
        """The text of ``translation`` (ids without ``</s>``), which translates the text ``source``, not empty."""
        if not self.replaces or UNKNOWN not in translation:
            return self.target.decode(translation)
        return self._joined(self.alignment(source, translation))

    def aligned(self, source: str, translation: Sequence[int]) -> tuple[str, Alignment]:
        """The text of a translation, and its `alignment`."""
        found = self.alignment(source, translation)
        return (self._joined(found) if self.replaces else self.target.decode(translation)), found

    def alignment(self, source: str, translation: Sequence[int]) -> Alignment:
        """The attention weights of a translation, between the pieces of the text ``source`` and the symbols as shown.

        An unknown piece of the source stands there as it was written, and one of the translation as it is replaced.
        """
        found = align(self.model, self.source, self.target, self.source.encode(source), translation)
        pieces, symbols = self.source.pieces(source), list(found.target)
        if self.replaces:
            attended = found.attended()
            for place, token in enumerate(translation):
                if token == UNKNOWN:
                    symbols[place] = pieces[attended[place]]
        return dataclasses.replace(found, source=pieces, target=symbols)

    def _joined(self, alignment: Alignment) -> str:
        return self.target.join(list(alignment.target)[:-1])
