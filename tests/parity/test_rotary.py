from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.nn import functional as F  # noqa: E402


def half_split(x, start, base):
    """As GPT-NeoX and Hugging Face's models write it."""
    width = x.shape[-1]
    frequencies = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    positions = torch.arange(start, start + x.shape[-2], dtype=torch.float64)
    angles = torch.cat([torch.outer(positions, frequencies)] * 2, -1)
    rotated = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1)
    return x * angles.cos() + rotated * angles.sin()


@pytest.mark.parametrize("base", [10000.0, 500.0])
@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("shape", [(2, 3, 5, 8), (4, 2), (0, 2), (3, 1, 40)])
def test_rotary(shape, start, base):
    assert_equal_to_torch(
        lambda x: F.rotary(x, start, base),
        lambda x: half_split(x, start, base),
        [np.random.default_rng(0).standard_normal(shape)],
    )
