"""Check it yourself: NumPy code that computes one cell again from numbers that the page shows, ready to paste."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..record.arrays import decoded
from ..record.formulas import cell_formulas
from ..record.schema import Data, Site, Snippet

__all__ = ["SNIPPETS", "find_snippet", "render_snippet"]

_PRODUCTS = ("dot", "general", "scaled_dot")
_ADDITIVE = ("additive", "concat")


def _needs(**names: str) -> dict[str, list[str]]:
    """Names to "tensor part slice"."""
    return {name: wanted.split() for name, wanted in names.items()}


def _snippets() -> list[Snippet]:
    found: list[Snippet] = []

    def add(score: str, tensor: str, part: str, code: str, **needs: str) -> None:
        formulas = cell_formulas("additive" if score == "any" else score, tensor in ("gaussian", "mixed"))
        latex = formulas.get(tensor, ("", ""))[part == "gradient"]
        found.append(
            {
                "score": score, "tensor": tensor, "part": part, "needs": _needs(**needs),  # type: ignore[typeddict-item]
                "code": code, "latex": latex,
            }
        )  # fmt: skip

    for score in _PRODUCTS:
        scaled = score.startswith("scaled")
        times, needs = (" * s", {"s": "scale value element"}) if scaled else ("", {})
        add(score, "scores", "value", f"print(q @ k{times})", q="Q value query_row", k="K value key_row", **needs)
        add(score, "Q", "gradient", f"print(de @ K{times})", de="scores gradient row", K="K value channel", **needs)
        add(score, "K", "gradient", f"print(de @ Q{times})", de="scores gradient column", Q="Q value channel", **needs)
    for score in _ADDITIVE:
        slope = "v * (1 - np.tanh(q + k) ** 2)"
        add(
            score, "scores", "value", "print(v @ np.tanh(q + k))",
            q="Q value query_row", k="K value key_row", v="v weight all",
        )  # fmt: skip
        add(
            score, "Q", "gradient", f"print(np.sum(de * {slope}))",
            de="scores gradient row", q="Q value element", k="K value channel", v="v weight element",
        )  # fmt: skip
        add(
            score, "K", "gradient", f"print(np.sum(de * {slope}))",
            de="scores gradient column", q="Q value channel", k="K value element", v="v weight element",
        )  # fmt: skip
    add("location", "scores", "value", "print(w @ q)", w="W weight key_row", q="Q value query_row")
    add("location", "Q", "gradient", "print(de @ w[: len(de)])", de="scores gradient row", w="W weight channel")
    add(
        "any", "weights", "value", "e = np.exp(e - e[m].max()) * m\nprint((e / e.sum())[j])",
        e="scores value row", m="mask mask row", j="column index element",
    )  # fmt: skip
    add(
        "any", "scores", "gradient", "print(a[j] * (da[j] - a @ da))",
        a="weights value row", da="weights gradient row", j="column index element",
    )  # fmt: skip
    add("any", "mixed", "value", "print(a * g)", a="weights value element", g="gaussian value element")
    add("any", "mixed", "gradient", "print(dc @ v)", dc="context gradient query_row", v="V value key_row")
    add("any", "gaussian", "gradient", "print(dm * a)", dm="mixed gradient element", a="weights value element")
    # With local-p the mixture is of weights times the Gaussian; the page takes "mixed" for "mixture" where there is
    # one, else "weights".
    add("any", "context", "value", "print(a @ v)", a="mixture value query_row", v="V value channel")
    add("any", "V", "gradient", "print(a @ dc)", a="mixture value key_column", dc="context gradient channel")
    add(
        "any", "weights", "gradient", "print(dc @ v * g)",
        dc="context gradient query_row", v="V value key_row", g="gaussian value element",
    )  # fmt: skip
    return found


SNIPPETS: list[Snippet] = _snippets()


def find_snippet(site: Site, tensor: str, part: str) -> Snippet | None:
    """The snippet for a tensor of a site; None for what is an input there, or comes from elsewhere."""
    if tensor not in site["tensors"]:
        return None
    fits = (s for s in SNIPPETS if s["tensor"] == tensor and s["part"] == part and s["score"] in ("any", site["score"]))
    return next(fits, None)


def render_snippet(data: Data, site: Site, tensor: str, part: str, cell: tuple[int, int, int]) -> str | None:
    """The code for one cell, numbers and all.

    Args:
        data: all of it.
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
    """What a need stands for; None if its array was dropped."""
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
