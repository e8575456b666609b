"""Files that no package holds, as modules: scripts beside the tests, and a user's own files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

FUZZ = Path(__file__).parents[1] / "fuzz"


def module_from(path: Path) -> Any:
    """Run a Python file and return it as a module, which dataclasses then find by its name."""
    name = f"{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
