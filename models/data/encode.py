"""Cuts pairs and texts into symbols, a few thousand sentences at a time; large ones once, into files of the cache."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..console.working import working
from .cache import Damaged, kept, key_of
from .corpus import DataError, Fingerprint, LongText, Pair
from .file_text import MANY_CHARACTERS, beginning, pieces
from .ids import CHUNK, Examples, IdWriter, IntArray, id_type
from .ids_file import read_ids, write_ids
from .lines import batched
from .tokenizer import Tokenizer, code_of, encode_all

__all__ = ["MANY_PAIRS", "encode_pairs", "encode_text"]

MANY_PAIRS = 100_000
"""From so many pairs on their ids are kept on disk; fewer are cut anew each time, in a second or two."""
_LOOKED_AT = 64  # pairs of a file of the cache that are cut once more


def encode_pairs(pairs: Sequence[Pair], source: Tokenizer, target: Tokenizer) -> Examples:
    """Each pair's ids, without control symbols: of `MANY_PAIRS` and more in a file that is mapped into memory.

    Raises:
        DataError: a tokenizer gives an id beyond its size.
    """

    def write(writer: IdWriter) -> None:
        with working("cutting pairs into symbols", len(pairs)) as advance:
            for chunk in batched(pairs, CHUNK):
                sources, targets = zip(*chunk, strict=True)
                sides = _encoded(source, sources), _encoded(target, targets)
                writer.add(list(itertools.chain.from_iterable(zip(*sides, strict=True))))
                advance(len(chunk))

    def check(ids: IntArray, lengths: IntArray) -> None:
        examples = _examples(ids, lengths)
        if len(examples) != len(pairs):
            raise Damaged("it has other pairs")
        step = max(1, len(pairs) // _LOOKED_AT)
        for one, (source_text, target_text) in zip(examples[::step], pairs[::step], strict=True):
            if one != (list(source.encode(source_text)), list(target.encode(target_text))):
                raise Damaged("a tokenizer cuts its text otherwise now")

    made_from = Fingerprint.of(pairs) if len(pairs) >= MANY_PAIRS else None
    return _examples(*_ids(made_from, [source, target], write, check))


def encode_text(text: str | LongText, tokenizer: Tokenizer, name: str) -> IntArray:
    """The ids of a text: of `MANY_CHARACTERS` and more in a file that is mapped into memory.

    Args:
        name: of the text, in messages.

    Raises:
        DataError: the tokenizer gives an id beyond its size.
    """

    def write(writer: IdWriter) -> None:
        with working(f"cutting {name} into symbols", len(text)) as advance:
            for piece in pieces(text):
                writer.add(_encoded(tokenizer, [piece]))
                advance(len(piece))

    def check(ids: IntArray, lengths: IntArray) -> None:
        found = list(tokenizer.encode(beginning(text)))
        if ids[: len(found)].tolist() != found:
            raise Damaged("the tokenizer cuts its text otherwise now")

    made_from = Fingerprint.of_text(text) if len(text) >= MANY_CHARACTERS else None
    return _ids(made_from, [tokenizer], write, check)[0]


def _examples(ids: IntArray, lengths: IntArray) -> Examples:
    return Examples(ids, lengths.reshape(-1, 2))


def _ids(
    made_from: Fingerprint | None,
    tokenizers: Sequence[Tokenizer],
    write: Callable[[IdWriter], None],
    check: Callable[[IntArray, IntArray], None],
) -> tuple[IntArray, IntArray]:
    """What ``write`` writes, the ids and the lengths of sentences: in the cache, or without ``made_from`` in memory."""
    dtype = id_type(max(map(len, tokenizers)))

    def read(path: Any) -> tuple[IntArray, IntArray]:
        found = read_ids(path)
        check(*found)
        return found

    if made_from is not None:
        cut = [[tokenizer.to_dict(), code_of(type(tokenizer))] for tokenizer in tokenizers]
        name = f"ids-{key_of(dataclasses.asdict(made_from), cut)}.safetensors"
        if (found := kept(name, lambda path: write_ids(path, dtype, write), read)) is not None:
            return found
    writer = IdWriter(io.BytesIO(), dtype)
    write(writer)
    return writer.ids(), writer.lengths()


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """The ids of each text, all of which the tokenizer may give."""
    found = encode_all(tokenizer, texts)
    low, high = 0, 0
    for ids in found:
        if len(ids):
            low, high = min(low, min(ids)), max(high, max(ids))
    if low < 0 or high >= len(tokenizer):
        raise DataError(
            f"the tokenizer {tokenizer.name!r} gave the id {low if low < 0 else high}, and its ids are 0 to "
            f"{len(tokenizer) - 1}: encode and len do not fit each other"
        )
    return found
