"""What an op costs besides its arithmetic: chains of 50 elementwise ops on 32×64, forward and backward.

``python tests/benchmarks/bench_overhead.py [--threads 1]``. PyTorch does the same beside it;
a ratio above 1 means that we are faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import compare


def _mixed(tanh: Callable[[Any], Any], x: Any, w: Any) -> Any:
    y = x
    for _ in range(10):
        y = tanh(y * w + x) - w
        y = y * 0.5
    return y


def _sums(tanh: Callable[[Any], Any], x: Any, w: Any) -> Any:
    y = x
    for _ in range(50):
        y = y + w
    return y


def _products(tanh: Callable[[Any], Any], x: Any, w: Any) -> Any:
    y = x
    for _ in range(50):
        y = y * w
    return y


CASES = {"mul add tanh sub scale": _mixed, "add": _sums, "mul": _products}


def _arrays(dtype: str) -> tuple[Any, Any]:
    # Near 1, since the product of 50 must not become denormal, which is slow for reasons of its own.
    return tuple(np.random.default_rng(0).uniform(0.9, 1.1, (2, 32, 64)).astype(dtype))  # type: ignore[return-value]


def prepare_ours(chain: Callable[..., Any], dtype: str) -> Callable[[], Any]:
    import tinygrad_attn as ta

    x, w = (ta.tensor(array, requires_grad=True) for array in _arrays(dtype))
    ones = ta.ones_like(x)

    def step() -> None:
        x.grad = w.grad = None
        chain(ta.tanh, x, w).backward(ones)

    return step


def prepare_torch(chain: Callable[..., Any], dtype: str) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, w = (torch.tensor(array, requires_grad=True) for array in _arrays(dtype))
    ones = torch.ones_like(x)

    def step() -> None:
        x.grad = w.grad = None
        chain(torch.tanh, x, w).backward(ones)

    return step


if __name__ == "__main__":
    compare(__file__, {"ours": prepare_ours, "torch": prepare_torch}, CASES)
