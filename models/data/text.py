"""The text task: any text file, for language models. Its beginning is for training, its end for measuring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..setting import ConfigError, constant, setting
from .corpus import DataError, PlainText
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
        text = read_text(self.file)
        train, valid = (int(len(text) * share) for share in (1 - self.valid_share - self.test_share, self.valid_share))
        splits = text[:train], text[train : train + valid] if self.test_share else text[train:], text[train + valid :]
        path = Path(self.file)
        found = PlainText(path.stem, *splits[:2], splits[2] if self.test_share else "", str(path))
        if not (found.train and found.valid and (found.test or not self.test_share)):
            raise DataError(f"{path} has {len(text):,} characters, too few for training and validation")
        return found


def read_text(file: str | Path) -> str:
    r"""The text of a UTF-8 file; a byte order mark is left out, and ``\r\n`` becomes ``\n``.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    path = Path(file).expanduser()
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a text file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}, is not UTF-8 (byte {error.start + 1} is 0x{content[error.start]:02x}); save it as "
            "UTF-8"
        ) from error
