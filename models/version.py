"""The version of the package, read without importing the engine."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

__all__ = ["version"]


def version() -> str:
    """``tinygrad_attn.__version__``, read from the file that defines it without importing the engine."""
    engine = importlib.util.find_spec("tinygrad_attn")
    assert engine is not None and engine.origin is not None
    return runpy.run_path(str(Path(engine.origin).with_name("version.py")))["__version__"]
