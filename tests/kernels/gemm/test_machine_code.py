"""What LLVM makes of the micro-kernel for processors that the tests may not run on, read in its assembly."""

from __future__ import annotations

import re
from collections.abc import Callable

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba import types

from tinygrad_attn.kernels.decoder.int8 import _emit_tile as emit_int8_tile
from tinygrad_attn.kernels.decoder.int8 import _Tile as Int8Tile
from tinygrad_attn.kernels.gemm.plan import CUTS
from tinygrad_attn.kernels.gemm.tile import _emit_tile, _Tile
from tinygrad_attn.kernels.gemm.tiles import _emit_multiply
from tinygrad_attn.kernels.simd.dots import PAIRS, SDOT, VNNI, dots_of
from tinygrad_attn.kernels.simd.instructions import Emitter, define
from tinygrad_attn.kernels.simd.registers import KINDS, _of_all_features, registers, registers_of, target

X86, ARM, APPLE = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"
PROCESSORS = {
    "skylake-avx512": (X86, "AVX-512"),
    "sapphirerapids": (X86, "AVX-512"),
    "znver4": (X86, "AVX-512"),
    "haswell": (X86, "AVX"),
    "znver3": (X86, "AVX"),
    "alderlake": (X86, "AVX"),
    "sandybridge": (X86, "AVX"),
    "x86-64": (X86, "SSE"),
    "cortex-a72": (ARM, "NEON"),
    "neoverse-n1": (ARM, "NEON"),
    "apple-m1": (APPLE, "NEON"),
}
WITH_FUSED_MULTIPLY_ADD = [name for name in PROCESSORS if name not in ("sandybridge", "x86-64")]

FUSED = r"vfmadd|fmla"

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()


@pytest.mark.parametrize("cpu", PROCESSORS)
def test_the_kind_of_registers_is_what_the_processor_has(cpu):
    triple, kind = PROCESSORS[cpu]
    assert registers_of(cpu, "", triple).kind == kind


def test_features_that_are_switched_off_or_on_count():
    assert registers_of("sapphirerapids", "-avx512f", X86).kind == "AVX"
    assert registers_of("sapphirerapids", "-avx", X86).kind == "SSE"
    assert registers_of("x86-64", "+avx2,+fma", X86).kind == "AVX"


def test_the_features_of_this_machine_tell_what_the_assembly_does():
    assert registers() == registers_of(*target())
    for features, kind in (("+avx,+avx512f", "AVX-512"), ("-avx512f,+avx", "AVX"), ("-avx,+sse2,-avx512f", "SSE")):
        assert _of_all_features(features) == registers_of("x86-64", features, X86)
        assert _of_all_features(features).kind == kind


def inner_loop(cpu: str, dtype: types.Type) -> list[str]:
    """The instructions of the loop over the depth, of the largest tile of a processor."""
    cut = CUTS[PROCESSORS[cpu][1]]
    return loops_of(cpu, dtype, _emit_tile(cut.rows, cut.vectors, cut.ahead), len(_Tile._fields), FUSED)


def loops_of(cpu: str, dtype: types.Type, body: Callable[..., None], arguments: int, pattern: str) -> list[str]:
    """The instructions of the shortest loop with one that matches a pattern, of a function with so many arguments."""
    triple, name = PROCESSORS[cpu]
    kind = next(kind for kind in KINDS if kind.kind == name)
    module = ir.Module()
    module.triple = triple
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.VoidType(), []), "unused").append_basic_block())
    emit = Emitter(builder, types.DType(dtype), kind.bytes * 8 // dtype.bitwidth)
    define(body, "tile", emit, arguments).linkage = "external"
    builder.ret_void()

    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    parsed = llvm.parse_assembly(str(module))
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    comment = re.compile("//.*|;.*" if triple != X86 else "#.*")
    lines = [comment.sub("", line).strip() for line in machine.emit_assembly(parsed).splitlines()]
    found = []
    for start, line in enumerate(lines):
        backwards = [end for end in range(start, len(lines)) if lines[end].split()[-1:] == [line[:-1]]]
        if line.endswith(":") and backwards:
            found.append([line for line in lines[start + 1 : backwards[-1] + 1] if line and not line.startswith(".")])
    return min((block for block in found if any(re.match(pattern, line) for line in block)), key=len)


@pytest.mark.parametrize("cpu", WITH_FUSED_MULTIPLY_ADD)
@pytest.mark.parametrize("dtype", [types.float32, types.float64], ids=str)
def test_the_inner_loop_is_multiply_adds_and_their_loads_alone(cpu, dtype):
    loop = inner_loop(cpu, dtype)
    cut = CUTS[PROCESSORS[cpu][1]]
    fused = [line for line in loop if re.match(FUSED, line)]
    fetched = [line for line in loop if re.match("prefetch|prfm", line)]
    memory = [line for line in loop if line not in fetched and re.search(r"^(?!lea).*(\(%|\[(x|sp))", line)]
    assert len(fused) == cut.rows * cut.vectors
    assert len(fetched) == (cut.vectors if cut.ahead else 0)
    assert len(memory) <= cut.rows + cut.vectors  # each element of A and each vector of B once: no sum is spilled
    assert not [line for line in loop if re.search(r"\b(rsp|sp)\b", line)]
    # The rest moves on along the depth, and finds the rows of A.
    assert len(loop) <= len(fused) + len(memory) + len(fetched) + cut.rows + 5, "\n".join(loop)


DOTS = {PAIRS: r"(\{vex\}\s+)?(v?pmaddwd|vpdpwssd)", VNNI: r"(\{vex\}\s+)?vpdpbusd", SDOT: r"sdot"}
KINDS_OF_DOTS = {
    "skylake-avx512": PAIRS, "sapphirerapids": VNNI, "znver4": VNNI, "haswell": PAIRS, "znver3": PAIRS,
    "alderlake": VNNI, "sandybridge": PAIRS, "x86-64": PAIRS, "cortex-a72": PAIRS, "neoverse-n1": SDOT,
    "apple-m1": SDOT,
}  # fmt: skip


@pytest.mark.parametrize("cpu", PROCESSORS)
def test_the_sums_of_small_products_are_what_the_processor_has(cpu):
    assert dots_of(cpu, "", PROCESSORS[cpu][0]) == KINDS_OF_DOTS[cpu]


def test_features_count_for_sums_of_small_products():
    assert dots_of("sapphirerapids", "-avx512vnni,-avxvnni", X86) == PAIRS
    assert dots_of("haswell", "+avxvnni", X86) == VNNI


@pytest.mark.parametrize("cpu", [cpu for cpu, kind in KINDS_OF_DOTS.items() if cpu != "cortex-a72"])
def test_the_inner_loop_of_8_bit_weights_adds_several_products_at_once(cpu):
    """One instruction for 2 or 4 products of each sum, and nothing that widens them one by one."""
    cut, kind = CUTS[PROCESSORS[cpu][1]], KINDS_OF_DOTS[cpu]
    body = emit_int8_tile(cut.rows, cut.vectors, kind, cut.ahead)
    loop = loops_of(cpu, types.float32, body, len(Int8Tile._fields), DOTS[kind])
    halves = 2 if cpu == "sandybridge" else 1  # its integer registers are half as wide
    assert sum(bool(re.match(DOTS[kind], line)) for line in loop) == halves * cut.rows * cut.vectors
    assert not any(re.match(r"v?pmull[dw]|v?pmulhw|[su]mull|mul", line) for line in loop)


def test_products_by_parts_are_loads_and_products_of_tiles():
    """The loop of the large terms: all four products of two tiles of A with two of B, each loaded once."""
    loop = loops_of("sapphirerapids", types.float32, _emit_multiply, 5, "tdpbf16ps")
    products = sum(line.startswith("tdpbf16ps") for line in loop)
    assert products % 4 == 0
    assert sum(line.startswith("tileload") for line in loop) == products
    assert not [line for line in loop if re.search(r"\b(rsp|sp)\b", line)]
