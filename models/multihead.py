"""Shared by the models of multi-head attention: what their settings of heads, norms and positions must be."""

from __future__ import annotations

from typing import Protocol, get_args

from tinygrad_attn import nn
from tinygrad_attn.nn.transformer_layers import NormKind

from .setting import ConfigError

__all__ = ["NORMS", "HeadSettings", "check_heads", "rotary_of"]

NORMS: tuple[str, ...] = get_args(NormKind)


class HeadSettings(Protocol):
    """The settings that `check_heads` reads: ``d_model`` wide, ``heads`` of queries, ``kv_heads`` of keys and values
    (0: as many), and how positions are told apart."""

    @property
    def d_model(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def positions(self) -> str: ...


def check_heads(settings: HeadSettings) -> None:
    """Check that the heads share the width evenly, queries the heads of keys, and that rotary positions find pairs.

    Raises:
        ConfigError: they do not.
    """
    d_model, heads = settings.d_model, settings.heads
    if d_model % heads:
        raise ConfigError(
            f"model.heads is {heads}, which does not divide model.d_model {d_model}; the heads share it evenly"
        )
    if settings.kv_heads and heads % settings.kv_heads:
        raise ConfigError(
            f"model.kv_heads is {settings.kv_heads}, which does not divide model.heads {heads}; each is shared by "
            "as many heads"
        )
    if settings.positions == "rotary" and d_model // heads % 2:
        raise ConfigError(
            f"model.positions rotary turns pairs: model.d_model {d_model} / model.heads {heads} must be "
            "even; choose other model.heads"
        )


def rotary_of(d_model: int, heads: int, positions: str) -> nn.RotaryPositionalEncoding | None:
    """What turns the queries and keys of heads; None unless ``positions`` are rotary."""
    return nn.RotaryPositionalEncoding(d_model // heads) if positions == "rotary" else None
