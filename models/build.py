"""From the config's model section to a model."""

from __future__ import annotations

from typing import Any

from tinygrad_attn.tensor import default_dtype

from .bahdanau import Bahdanau
from .config import ModelConfig
from .interface import Translator

__all__ = ["build_model"]


def build_model(settings: ModelConfig, source_size: int, target_size: int, dtype: Any = default_dtype) -> Translator:
    """A new model, its parameters drawn from the package's generator (see `tinygrad_attn.manual_seed`).

    Args:
        settings: which model, and its sizes.
        source_size, target_size: the numbers of symbols of the two tokenizers.
        dtype: of all parameters.
    """
    return Bahdanau(
        source_size,
        target_size,
        embedding_size=settings.embedding_size,
        hidden_size=settings.hidden_size,
        dropout=settings.dropout,
        dtype=dtype,
    )
