"""How a matrix product is cut up for the registers and the caches: data, with the reasons beside it.

The tile, for each kind of registers
    rows x vectors of sums stay in registers while a row of B (``vectors`` registers) and a broadcast element of A pass
    by, so rows * vectors + vectors + 1 registers are needed. Each step of the depth loads rows + vectors registers for
    rows * vectors multiplications: the nearer to a square, counted in instructions, the fewer loads for each. Enough
    sums must be under way to hide the latency of a fused multiply-add, 4 cycles with two of them begun in each: 8.

The blocks, sized for caches of 48 KB and 2 MB, which processors with AVX-512 have
    A panel of A, ``tile.a_width`` x ``block_depth``, takes 32 KB, less than the first-level cache; a block of B,
    ``block_depth`` x ``block_columns``, 1 MB of the second-level cache.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from tinygrad_attn.kernels.simd.registers import registers

__all__ = ["DOUBLE", "SINGLE", "TILES", "Plan", "TileShape", "tile_shape"]

# Rows of a tile and vectors of columns, by LLVM's name of the kind of registers (`kernels.simd.registers.KINDS`).
TILES = {
    "avx512f": (14, 2),  # 31 of 32 registers
    "avx2": (6, 2),  # 15 of 16
    "neon": (8, 3),  # 28 of 32
    "sse2": (6, 2),  # 15 of 16
}

_BLOCK_STRIPS, _BLOCK_DEPTH_BYTES, _BLOCK_PANELS = 128, 2048, 16


class TileShape(NamedTuple):
    """The tile of C that the micro-kernel holds in registers, and the panels that feed it, in elements."""

    lanes: int  # elements of one vector register
    rows: int  # at most so many rows of C
    columns: int  # at most so many columns of C, a multiple of `lanes`; also the width of a packed panel of B
    a_width: int  # the width of a packed panel of A: `rows` rounded up to whole vectors


@functools.cache
def tile_shape(itemsize: int) -> TileShape:
    """The tile for elements of ``itemsize`` bytes on this machine's registers."""
    kind = registers()
    rows, vectors = TILES[kind.feature]
    lanes = kind.bytes // itemsize
    return TileShape(lanes, rows, vectors * lanes, -(-rows // lanes) * lanes)


class Plan(NamedTuple):
    """All sizes for one dtype, in elements if not said otherwise."""

    itemsize: int  # bytes
    lanes: int
    tile_rows: int
    tile_columns: int
    a_width: int  # of a packed panel of A
    block_rows: int
    block_depth: int
    block_columns: int
    a_panel: int  # bytes of a packed panel of A
    b_panel: int  # bytes of a packed panel of B
    a_block: int  # bytes of a packed block of A
    b_block: int  # bytes of a packed block of B


def _plan(itemsize: int) -> Plan:
    tile, block_depth = tile_shape(itemsize), _BLOCK_DEPTH_BYTES // itemsize
    a_panel, b_panel = (width * block_depth * itemsize for width in (tile.a_width, tile.columns))
    return Plan(
        itemsize,
        *tile,
        _BLOCK_STRIPS * tile.rows,
        block_depth,
        _BLOCK_PANELS * tile.columns,
        a_panel,
        b_panel,
        _BLOCK_STRIPS * a_panel,
        _BLOCK_PANELS * b_panel,
    )


SINGLE, DOUBLE = _plan(4), _plan(8)
