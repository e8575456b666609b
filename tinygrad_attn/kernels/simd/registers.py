"""The kinds of vector registers that processors have, and which of them this machine has."""

from __future__ import annotations

import functools
from typing import NamedTuple

import llvmlite.binding

__all__ = ["KINDS", "Registers", "registers"]


class Registers(NamedTuple):
    feature: str  # LLVM's name of the feature that brings them
    bytes: int  # of one register
    number: int  # of them that a program can name


KINDS = (  # from the widest down; every x86-64 processor has the last
    Registers("avx512f", 64, 32),
    Registers("avx2", 32, 16),
    Registers("neon", 16, 32),
    Registers("sse2", 16, 16),
)


@functools.cache
def registers() -> Registers:
    """The widest kind on this machine."""
    features = llvmlite.binding.get_host_cpu_features()
    return next((kind for kind in KINDS if features.get(kind.feature)), KINDS[-1])
