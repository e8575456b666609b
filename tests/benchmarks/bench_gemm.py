"""The matrix product against ``numpy.matmul``: ``python tests/benchmarks/bench_gemm.py [--dtype float64] [CASE …]``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from harness import compare

from tinygrad_attn.kernels.gemm.product import gemm

Operands = tuple[np.ndarray, np.ndarray]


def plain(rows: int, depth: int, columns: int) -> Callable[[Callable], Operands]:
    return lambda normal: (normal(rows, depth), normal(depth, columns))


def gradient_of_weight(rows: int, depth: int, columns: int) -> Callable[[Callable], Operands]:
    """x.T @ g for a layer of ``rows`` examples."""
    return lambda normal: (normal(rows, depth).T, normal(rows, columns))


def gradient_of_input(rows: int, depth: int, columns: int) -> Callable[[Callable], Operands]:
    """g @ w.T"""
    return lambda normal: (normal(rows, columns), normal(depth, columns).T)


def heads(normal: Callable, batch: int, heads: int, length: int, width: int) -> np.ndarray:
    return normal(batch, length, heads * width).reshape(batch, length, heads, width).transpose(0, 2, 1, 3)


def scores(*sizes: int) -> Callable[[Callable], Operands]:
    return lambda normal: (heads(normal, *sizes), heads(normal, *sizes).swapaxes(-1, -2))


def mixture(batch: int, count: int, length: int, width: int) -> Callable[[Callable], Operands]:
    return lambda normal: (normal(batch, count, length, length), heads(normal, batch, count, length, width))


CASES = {
    "16": plain(16, 16, 16),
    "64": plain(64, 64, 64),
    "128": plain(128, 128, 128),
    "256": plain(256, 256, 256),
    "1024": plain(1024, 1024, 1024),
    "32x128x384": plain(32, 128, 384),
    "384x64x256": plain(384, 64, 256),
    "960x512x8000": plain(960, 512, 8000),
    "1024x512x2048": plain(1024, 512, 2048),
    "1x512x2048": plain(1, 512, 2048),
    "32x512x2048": plain(32, 512, 2048),
    "x.T@g 960x512x8000": gradient_of_weight(960, 512, 8000),
    "g@w.T 960x512x8000": gradient_of_input(960, 512, 8000),
    "x.T@g 1024x512x2048": gradient_of_weight(1024, 512, 2048),
    "g@w.T 1024x512x2048": gradient_of_input(1024, 512, 2048),
    "x.T@g 384x64x256": gradient_of_weight(384, 64, 256),
    "g@w.T 384x64x256": gradient_of_input(384, 64, 256),
    "q@k.T 64x8x25x64": scores(64, 8, 25, 64),
    "w@v 64x8x25x64": mixture(64, 8, 25, 64),
    "q@k.T 64x8x32x32": scores(64, 8, 32, 32),
    "w@v 64x8x32x32": mixture(64, 8, 32, 32),
}


def operands(case: Callable, dtype: str) -> Operands:
    rng = np.random.default_rng(0)
    return case(lambda *shape: rng.standard_normal(shape).astype(dtype))


def prepare(multiply: Callable) -> Callable[[Callable, str], Callable[[], np.ndarray]]:
    def prepared(case: Callable, dtype: str) -> Callable[[], np.ndarray]:
        a, b = operands(case, dtype)
        return lambda: multiply(a, b)

    return prepared


def operations(case: Callable) -> float:
    a, b = operands(case, "float32")
    return 2.0 * a.size * b.shape[-1]


if __name__ == "__main__":
    compare(
        __file__,
        {"gemm": prepare(gemm), "numpy": prepare(np.matmul)},
        CASES,
        work={name: operations(case) for name, case in CASES.items()},
    )
