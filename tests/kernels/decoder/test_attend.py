from __future__ import annotations

import numpy as np
from bits import examples
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn.kernels.decoder.attend import Attend, attend_call, attend_in_numpy
from tinygrad_attn.kernels.decoder.program import Program

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def attend(q, joined, slots, mask, heads, scale, groups=1, slopes=None):
    """`attend_in_numpy`, by the kernel; keys that lie behind the last are not looked at."""
    rows, size = q.shape
    count = slots.shape[1]
    out = np.full((rows, size), np.nan, q.dtype)
    scratch = np.empty((rows, heads * (count + 2)), q.dtype)
    slot_stride, position_stride = (stride // q.itemsize for stride in (joined.strides[1], joined.strides[0]))
    arguments = Attend(
        q, size, joined, position_stride, slot_stride, slots, count, 1, np.array([count]), mask,
        0 if mask is None else len(mask), out, scratch, count + 2, heads, size // heads, scale,
        groups, slopes,
    )  # fmt: skip
    Program([attend_call(q.dtype, arguments)]).run(rows)
    return out


@examples
@given(
    st.integers(0, 1000),
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 35), st.integers(1, 3), st.integers(1, 20)),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_each_row_attends_to_the_keys_in_its_slots(seed, sizes, masked, dtype):
    rows, parts, keys, heads, width = sizes
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((rows, heads * width)).astype(dtype)
    joined = rng.standard_normal((keys, parts, 2 * heads * width)).astype(dtype)
    slots = rng.integers(0, parts, (rows, keys))
    mask = rng.random((parts, keys)) < 0.5 if masked else None
    if masked:
        slots[...] = slots[:, :1]  # a mask is that of a slot
    expected = attend_in_numpy(q, joined, slots, mask, heads, 0.3)
    np.testing.assert_allclose(attend(q, joined, slots, mask, heads, 0.3), expected, rtol=0, atol=TOLERANCE[dtype])


@examples
@given(
    st.integers(0, 1000),
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20)),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_heads_share_keys_and_lower_scores_by_distance(seed, sizes, sloping, dtype):
    rows, keys, kept, groups, width = sizes
    rng = np.random.default_rng(seed)
    heads = kept * groups
    q = rng.standard_normal((rows, heads * width)).astype(dtype)
    joined = rng.standard_normal((keys, rows, 2 * kept * width)).astype(dtype)
    slots = np.repeat(np.arange(rows)[:, None], keys, 1)
    slopes = rng.random(heads).astype(dtype) if sloping else None
    expected = attend_in_numpy(q, joined, slots, None, heads, 0.3, groups, slopes)
    found = attend(q, joined, slots, None, heads, 0.3, groups, slopes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])


def test_without_any_key_to_attend_to_the_output_is_zero():
    q, joined = np.ones((2, 4)), np.ones((3, 2, 8))
    slots = np.array([[0, 0, 0], [1, 1, 1]])
    mask = np.array([[False, False, False], [True, False, False]])
    np.testing.assert_array_equal(attend(q, joined, slots, mask, 2, 1.0), [[0.0] * 4, [1.0] * 4])
