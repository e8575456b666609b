"""Parallel text from files: sentences and their translations, in three splits.

A folder holds six files, named by split and language: ``train.ko`` beside ``train.en``, so too ``valid`` and ``test``.
Line *n* of one file translates line *n* of the other.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..console.counts import counted
from ..console.working import worked_off
from ..setting import ConfigError, constant, setting
from .corpus import SPLITS, DataError, Pair, ParallelText
from .lines import file_lines
from .task import Task, register_task

__all__ = ["Parallel", "read_parallel_text"]

T = TypeVar("T")


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
        text = read_parallel_text(self.directory, self.source, self.target)
        sizes = {split: getattr(self, f"{split}_size") for split in SPLITS}
        pairs: dict[str, Any] = {split: _spread(getattr(text, split), size) for split, size in sizes.items()}
        lines = {split: _spread(text.lines[split], size) for split, size in sizes.items()}
        return dataclasses.replace(text, lines=lines, **pairs)


def read_parallel_text(
    directory: str | os.PathLike[str], source: str, target: str, splits: Sequence[str] = SPLITS
) -> ParallelText:
    """Read ``train``, ``valid`` and ``test`` pairs from ``directory``; the data's name is the folder's.

    Splits that are not among ``splits`` are not read, and have no pairs.

    Files are UTF-8, with or without a byte order mark. Lines end at ``\\n`` or ``\\r\\n`` and nowhere else: a Unicode
    line separator inside a sentence stays there. White space around a sentence is removed. Pairs with an empty side are
    skipped and counted.

    Raises:
        DataError: the folder or a file is missing, a file is not UTF-8, the two files of a split differ in their number
            of lines, or a split has no pair with text on both sides.
    """
    if source == target:
        raise DataError(f"source and target are both {source!r}; name two languages, as in train.ko and train.en")
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"{folder}: {problem}; name a folder that holds {splits[0]}.{source}, {splits[0]}.{target} and so on"
        )
    pairs: dict[str, list[Pair]] = {}
    skipped: dict[str, int] = {}
    lines: dict[str, list[int]] = {}
    for split in splits:
        paths = folder / f"{split}.{source}", folder / f"{split}.{target}"
        pairs[split], lines[split], skipped[split] = _read_split(*paths)
    return ParallelText(
        name=Path(os.path.realpath(folder)).name,
        source_language=source,
        target_language=target,
        train=pairs.get("train", []),
        valid=pairs.get("valid", []),
        test=pairs.get("test", []),
        skipped=skipped,
        lines=lines,
        directory=str(folder),
    )


def _spread(items: list[T], size: int) -> list[T]:
    """So many items, or all if ``size`` is 0 or more than there are: files are often sorted, so not just the first."""
    return items if not 0 < size < len(items) else [items[i * len(items) // size] for i in range(size)]


def _read_split(source_path: Path, target_path: Path) -> tuple[list[Pair], list[int], int]:
    """The pairs with text on both sides, the numbers of their lines, and how many pairs are not among them."""
    sources, targets = _read_lines(source_path), _read_lines(target_path)
    if len(sources) != len(targets):
        raise DataError(
            f"{source_path} has {counted(len(sources), 'line')} and {target_path} has {counted(len(targets), 'line')}; "
            f"line n of one must translate line n of the other"
        )
    both = zip(sources, targets, strict=True)
    kept = [number for number, (source, target) in enumerate(both, 1) if source and target]
    if not kept:
        found = (
            "are empty" if not sources else f"have no pair with text on both sides in {counted(len(sources), 'line')}"
        )
        raise DataError(f"{source_path} and {target_path} {found}; at least one pair is needed")
    return [(sources[number - 1], targets[number - 1]) for number in kept], kept, len(sources) - len(kept)


def _read_lines(path: Path) -> list[str]:
    """The stripped lines of a UTF-8 file."""
    if not path.exists():
        raise DataError(f"{path} does not exist; {_contents(path.parent)}")
    return list(worked_off(file_lines(path), f"reading {path}"))


def _contents(folder: Path, shown: int = 12) -> str:
    """The names of the files in a folder, for an error message."""
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "the folder is empty"
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return f"the folder has {', '.join(names[:shown])}{more}"
