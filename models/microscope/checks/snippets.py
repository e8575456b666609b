"""Snippets of NumPy code that recompute one cell from numbers on the page, ready to paste."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_attn.nn import SCORES, Score

from ..record.arrays import decoded
from ..record.schema import Data, Site, Snippet

__all__ = ["find_snippet", "find_snippets", "render_snippet"]


# The snippets that do not depend on the score: (tensor, part), the code, and for each name in it "tensor part slice".
# "mixture" stands for "mixed" (weights times the Gaussian) if the site has it, else for "weights".
_SHARED: dict[tuple[str, str], tuple[str, dict[str, str]]] = {
    ("weights", "value"): (
        "e = np.exp(e - e[allowed].max()) * allowed\nprint((e / e.sum())[j])",
        {"e": "scores value row", "allowed": "mask mask row", "j": "column index element"},
    ),
    ("scores", "gradient"): (
        "print(a[j] * (da[j] - a @ da))",
        {"a": "weights value row", "da": "weights gradient row", "j": "column index element"},
    ),
    ("mixed", "value"): ("print(a * g)", {"a": "weights value element", "g": "gaussian value element"}),
    ("mixed", "gradient"): ("print(dc @ v)", {"dc": "context gradient query_row", "v": "V value key_row"}),
    ("gaussian", "gradient"): ("print(db * a)", {"db": "mixed gradient element", "a": "weights value element"}),
    ("context", "value"): ("print(a @ v)", {"a": "mixture value query_row", "v": "V value channel"}),
    ("V", "gradient"): ("print(a @ dc)", {"a": "mixture value key_column", "dc": "context gradient channel"}),
    ("weights", "gradient"): (
        "print(dc @ v * g)",
        {"dc": "context gradient query_row", "v": "V value key_row", "g": "gaussian value element"},
    ),
}


def find_snippets(scores: Iterable[str]) -> list[Snippet]:
    """The snippets of these scores, which are defined with them (`tinygrad_attn.nn.SCORES`), and those for all."""
    by_score = {name: SCORES.get(name, Score).snippets for name in dict.fromkeys(scores)}
    found: list[Snippet] = []
    for score, snippets in {**by_score, "any": _SHARED}.items():
        for (tensor, part), (code, needs) in snippets.items():
            snippet: Any = {
                "score": score,
                "tensor": tensor,
                "part": part,
                "needs": {name: wanted.split() for name, wanted in needs.items()},
                "code": code,
            }
            found.append(snippet)
    return found


def find_snippet(site: Site, tensor: str, part: str) -> Snippet | None:
    """The snippet for a tensor of a site; None for an input of the site."""
    if tensor not in site["tensors"]:
        return None
    fits = (found for found in find_snippets([site["score"]]) if (found["tensor"], found["part"]) == (tensor, part))
    return next(fits, None)


def render_snippet(data: Data, site: Site, tensor: str, part: str, cell: tuple[int, int, int]) -> str | None:
    """The code for one cell, with its numbers.

    Args:
        data: the microscope's data.
        site: one of its sites.
        tensor, part: "Q" and "gradient", say.
        cell: head, row and column.

    Returns:
        Python source that prints the cell; None where `find_snippet` gives None, or an array was dropped.
    """
    snippet = find_snippet(site, tensor, part)
    if snippet is None:
        return None
    lines = ["import numpy as np"]
    for name, (of, which, cut) in snippet["needs"].items():
        numbers = _numbers(data, site, of, which, cut, cell)
        if numbers is None:
            return None
        lines.append(f"{name} = {_literal(numbers)}")
    return "\n".join([*lines, snippet["code"]]) + "\n"


def _literal(numbers: Any) -> str:
    listed = np.asarray(numbers).tolist()
    return f"np.array({listed!r})" if isinstance(listed, list) else repr(listed)


def _numbers(data: Data, site: Site, of: str, which: str, cut: str, cell: tuple[int, int, int]) -> Any:
    """The numbers of one name in a snippet; None if their array was dropped."""
    head, row, column = cell
    if of == "scale":
        return site["scale"]
    if of == "column":
        return column
    if of == "mixture":
        of = "mixed" if "mixed" in site["tensors"] else "weights"
    if of == "gaussian" and of not in site["tensors"]:
        return 1.0
    if which == "mask":
        stored = site["mask"]
        if stored is None:
            return np.ones(len(site["keys"]), bool)
        mask = decoded(data["arrays"][stored])
        return mask[head if len(mask) > 1 else 0, row]
    number = site["weights"][of] if which == "weight" else site["tensors"][of][which]  # type: ignore[literal-required]
    if number is None:
        return None
    array = decoded(data["arrays"][number])
    if which == "weight":
        return {
            "all": lambda: array,
            "element": lambda: array[column],
            "key_row": lambda: array[column],
            "channel": lambda: array[:, column],
        }[cut]()
    matrix = array[head]
    return {
        "row": lambda: matrix[row],
        "column": lambda: matrix[:, row],
        "query_row": lambda: matrix[row],
        "key_row": lambda: matrix[column],
        "key_column": lambda: matrix[:, row],
        "channel": lambda: matrix[:, column],
        "element": lambda: matrix[row, column],
    }[cut]()
