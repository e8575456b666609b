"""Scaled dot-product attention alone, forward and backward, beside PyTorch's.

``python tests/benchmarks/bench_attention.py [CASE ...] [--threads N ...]``.

A case is "batch x length x width", with 8 heads, and "causal" or not. Results are allocated within the call, as in a
training step, and both sides go through their public functions. A ratio above 1 means that we are faster. GFLOP/s count
the seven products of both passes, of which a causal mask leaves half.

``NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2`` compares the two as
on a machine with AVX2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from harness import compare

HEADS = 8
ALONE, TOGETHER = (32, 64, 128, 256, 512, 1024, 2048, 4096), (32, 128, 512)


class Case(NamedTuple):
    batch: int
    length: int
    width: int
    causal: bool


CASES = {
    f"{batch}x{length}x{width}{' causal' * causal}": Case(batch, length, width, causal)
    for batch, lengths in ((1, ALONE), (32, TOGETHER))
    for width in (32, 64)
    for length in lengths
    for causal in (False, True)
}
WORK = {
    name: 7 * 2.0 * case.batch * HEADS * case.length**2 * case.width / (2 if case.causal else 1)
    for name, case in CASES.items()
}


def _arrays(case: Case, dtype: str) -> list[Any]:
    generator = np.random.default_rng(case.length + case.width)
    return list(generator.standard_normal((4, case.batch, HEADS, case.length, case.width)).astype(dtype))


def prepare_ours(case: Case, dtype: str) -> Callable[[], Any]:
    import tinygrad_attn as ta
    from tinygrad_attn.nn.functional import scaled_dot_product_attention

    *operands, g = map(ta.tensor, _arrays(case, dtype))
    for operand in operands:
        operand.requires_grad = True
    return lambda: ta.grad(scaled_dot_product_attention(*operands, is_causal=case.causal), operands, g)


def prepare_torch(case: Case, dtype: str) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    *operands, g = map(torch.from_numpy, _arrays(case, dtype))
    for operand in operands:
        operand.requires_grad_()
    return lambda: torch.autograd.grad(scaled_dot_product_attention(*operands, is_causal=case.causal), operands, g)


if __name__ == "__main__":
    if "--measure" not in sys.argv:
        from tinygrad_attn.kernels.simd.registers import registers

        print(f"registers: {registers().kind}, {registers().number} of {registers().bytes} bytes")
    compare(__file__, {"ours": prepare_ours, "torch": prepare_torch}, CASES, WORK)
