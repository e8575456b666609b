from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops.fused.embedding import embedding  # noqa: E402

F = torch.nn.functional


@pytest.mark.parametrize("padding_idx", [None, 0, -1])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0,), (2, 0)])
def test_embedding(shape, padding_idx):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 6, shape)
    assert_equal_to_torch(
        lambda w: embedding(numbers, w, padding_idx=padding_idx),
        lambda w: F.embedding(torch.tensor(numbers), w, padding_idx=padding_idx),
        [rng.standard_normal((6, 3))],
        double=0 not in shape,  # where PyTorch fails to reshape nothing
    )
