"""@quiet: NumPy's warnings off in a function of arrays."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

__all__ = ["quiet"]

P = ParamSpec("P")
R = TypeVar("R")

_without_warnings = contextvars.copy_context()
_without_warnings.run(np.seterr, all="ignore")


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator of a function of arrays: inf and nan are ordinary results, without NumPy's warnings.

    ``np.errstate`` does the same in twice the time, and a Ctrl-C before its ``__exit__`` would leave warnings off.
    """

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        return _without_warnings.copy().run(function, *arguments, **options)

    return run
