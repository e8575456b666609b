"""How a matrix product is cut up for the registers and the caches: data, with the reasons beside it.

The tile, for each kind of registers
    rows x vectors of sums stay in registers while a row of B (``vectors`` registers) and a broadcast element of A pass
    by, so rows * vectors + vectors + 1 registers are needed. Each step of the depth loads rows + vectors registers for
    rows * vectors multiplications: the nearer to a square, counted in instructions, the fewer loads for each. Enough
    sums must be under way to hide the latency of a fused multiply-add, 4 cycles with two of them begun in each: 8.

The blocks
    A panel of A, ``tile.a_width`` x ``block_depth``, and the panel of B that passes by it, ``tile.columns`` x
    ``block_depth``, share the first-level cache with a few lines of C; a block of B, ``block_depth`` x
    ``block_columns``, stays in about half of the second-level cache.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from tinygrad_attn.kernels.simd.registers import registers

__all__ = ["CUTS", "DOUBLE", "SINGLE", "Plan", "TileShape", "tile_shape"]


class Cut(NamedTuple):
    """How the products of one kind of registers are cut up."""

    rows: int  # of a tile
    vectors: int  # of columns of a tile
    strips: int  # tiles' heights in a block of A
    depth_bytes: int  # of one row of A in a block
    panels: int  # of B in a block
    ahead: int  # bytes of B that are fetched ahead of the step of the depth, or 0: its panels come from distant caches
    reading: int  # panels of B up to which an A that is stored by rows is read where it lies


CUTS = {  # by the kind of registers (`kernels.simd.registers.KINDS`)
    # 31 of 32 registers. Caches of 48 KB and 2 MB: panels of 32 KB each, of which B's passes by; a block of B has 1 MB.
    # 16 steps of the depth ahead are 200 cycles; the caches' own prefetching ends with every page of 4 KB.
    # Reading A costs less than packing it at every width, even where 14 rows lie in one set of 12 lines of the cache.
    "AVX-512": Cut(14, 2, 128, 2048, 16, 2048, 1 << 24),
    # 15 of 16. Caches of 32 KB and 256 KB or more: panels of 8 and 16 KB, and 256 KB.
    "AVX": Cut(6, 2, 192, 1024, 16, 0, 8),
    # 28 of 32. Caches of 32 KB and 512 KB or more: panels of 8 and 12 KB, and 192 KB.
    "NEON": Cut(8, 3, 128, 1024, 16, 0, 8),
    # 15 of 16. As AVX: panels of 8 KB each, and 128 KB.
    "SSE": Cut(6, 2, 192, 1024, 16, 0, 8),
}


class TileShape(NamedTuple):
    """The tile of C that the micro-kernel holds in registers, and the panels that feed it, in elements."""

    lanes: int  # elements of one vector register
    rows: int  # at most so many rows of C
    columns: int  # at most so many columns of C, a multiple of `lanes`; also the width of a packed panel of B
    a_width: int  # the width of a packed panel of A: `rows` rounded up to whole vectors


@functools.cache
def tile_shape(itemsize: int) -> TileShape:
    """The tile for elements of ``itemsize`` bytes in the registers that numba compiles for."""
    kind = registers()
    cut, lanes = CUTS[kind.kind], kind.bytes // itemsize
    return TileShape(lanes, cut.rows, cut.vectors * lanes, -(-cut.rows // lanes) * lanes)


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
    reading_columns: int  # up to which an A that is stored by rows is read where it lies
    a_panel: int  # bytes of a packed panel of A
    b_panel: int  # bytes of a packed panel of B
    a_block: int  # bytes of a packed block of A
    b_block: int  # bytes of a packed block of B


def _plan(itemsize: int) -> Plan:
    tile, cut = tile_shape(itemsize), CUTS[registers().kind]
    a_panel, b_panel = tile.a_width * cut.depth_bytes, tile.columns * cut.depth_bytes
    return Plan(
        itemsize,
        *tile,
        block_rows=cut.strips * tile.rows,
        block_depth=cut.depth_bytes // itemsize,
        block_columns=cut.panels * tile.columns,
        reading_columns=cut.reading * tile.columns,
        a_panel=a_panel,
        b_panel=b_panel,
        a_block=cut.strips * a_panel,
        b_block=cut.panels * b_panel,
    )


SINGLE, DOUBLE = _plan(4), _plan(8)
