"""The version of the package; the build takes it from here, and an import need not search for what is installed."""

__all__ = ["__version__"]

__version__ = "0.2.0"
