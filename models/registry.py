"""MODELS, the registry of models by name, and import_file, which adds a user's own file.

A model is one file:

    @dataclass(frozen=True)
    class MeanSettings(ModelSettings):
        name: str = constant("mean")
        hidden_size: int = setting(64, "width of the states", minimum=1)

    @register_model(MeanSettings)
    class Mean(Translator):
        def __init__(self, source_size, target_size, hidden_size, dtype): ...

Then ``[model] name = "mean"`` in a config chooses it, and the config's model section has the settings of that class.
All files of this folder are imported; others are named with ``--import FILE``, or in a config with
``import = ["FILE"]``. Such a file may also define ops, attention scores, tasks and tokenizers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tinygrad_attn.registry import Registry

from .interface import LanguageModel, ModelSettings, Translator
from .setting import ConfigError

__all__ = ["IMPORTED", "MODELS", "import_file", "register_model"]

MODELS: Registry[type[LanguageModel]] = Registry("model", package=__package__)

M = TypeVar("M", bound=type[LanguageModel])


def register_model(settings: type[ModelSettings]) -> Callable[[M], M]:
    """A decorator that registers a model's class under the name in its settings.

    Args:
        settings: a frozen dataclass, whose ``name`` is ``constant(...)``.

    Raises:
        ValueError: the settings have no name, or another model has the same.
    """
    name = next(field.default for field in dataclasses.fields(settings) if field.name == "name")
    if not name:
        raise ValueError(f'{settings.__name__} has no name: give it the field name: str = constant("...")')

    def register(model: M) -> M:
        model.Settings = settings
        settings.reads = "pairs" if issubclass(model, Translator) else "text"
        MODELS.register(str(name))(model)
        return model

    return register


IMPORTED: dict[str, str] = {}
"""The SHA-256 of each file that `import_file` has run, by its absolute path."""


def import_file(path: str | os.PathLike[str]) -> str:
    """Run a user's Python file, which registers what it defines; run it again only if it has changed.

    Returns:
        Its absolute path.

    Raises:
        ConfigError: the file cannot be read, or raises; the message names the file, the line and the error.
    """
    file = Path(os.path.realpath(os.path.expanduser(path)))
    try:
        fingerprint = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be imported: {error.strerror}") from error
    if IMPORTED.get(str(file)) == fingerprint:
        return str(file)
    # Two files of the same name are two modules; the same file, changed, replaces its earlier registrations.
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} cannot be imported: it is no Python file, whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{file} cannot be imported: {_line(error, file)}{type(error).__name__}: {error}") from error
    IMPORTED[str(file)] = fingerprint
    return str(file)


def _line(error: BaseException, file: Path) -> str:
    """``line N: ``, the file's line that raised; empty if unknown, or if the error's own message has it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"line {lines[-1]}: " if lines else ""
