"""The kinds of registers that processors have, and which of them numba compiles for."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import llvmlite.binding as llvm
from numba.core import config
from numba.core.codegen import get_host_cpu_features

__all__ = ["KINDS", "Registers", "has_tiles", "registers", "registers_of", "target"]


class Registers(NamedTuple):
    kind: str
    bytes: int  # of one register
    number: int  # of them that a program can name
    letters: str  # with which their names begin in assembly


KINDS = (  # from the widest down; every x86-64 processor has the last
    Registers("AVX-512", 64, 32, "zmm"),
    Registers("AVX", 32, 16, "ymm"),
    Registers("NEON", 16, 32, "v"),
    Registers("SSE", 16, 16, "xmm"),
)


@functools.cache
def registers() -> Registers:
    """The kind that numba compiles for: this machine's, unless NUMBA_CPU_NAME, NUMBA_CPU_FEATURES or NUMBA_ENABLE_AVX
    say otherwise."""
    cpu, features, triple = target()
    if config.CPU_NAME is None and config.CPU_FEATURES is None and triple.startswith("x86_64"):
        return _of_all_features(features)
    return registers_of(cpu, features, triple)


def _of_all_features(features: str) -> Registers:
    """Those of an x86-64 processor whose features are all listed, as LLVM lists those of the machine that it runs on;
    at a tenth of the time of `registers_of`."""
    names = features.split(",")
    widest = "AVX-512" if "+avx512f" in names else "AVX" if "+avx" in names else "SSE"
    return next(kind for kind in KINDS if kind.kind == widest)


def target() -> tuple[str, str, str]:
    """The processor that numba compiles for, its features, and the kind of machine, as `registers_of` takes them."""
    llvm.initialize_native_target()  # numba has not, under NUMBA_DISABLE_JIT=1
    llvm.initialize_native_asmprinter()
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return config.CPU_NAME or llvm.get_host_cpu_name(), features, llvm.get_process_triple()


@functools.cache
def has_tiles() -> bool:
    """Whether numba compiles for AMX's tiles of bfloat16, beside vectors of 512 bits."""
    return registers().kind == "AVX-512" and {"+amx-tile", "+amx-bf16"} <= set(target()[1].split(","))


def registers_of(cpu: str, features: str, triple: str) -> Registers:
    """The widest kind that LLVM uses for a processor.

    It is read in the assembly of an addition. A list of features does not tell: the name of a processor implies
    features too, and on Apple's processors LLVM lists none.

    Args:
        cpu: LLVM's name of the processor, as in ``llc -mcpu``.
        features: those it has beside, or lacks, as in ``llc -mattr``: ``+avx2,-avx512f``.
        triple: the kind of machine, ``aarch64-linux-gnu`` for example.
    """
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=0)
    addition = llvm.parse_assembly(
        f'target triple = "{triple}"\n'
        "define <16 x float> @add(<16 x float> %x) {\n  %y = fadd <16 x float> %x, %x\n  ret <16 x float> %y\n}\n"
    )
    assembly = machine.emit_assembly(addition)
    return next((kind for kind in KINDS if re.search(rf"\b{kind.letters}\d", assembly)), KINDS[-1])
