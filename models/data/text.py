"""The text task: any text file, for language models. Its beginning is for training, its end for measuring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..setting import ConfigError, constant, setting
from .corpus import DataError, PlainText
from .file_text import MANY_CHARACTERS, FileText, blocks
from .task import TextTask, register_task

__all__ = ["Text", "read_text"]


@register_task
@dataclass(frozen=True)
class Text(TextTask):
    """A text from a file."""

    kind: str = constant("text")
    file: str = setting("", "the text file, UTF-8")
    valid_share: float = setting(0.1, "the share of the text, at its end, for validation", above=0, below=1)
    test_share: float = setting(0.0, "the share after that, for testing; 0 sets none aside", minimum=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.file:
            raise ConfigError("data.kind is 'text', which needs data.file too; give the file with --data")
        if self.valid_share + self.test_share >= 1:
            raise ConfigError(
                f"data.valid_share {self.valid_share:g} and data.test_share {self.test_share:g} leave nothing to train "
                "on; lower them"
            )

    def load(self) -> PlainText:
        """The file's text, cut in the order of time: what is measured comes after what is trained on.

        Raises:
            DataError: the file cannot be read, is not UTF-8, or has too little text.
        """
        path, place = Path(self.file), Path(os.path.expanduser(self.file))
        text = FileText.whole(place) if place.is_file() else read_text(place)  # a pipe can be read but once
        size = len(text)
        train, valid = (int(size * share) for share in (1 - self.valid_share - self.test_share, self.valid_share))
        test = train + valid if self.test_share else size
        splits = [_part(text, *ends) for ends in ((0, train), (train, test), (test, size))]
        found = PlainText(path.stem, splits[0], splits[1], splits[2], str(path))
        if not (found.train and found.valid and (found.test or not self.test_share)):
            raise DataError(f"{path} has {size:,} characters, too few for training and validation")
        return found


def _part(text: str | FileText, first: int, last: int) -> str | FileText:
    """A part of a text; of a long one in a file it is not held."""
    if isinstance(text, str):
        return text[first:last]
    part = text.part(first, last)
    return part if len(text) >= MANY_CHARACTERS and part else "".join(part)


def read_text(file: str | Path) -> str:
    r"""The text of a UTF-8 file; a byte order mark is left out, and ``\r\n`` becomes ``\n``.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    return "".join(blocks(Path(os.path.expanduser(file))))
