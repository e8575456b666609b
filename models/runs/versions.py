"""The versions that a run's numbers depend on."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from tinygrad_attn import __version__

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on, besides config and seed."""
    packages = {name: metadata.version(name) for name in ("numpy", "numba")} | {"tinygrad-attn": __version__}
    return {"python": platform.python_version(), **packages, "machine": platform.platform(), "commit": _commit()}


def _commit() -> str:
    """The commit of the source, marked if the source has changes; empty if it is in no repository."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 10}
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], **options)
        return subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], **options
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
