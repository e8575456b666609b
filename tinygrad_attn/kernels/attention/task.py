"""What attention's kernels work on, and how it is divided among workers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.gemm.operands import Matrix
from tinygrad_attn.kernels.runtime.calls import call
from tinygrad_attn.kernels.runtime.jit import inlined_kernel, serial_kernel
from tinygrad_attn.kernels.runtime.structs import Address, read_struct, row_at
from tinygrad_attn.kernels.runtime.subnormals import flush_subnormals, restore_subnormals

__all__ = [
    "GRADIENT", "KEY", "OF_KEY", "OF_QUERY", "OF_VALUE", "OUTPUT", "QUERY", "VALUE", "Task", "attend_shares", "below",
    "is_read_in_place", "rows_of", "seen_of_row",
]  # fmt: skip

# The numbers of the operands, whose addresses are the first fields of a task. They are int64s: for a number that numba
# knows to be constant it compiles what is called with it anew.
QUERY, KEY, VALUE, OUTPUT, GRADIENT, OF_QUERY, OF_KEY, OF_VALUE = np.arange(8)


class Task(NamedTuple):
    """What the kernels work on. Places are in bytes from the start of a worker's scratch memory.

    The first fields are other ones at each call, the others go with the sizes.
    """

    q: Address
    k: Address
    v: Address
    o: Address
    g: Address
    dq: Address
    dk: Address
    dv: Address
    mask: Address  # None if it is True throughout
    bias: Address  # added to the scores, or None
    tops: Address  # (batch, heads, queries)
    factors: Address
    scratch: Address
    key: int
    strides: Address  # (operands, 3), in bytes from batch to batch, head to head and row to row
    items: int  # the kernel ``(task, own, first, last)`` that does some items with a worker's own scratch memory
    item_count: int  # forward blocks of queries, backward heads of keys
    product: int  # from `kernels.gemm.panels.panel_product_for`
    pack: int  # from `kernels.gemm.panels.packer_for`
    itemsize: int
    panel: int  # columns of a packed panel
    causal: int
    scale: float
    batch: int
    heads: int
    group: int  # heads that share the keys and values of one head
    queries: int
    keys: int
    width: int
    value_width: int
    mask_size: int
    mask_batch: int  # elements from batch to batch
    mask_head: int
    mask_query: int
    bias_size: int
    bias_batch: int  # elements from batch to batch
    bias_head: int
    bias_query: int
    keep: int  # `kernels.attention.rows.keep_elements`, or 0 without dropout
    threshold: int
    kept_scale: float  # of the weights that dropout keeps
    workers: int
    blocks: int  # of queries of a head
    key_block: int  # keys at a time
    corner: int  # the same where a causal mask cuts through
    stride: int  # elements of a row of scores
    direct: int  # keys are so few that rows of K and V are read where they lie, if they are whole vectors
    scratch_size: int  # bytes of each worker
    query: int  # place of scale Q of a block, a row after the other
    scores: int
    sums: int  # forward: a vector for each row
    kept: int  # which weights of a block dropout keeps: a byte for each, the keys of a row after those of the last
    across: int  # Kᵀ in panels
    values: int  # forward V in panels, backward Vᵀ
    gradient: int = 0  # backward: as `query`, G times each row's factor
    dscores: int = 0
    means: int = 0  # rowsum(P dP) of each row
    keys_down: int = 0  # K in panels
    query_panels: int = 0  # `query` in panels
    gradient_panels: int = 0
    parts: Address = 0  # `kernels.attention.bfloat16.Parts`, where products are on tiles


@serial_kernel
def attend_shares(task: int, first: int, last: int) -> None:
    """The shares of some workers, of each as many items as of the others."""
    state = flush_subnormals()
    s = read_struct(Task, task)
    for worker in range(first, last):
        start, stop = s.item_count * worker // s.workers, s.item_count * (worker + 1) // s.workers
        call(s.items, task, s.scratch + worker * s.scratch_size, start, stop)
    restore_subnormals(state)


@inlined_kernel
def rows_of(task: int, strides: int, number: int, batch: int, head: int, itemsize: int) -> Any:
    """The rows of one operand that belong to a head."""
    address, steps = row_at(np.int64, task, number, 1), row_at(np.int64, strides, number, 3)
    return Matrix(address[0] + batch * steps[0] + head * steps[1], steps[2], itemsize)


@inlined_kernel
def below(matrix: Any, rows: int) -> Any:
    return Matrix(matrix.address + rows * matrix.row, matrix.row, matrix.column)


@inlined_kernel
def is_read_in_place(s: Any, width: int) -> bool:
    """Whether rows of ``width`` elements of K or V can be, and are, what a product reads as panels."""
    return s.direct != 0 and width * s.itemsize % 64 == 0


@inlined_kernel
def seen_of_row(s: Any, query: int, j: int, count: int) -> int:
    """How many of the ``count`` keys from ``j`` on a query may attend to."""
    return min(count, query + 1 - j) if s.causal else count
