"""Data as JSON lines in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinygrad_attn.atomic import atomic_path
from tinygrad_attn.contexts import context

__all__ = ["json_lines"]


@context
def json_lines(path: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes JSON lines to a file, which is there when the block ends; without a path nothing."""
    if path is None:
        yield lambda record: None
        return
    with atomic_path(Path(path)) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        yield lambda record: print(json.dumps(record, ensure_ascii=False), file=file)
