"""Softmax, forward and backward, beside PyTorch's.

``python tests/benchmarks/bench_softmax.py [CASE ...] [--threads N ...]``.

Results are allocated within the call, as in a training step. A ratio above 1 means that we are faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import compare

FUNCTIONS = ["softmax", "masked softmax", "softmax backward", "log_softmax", "log_softmax backward"]
SHAPES = [(12800, 25), (2048, 10000), (512, 8, 25, 25), (64, 25)]
CASES = {f"{name} {'x'.join(map(str, shape))}": (name, shape) for shape in SHAPES for name in FUNCTIONS}


def _arrays(shape: tuple[int, ...], dtype: str) -> tuple[Any, Any, Any]:
    generator = np.random.default_rng(0)
    x, g = generator.standard_normal((2, *shape)).astype(dtype)
    return x, g, generator.random(shape) < 0.9


def prepare_ours(case: tuple[str, tuple[int, ...]], dtype: str) -> Callable[[], Any]:
    from tinygrad_attn.kernels.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

    name, shape = case
    x, g, mask = _arrays(shape, dtype)
    y, z = softmax(x), log_softmax(x)
    return {
        "softmax": lambda: softmax(x),
        "masked softmax": lambda: softmax(x, mask),
        "softmax backward": lambda: softmax_backward(g, y),
        "log_softmax": lambda: log_softmax(x),
        "log_softmax backward": lambda: log_softmax_backward(g, z),
    }[name]


def prepare_torch(case: tuple[str, tuple[int, ...]], dtype: str) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, shape = case
    x, g, mask = _arrays(shape, dtype)
    tx, tg, hidden = torch.from_numpy(x), torch.from_numpy(g), torch.from_numpy(~mask)
    y, z = torch.softmax(tx, -1), torch.log_softmax(tx, -1)
    return {
        "softmax": lambda: torch.softmax(tx, -1),
        "masked softmax": lambda: torch.softmax(tx.masked_fill(hidden, -torch.inf), -1),
        "softmax backward": lambda: torch._softmax_backward_data(tg, y, -1, tx.dtype),
        "log_softmax": lambda: torch.log_softmax(tx, -1),
        "log_softmax backward": lambda: torch._log_softmax_backward_data(tg, z, -1, tx.dtype),
    }[name]


if __name__ == "__main__":
    compare(__file__, {"ours": prepare_ours, "torch": prepare_torch}, CASES)
