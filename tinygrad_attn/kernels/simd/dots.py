"""Sums of products of small integers: which instructions a processor has for them, and how they are emitted.

Each 32-bit sum of a vector gets a few products at once, of elements that adjoin. What LLVM finds by itself on every
processor are pairs, of 16 bits by 8; where there is an instruction for four products of 8 bits by 8 it is named.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils

from tinygrad_attn.kernels.simd.registers import target

__all__ = ["PAIRS", "SDOT", "VNNI", "Dots", "dots", "dots_of", "emit_dots"]


class Dots(NamedTuple):
    name: str
    group: int  # products that a sum gets at once
    bits: int  # of an element of the left operand; one of the right has 8
    shift: int  # added to the left operand, which is taken without a sign


PAIRS = Dots("pairs", 2, 16, 0)
VNNI = Dots("VNNI", 4, 8, 128)  # Intel since 2019, AMD since 2022
SDOT = Dots("SDOT", 4, 8, 0)  # ARM since 2018: Apple silicon, Graviton 2

# Functions for which LLVM chooses the instructions that come with those of 8 bits.
_PROBE = """
define <4 x i32> @pairs(<4 x i32> %s, <8 x i16> %x, <8 x i16> %y) {
  %a = sext <8 x i16> %x to <8 x i32>
  %b = sext <8 x i16> %y to <8 x i32>
  %p = mul nsw <8 x i32> %a, %b
  %e = shufflevector <8 x i32> %p, <8 x i32> undef, <4 x i32> <i32 0, i32 2, i32 4, i32 6>
  %o = shufflevector <8 x i32> %p, <8 x i32> undef, <4 x i32> <i32 1, i32 3, i32 5, i32 7>
  %t = add <4 x i32> %e, %o
  %r = add <4 x i32> %s, %t
  ret <4 x i32> %r
}
define i32 @fours(<16 x i8> %x, <16 x i8> %y) {
  %a = sext <16 x i8> %x to <16 x i32>
  %b = sext <16 x i8> %y to <16 x i32>
  %p = mul nsw <16 x i32> %a, %b
  %r = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %p)
  ret i32 %r
}
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
"""


@functools.cache
def dots() -> Dots:
    """Those of the processor that numba compiles for."""
    return PAIRS if numba.config.DISABLE_JIT else dots_of(*target())


def dots_of(cpu: str, features: str, triple: str) -> Dots:
    """The widest that a processor has, read in the assembly of a sum of products; arguments as of
    `tinygrad_attn.kernels.simd.registers.registers_of`."""
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=3)
    assembly = machine.emit_assembly(llvm.parse_assembly(f'target triple = "{triple}"\n{_PROBE}'))
    found = {"vpdpwssd": VNNI, "sdot": SDOT}
    return next((kind for name, kind in found.items() if re.search(rf"\b{name}\b", assembly)), PAIRS)


def emit_dots(builder: ir.IRBuilder, kind: Dots, sums: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """The sums, a vector of 32 bits, plus the products of the elements that adjoin in each lane.

    ``left`` is a vector of the same type, which holds elements of ``kind.bits`` bits, ``right`` one of 8-bit elements.
    """
    if kind is PAIRS:
        return builder.add(sums, _emit_pairs(builder, left, right))
    vector, lanes = sums.type, sums.type.count
    if kind is VNNI:
        right, name = builder.bitcast(right, vector), f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    else:
        left, name = builder.bitcast(left, right.type), f"llvm.aarch64.neon.sdot.v{lanes}i32.v{4 * lanes}i8"
    function = ir.FunctionType(vector, [vector, left.type, right.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [sums, left, right])


def _emit_pairs(builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """The sum of the two products of each pair of 16- and 8-bit elements, for which LLVM finds one instruction."""
    count = right.type.count
    wide, index = ir.VectorType(ir.IntType(32), count), ir.VectorType(ir.IntType(32), count // 2)
    left = builder.bitcast(left, ir.VectorType(ir.IntType(16), count))
    products = builder.mul(builder.sext(left, wide), builder.sext(right, wide), flags=("nsw",))
    even, odd = (ir.Constant(index, list(range(start, count, 2))) for start in (0, 1))
    undefined = ir.Constant(wide, ir.Undefined)
    return builder.add(
        builder.shuffle_vector(products, undefined, even), builder.shuffle_vector(products, undefined, odd)
    )
