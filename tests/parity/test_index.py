from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

import tinygrad_attn  # noqa: E402
from tinygrad_attn.tensor import Tensor  # noqa: E402


def values(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def both(function, arrays):
    assert_equal_to_torch(lambda *x: function(tinygrad_attn, *x), lambda *x: function(torch, *x), arrays)


ALL, MASK = slice(None), [[True, False, True], [False, True, False]]
SUBSCRIPTS = [
    0, -1, (1, 2), (1, -1, 3), ..., None, (), ALL, slice(1, None), slice(5, 9),
    (ALL, slice(None, None, 2), slice(-3, -1)), (..., 0), (0, ..., None), (None, 1, None, ALL, slice(0, 0)),
    (ALL, None, ..., None), [0], (ALL, [2, 0]), ([0, 1], [1, 2]), ([0, 1], ALL, [1, 2]), ([[0], [1]], [1, 2]),
    ([0, 1], None, [1, 2]), (0, ALL, [0, 1]), (0, [0, 1], [1, 2]), ([0, 1], 0, [1, 2]), (ALL, 0, [1, 2]),
    (ALL, [1, 2], 0), ([1, 0], ..., 0), (None, [1, 0], ALL, [0, 3]), ([0, 1], [0]), [], (MASK,), (MASK, 0),
    (MASK, [0, 1, 2]), (ALL, [True, False, True]), (ALL, [False] * 3), (..., [True, False, True, True]),
    ([True, False], [0, 1, 2]), True, False, (True, [0, 1]), (0, True), (slice(0, 1), [True, False, True], [1, 2]),
]  # fmt: skip
# PyTorch leaves open which value stays where several are assigned to one place.
REPEATING = [[1, 0, 1], ([[0, 1], [1, 1]],), (..., [3, -1]), ([0, 0], ALL, [1, 1])]
every_subscript = pytest.mark.parametrize("key", SUBSCRIPTS + REPEATING, ids=str)


@every_subscript
def test_getitem(key):
    both(lambda p, x: x[key], [values(2, 3, 4)])


@every_subscript
def test_getitem_by_tensors(key):
    def indexed(p, x):
        items = key if isinstance(key, tuple) else (key,)
        return x[
            tuple(
                p.tensor(item, dtype=None if item else int64[p]) if isinstance(item, list) else item for item in items
            )
        ]

    int64 = {tinygrad_attn: np.int64, torch: torch.int64}
    both(indexed, [values(2, 3, 4)])


@pytest.mark.parametrize("key", [key for key in SUBSCRIPTS if key is not False], ids=str)
@pytest.mark.parametrize("leading_axes_dropped", [False, True])
def test_setitem(key, leading_axes_dropped):
    shape = torch.zeros(2, 3, 4)[key].shape
    given = values(*shape[len(shape) // 2 :] if leading_axes_dropped else (1, *shape), seed=1)

    def assigned(p, x, y):
        z = x * 1.0
        z[key] = y
        return z * z

    both(assigned, [values(2, 3, 4), given])


@every_subscript
def test_setitem_of_a_number(key):
    def assigned(p, x):
        z = x * 1.0
        z[key] = 0.5
        return z * z

    both(assigned, [values(2, 3, 4)])


@pytest.mark.parametrize(
    "key",
    [2, (0, 3), [2], ([[True, False]],), (0, 0, 0, 0), (..., [[0], [1]], [0, 1, 2], [0, 1, 2, 3]), slice(0, 2, -1)],
)
def test_both_refuse_a_subscript(key):
    x = np.zeros((2, 3, 4))
    with pytest.raises((IndexError, ValueError)):
        torch.tensor(x)[key]
    with pytest.raises((IndexError, ValueError), match=r"^getitem: "):
        Tensor(x)[key]


ALONG = {
    "dim 0": ((3, 4), 0, [[0, 1], [2, 2], [0, 0], [1, 1]]),
    "dim 1": ((3, 4), 1, [[0, 3, 3, 3, 1], [2, 2, 2, 2, 2]]),
    "negative dim": ((2, 3, 4), -2, np.zeros((1, 5, 2), int)),
    "1-d": ((3,), 0, [2, 2, 0]),
    "0-d": ((), 0, 0),
    "nothing": ((3, 4), 0, np.zeros((0, 4), int)),
}


@pytest.mark.parametrize("name", ALONG)
def test_gather(name):
    shape, dim, index = ALONG[name]
    both(lambda p, x, i: p.gather(x, dim, i), [values(*shape), np.array(index)])


@pytest.mark.parametrize("name", ALONG)
def test_scatter_add(name):
    shape, dim, index = ALONG[name]
    src = values(*np.shape(index), seed=1)
    both(lambda p, x, i, s: p.scatter_add(x, dim, i, s), [values(*shape), np.array(index), src])


@pytest.mark.parametrize("name", ALONG)
def test_scatter_add_of_a_larger_src(name):
    # PyTorch has no gradient for it.
    shape, dim, index = ALONG[name]
    arrays = [values(*shape), np.array(index), values(*[size + 1 for size in np.shape(index)], seed=1)]
    found = tinygrad_attn.scatter_add(*[Tensor(arrays[0]), dim, Tensor(arrays[1]), Tensor(arrays[2])])
    expected = torch.scatter_add(torch.tensor(arrays[0]), dim, torch.tensor(arrays[1]), torch.tensor(arrays[2]))
    np.testing.assert_allclose(found.array, expected.numpy(), rtol=1e-14)


def test_scatter():
    index = np.array([[0, 2, 1], [3, 1, 0]])
    both(lambda p, x, i, s: p.scatter(x, 1, i, s), [values(2, 4), index, values(2, 3, seed=1)])
    both(lambda p, x, i: x.scatter(0, i, 1.5), [values(4, 3), index])


@pytest.mark.parametrize(
    ("shape", "dim", "index"),
    [
        ((3, 4), 0, [2, 0, 2]),
        ((3, 4), 1, [1]),
        ((2, 3, 4), -2, [2, 2, 1, 0]),
        ((3,), 0, []),
        ((3, 4), 1, 2),
        ((), 0, [0]),
    ],
)
def test_index_select_and_index_add(shape, dim, index):
    index = np.array(index, np.int64)
    both(lambda p, x, i: p.index_select(x, dim, i), [values(*shape), index])
    source = torch.index_select(torch.zeros(shape), dim, torch.tensor(index)).shape
    both(lambda p, x, i, s: p.index_add(x, dim, i, s), [values(*shape), index, values(*source, seed=1)])
    both(lambda p, x, i, s: x.index_add(dim, i, s, alpha=-1.5), [values(*shape), index, values(*source, seed=1)])


@pytest.mark.parametrize(
    ("shape", "index", "dim"),
    [((3, 4), [[0], [-1], [2]], 1), ((3, 1), [[0, 2, -3]], 0), ((3, 4), [[3, 0]], 1), ((2, 2), [3, 0, 1], None)],
)
def test_take_along_dim(shape, index, dim):
    both(lambda p, x, i: p.take_along_dim(x, i, dim), [values(*shape), np.array(index)])


@pytest.mark.parametrize(
    ("shape", "mask"), [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((3,), (2, 3)), ((), (2,)), ((2, 3), ())]
)
def test_masked_fill(shape, mask):
    mask = np.asarray(np.random.default_rng(1).random(mask) < 0.5)
    both(lambda p, x, m: x.masked_fill(m, -1.5), [values(*shape), mask])
    both(lambda p, x, m, v: p.masked_fill(x, m, v), [values(*shape), mask, values(seed=2)])


@pytest.mark.parametrize("accumulate", [False, True])
def test_index_put(accumulate):
    def put(p, x, i, j, v):
        return p.index_put(x, (i, j), v, accumulate=accumulate)

    both(put, [values(3, 2), np.array([0, 2]), np.array([1, 1]), values(2, seed=1)])


def test_index_put_accumulates():
    repeated = np.array([2, 2, 0])
    both(lambda p, x, i, v: x.index_put((i,), v, accumulate=True), [values(3, 2), repeated, values(2, seed=1)])


WRITES = {
    "add_": lambda x, y: x.add_(y),
    "sub_": lambda x, y: x.sub_(y[0]),
    "mul_": lambda x, y: x.mul_(y),
    "div_": lambda x, y: x.div_(y),
    "pow_": lambda x, y: x.pow_(2.0),
    "clamp_": lambda x, y: x.clamp_(0.4, 1.2),
    "copy_": lambda x, y: x.copy_(y[:, :1]),
    "fill_": lambda x, y: x.fill_(y[0, 0]),
    "zero_": lambda x, y: x.zero_().add_(y),
    "masked_fill_": lambda x, y: x.masked_fill_(x > 0.8, y[0, 0]),
}


@pytest.mark.parametrize("name", WRITES)
def test_derivatives_through_a_write_in_place(name):
    rng = np.random.default_rng(0)

    def written(p, x, y):
        z = x.clone()
        WRITES[name](z, y)
        return z * z + y * x

    both(written, [rng.uniform(0.2, 1.5, (2, 3)), rng.uniform(0.2, 1.5, (2, 3))])


def test_in_place_operators_keep_the_tensor():
    def written(p, x, y):
        before = z = x.clone()
        z += y
        z *= x
        z -= 1.0
        z /= y
        z **= 2
        assert z is before
        return z

    both(written, [values(2, 3), values(2, 3, seed=1) + 4.0])
