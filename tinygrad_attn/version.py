"""The version of the package."""

from importlib import metadata

__all__ = ["__version__"]

try:
    __version__ = metadata.version("tinygrad-attn")
except metadata.PackageNotFoundError:
    __version__ = "0+checkout"
"""The version that is installed; ``0+checkout`` in a checkout that is not."""
