"""Products and sums of rows that do not depend on each other, in one launch: the gradients of parameters.

Their bits are those of `kernels.gemm.product.gemm`, and of `kernels.column_sums` or `kernels.sums.sum_over`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_attn.kernels.column_sums import SERIAL_SIZE, column_sums_job
from tinygrad_attn.kernels.gemm.blocks import workspaces
from tinygrad_attn.kernels.gemm.product import gemm, is_serial, numpy_is_best
from tinygrad_attn.kernels.gemm.shares import Place, product_job
from tinygrad_attn.kernels.row_sums import row_sums_job, row_sums_scratch
from tinygrad_attn.kernels.runtime.addresses import data_address
from tinygrad_attn.kernels.runtime.prepared import MOST_PREPARED, Prepared
from tinygrad_attn.kernels.runtime.threads import get_num_threads
from tinygrad_attn.kernels.sums import sum_over

__all__ = ["launch_together", "multiply_and_sum", "prepared_together"]

Array = np.ndarray[Any, Any]
_Product: TypeAlias = "tuple[Array, Array, Array]"


def _place(array: Array) -> Place:
    return Place(array.shape, array.strides)


@functools.lru_cache(maxsize=MOST_PREPARED)
def prepared_together(
    products: tuple[tuple[Place, ...], ...],
    sums: tuple[tuple[int, int], ...],
    in_chains: bool,
    dtype: Any,
    threads: int,
) -> Prepared:
    """The launch of products, of each the places of its arrays, and of sums, of each the shape of its matrix."""
    work = sum([math.prod(c.shape) * a.shape[-1] for a, _, c in products])
    alone, job = is_serial(work), row_sums_job if in_chains else column_sums_job
    workers = 1 if alone else threads
    return Prepared(
        *[product_job(a, b, c, dtype.itemsize, workers) for a, b, c in products],
        *[job(*shape, dtype.type, threads) for shape in sums],
        alone=alone and sum(map(math.prod, sums)) <= SERIAL_SIZE,
    )


def _summed_in_numpy(matrix: Array, total: Array) -> bool:
    """Write the sum, if the kernel is not for it."""
    if matrix.size and matrix.shape[1] > 1:
        return False
    total[...] = sum_over(matrix, (0,))
    return True


def multiply_and_sum(
    products: Sequence[_Product],
    sums: Sequence[tuple[Array, Array]] = (),
    in_chains: bool = False,
) -> None:
    """Write products ``c = a @ b`` and sums of all rows of matrices, on all threads.

    Args:
        products: of each a, b and c, of one dtype, float32 or float64, as everything else. c is C-contiguous but for
            leading axes, and of a's leading axes; it does not share memory with an operand.
        sums: of each the matrix, ``(rows, columns)``, C-contiguous, and the sum ``(columns,)``; neither is empty,
            unless ``in_chains``.
        in_chains: the sums have the bits of `kernels.sums.sum_over`, not those of `kernels.column_sums`.
    """
    large = []
    for a, b, c in products:
        if c.size * a.shape[-1] and not numpy_is_best(a, b):
            large.append((a, b, c))
        else:
            gemm(a, b, c)
    if in_chains:
        sums = [each for each in sums if not _summed_in_numpy(*each)]
    if large or sums:
        launch_together(large, sums, in_chains)


def launch_together(products: Sequence[_Product], sums: Sequence[tuple[Array, Array]], in_chains: bool = False) -> None:
    """`multiply_and_sum` of at least one product or sum, none of them for NumPy."""
    dtype = products[0][0].dtype if products else sums[0][0].dtype
    places = tuple([(_place(a), _place(b), _place(c)) for a, b, c in products])
    shapes = tuple([matrix.shape for matrix, _ in sums])
    prepared = prepared_together(places, shapes, in_chains, dtype, get_num_threads())
    addresses: list[tuple[int, ...]] = [
        (data_address(a), data_address(b), data_address(c), 0, workspaces.address(number))
        for number, (a, b, c) in enumerate(products)
    ]
    kept = []  # the scratch memory, until the launch is over
    for matrix, total in sums:
        of_sum: tuple[int, ...] = (data_address(matrix), data_address(total))
        if in_chains:
            rows, columns = matrix.shape
            kept.append(np.empty((row_sums_scratch(rows, columns), columns), dtype))
            of_sum = (*of_sum, data_address(kept[-1]))
        addresses.append(of_sum)
    prepared.launch(*addresses)
