from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.autograd import grad
from tinygrad_attn.ops.fused.embedding import embedding
from tinygrad_attn.tensor import Tensor


@given(st.lists(st.integers(0, 4), max_size=20), st.sampled_from([None, 0, 4, -2]))
def test_the_gradient_counts_the_uses_of_each_row(numbers, padding_idx):
    weight = Tensor(np.arange(10.0).reshape(5, 2), requires_grad=True)
    z = embedding(np.array(numbers, dtype=np.int64), weight, padding_idx=padding_idx)
    (gradient,) = grad(z, weight, np.ones(z.shape))
    uses = np.bincount(numbers, minlength=5)
    if padding_idx is not None:
        uses[padding_idx] = 0
    np.testing.assert_array_equal(gradient.array, np.stack([uses, uses], axis=1))


def test_takes_any_integer_dtype_and_lists():
    weight = np.arange(10.0).reshape(5, 2)
    for numbers in ([1, 4], np.array([1, 4], np.uint8), Tensor(np.array([1, 4], np.int32))):
        np.testing.assert_array_equal(embedding(numbers, weight).array, weight[[1, 4]])


def test_the_result_is_not_a_view_of_the_table():
    weight = np.ones((3, 2))
    assert not np.shares_memory(embedding(np.array(1), weight).array, weight)


@pytest.mark.parametrize("option", ["max_norm", "norm_type", "scale_grad_by_freq", "sparse"])
def test_names_what_it_does_not_support(option):
    with pytest.raises(TypeError, match=option):
        embedding(np.array([0]), np.ones((3, 2)), **{option: 2.0})
