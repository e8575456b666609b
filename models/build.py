"""From the config's model section to a model."""

from __future__ import annotations

from typing import Any

from tinygrad_attn.tensor import default_dtype

from .bahdanau import Bahdanau
from .interface import Translator
from .luong import Luong
from .runs.config import ModelConfig
from .seq2seq import Seq2Seq
from .transformer import Transformer

__all__ = ["build_model"]


def build_model(settings: ModelConfig, source_size: int, target_size: int, dtype: Any = default_dtype) -> Translator:
    """A new model, its parameters drawn from the package's generator (see `tinygrad_attn.manual_seed`).

    Args:
        settings: which model, and its sizes.
        source_size, target_size: the numbers of symbols of the two tokenizers.
        dtype: of all parameters.

    Raises:
        ValueError: sizes that do not fit the settings, such as two vocabularies for a shared embedding.
    """
    if settings.name == "transformer":
        return Transformer(
            source_size,
            target_size,
            d_model=settings.d_model,
            heads=settings.heads,
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            d_ff=settings.d_ff,
            positions=settings.positions,
            max_length=settings.max_length,
            tied_output=settings.tied_output,
            shared_embeddings=settings.shared_embeddings,
            dropout=settings.dropout,
            dtype=dtype,
        )
    sizes = (source_size, target_size, settings.embedding_size, settings.hidden_size)
    if settings.name == "bahdanau":
        return Bahdanau(*sizes, dropout=settings.dropout, dtype=dtype)
    layers, cell = settings.layers, settings.cell
    if settings.name == "seq2seq":
        return Seq2Seq(*sizes, layers=layers, cell=cell, dropout=settings.dropout, dtype=dtype)
    return Luong(
        *sizes,
        layers=layers,
        cell=cell,
        score=settings.score,
        attention=settings.attention,
        window=settings.window,
        input_feeding=settings.input_feeding,
        max_length=settings.max_length,
        dropout=settings.dropout,
        dtype=dtype,
    )
