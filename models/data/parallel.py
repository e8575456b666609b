"""Parallel text from files: sentences and their translations, in three splits.

A folder holds six files, named by split and language: ``train.ko`` beside ``train.en``, so too ``valid`` and ``test``.
Line *n* of one file translates line *n* of the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..setting import ConfigError, constant, setting
from .corpus import SPLITS, DataError, ParallelText
from .file_pairs import FilePairs
from .task import Task, register_task

__all__ = ["Parallel", "read_parallel_text"]


@register_task
@dataclass(frozen=True)
class Parallel(Task):
    """Parallel text from files."""

    kind: str = constant("parallel")
    directory: str = setting("", "the folder of the parallel text")
    source: str = setting("", "the source language: the ending of its files")
    target: str = setting("", "the target language: the ending of its files")
    train_size: int = setting(
        0, "read so many training pairs, spread evenly over the files; 0 reads all", minimum=0, affects="training"
    )
    valid_size: int = setting(0, "the same for validation", minimum=0)
    test_size: int = setting(0, "the same for testing", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        files = {"directory": self.directory, "source": self.source, "target": self.target}
        missing = [f"data.{name}" for name, value in files.items() if not value]
        if missing:
            hint = "; give the folder with --data" if "data.directory" in missing else ""
            raise ConfigError(f"data.kind is 'parallel', which needs {' and '.join(missing)} too{hint}")

    def load(self) -> ParallelText:
        """See `read_parallel_text`."""
        return self._load(SPLITS)

    def load_only(self, split: str) -> ParallelText:
        """See `BaseTask.load_only`."""
        return self._load([split])

    def _load(self, splits: Sequence[str]) -> ParallelText:
        sizes = {split: getattr(self, f"{split}_size") for split in splits}
        return _read(self.directory, self.source, self.target, sizes)


def read_parallel_text(
    directory: str | os.PathLike[str], source: str, target: str, splits: Sequence[str] = SPLITS
) -> ParallelText:
    """Read ``train``, ``valid`` and ``test`` pairs from ``directory``; the data's name is the folder's.

    Splits that are not among ``splits`` are not read, and have no pairs.

    Files are UTF-8, with or without a byte order mark. Lines end at ``\\n`` or ``\\r\\n`` and nowhere else: a Unicode
    line separator inside a sentence stays there. White space around a sentence is removed. Pairs with an empty side are
    skipped and counted.

    The files are read once now, to find that they are whole, and again whenever pairs are asked for (see `FilePairs`).

    Raises:
        DataError: the folder or a file is missing, a file is not UTF-8, the two files of a split differ in their number
            of lines, or a split has no pair with text on both sides.
    """
    return _read(directory, source, target, dict.fromkeys(splits, 0))


def _read(directory: str | os.PathLike[str], source: str, target: str, sizes: Mapping[str, int]) -> ParallelText:
    """`read_parallel_text`, so many pairs of each split; 0 for all."""
    if source == target:
        raise DataError(f"source and target are both {source!r}; name two languages, as in train.ko and train.en")
    folder = Path(os.path.expanduser(directory))
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        first = next(iter(sizes))
        raise DataError(f"{folder}: {problem}; name a folder that holds {first}.{source}, {first}.{target} and so on")
    read = {
        split: FilePairs(*(_found(folder / f"{split}.{language}") for language in (source, target))) for split in sizes
    }
    pairs = {split: found.spread(sizes[split]) for split, found in read.items()}
    return ParallelText(
        name=Path(os.path.realpath(folder)).name,
        source_language=source,
        target_language=target,
        train=pairs.get("train", []),
        valid=pairs.get("valid", []),
        test=pairs.get("test", []),
        skipped={split: found.skipped for split, found in read.items()},
        lines={split: found.lines for split, found in pairs.items()},
        directory=str(folder),
    )


def _found(path: Path) -> Path:
    """The file of this name, which is read more than once."""
    if not path.exists():
        raise DataError(f"{path} does not exist; {_contents(path.parent)}")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is no file but a pipe or a device, and text is read more than once; copy it to a file")
    return path


def _contents(folder: Path, shown: int = 12) -> str:
    """The names of the files in a folder, for an error message."""
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"the folder has {', '.join(names[:shown])}{more}"
