"""The version of this package, without the imports that using it takes."""

from __future__ import annotations

from importlib import metadata

__all__ = ["version"]


def version() -> str:
    """The version that is installed; ``0+checkout`` for a checkout that is not."""
    try:
        return metadata.version("tinygrad-attn")
    except metadata.PackageNotFoundError:
        return "0+checkout"
