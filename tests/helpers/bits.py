"""Helpers of the kernels' tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import settings

from tinygrad_attn.kernels.runtime.threads import get_num_threads, set_num_threads

# Without the JIT every element is several Python calls: the larger sizes are for the compiled kernels.
compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="too slow without the JIT")

examples = settings(max_examples=5 if numba.config.DISABLE_JIT else 50, deadline=None)


def assert_same_bits(function: Callable[[], Any]) -> None:
    """``function``, which returns an array or several, gives the same bits with one thread and with all."""
    before = get_num_threads()
    try:
        set_num_threads(1)
        alone = function()
        set_num_threads(numba.config.NUMBA_NUM_THREADS)
        together = function()
    finally:
        set_num_threads(before)
    alone, together = ([a] if isinstance(a, np.ndarray | float) else list(a) for a in (alone, together))
    assert len(alone) == len(together)
    for one, other in zip(alone, together, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
