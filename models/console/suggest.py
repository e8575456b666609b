"""Suggestions for a mistyped name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["hint", "nearest"]

# A word of a quarter of a million letters is no misspelling, and comparing it takes long.
_LONGEST = 100


def nearest(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The ``count`` names most like ``word``, whatever the case, the likest first; none if none is like it."""
    names = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word[:_LONGEST].casefold(), names, n=count)
    return [names[name] for name in found]


def hint(word: str, known: Iterable[str], count: int = 1) -> str:
    """``did you mean X?``, or a list of all names if none is like ``word``."""
    names = list(known)
    near = nearest(word, names, count)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
