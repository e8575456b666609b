"""The version of the package.

The build reads it from this file, and an import need not search the installed packages for it.
"""

__all__ = ["__version__"]

__version__ = "0.2.0"
