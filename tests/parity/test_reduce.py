from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops import cumulative as accumulate  # noqa: E402
from tinygrad_attn.ops import reduction as reduce  # noqa: E402
from tinygrad_attn.ops import sorting as sort  # noqa: E402
from tinygrad_attn.ops import variance as spread  # noqa: E402
from tinygrad_attn.tensor import Tensor  # noqa: E402

rng = np.random.default_rng(0)
DIMS = [None, 0, 1, -1, (0, 2), (-1,), (0, 1, 2)]
SHAPE = (2, 3, 4)


def numbers(*shape: int) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "logsumexp"])
def test_reductions(name, dim, keepdim):
    dim = (0, 1, 2) if dim is None and name in ("amax", "amin", "logsumexp") else dim
    ours, theirs = getattr(reduce, name), getattr(torch, name)
    assert_equal_to_torch(
        lambda x: ours(x, dim, keepdim),
        lambda x: theirs(x, dim, keepdim),
        [numbers(*SHAPE)],
        # PyTorch's gradient of the extremes does not depend on the input.
        double=name not in ("amax", "amin"),
    )


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin"])
def test_of_everything(name):
    ours, theirs = getattr(reduce, name), getattr(torch, name)
    for shape in [(), (3,), (2, 1, 3)]:
        assert_equal_to_torch(ours, theirs, [numbers(*shape)], double=False)


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_ties(name):
    x = np.array([[1.0, 2.0, 2.0, 1.0], [3.0, 3.0, 3.0, 0.0]])
    ours, theirs = getattr(reduce, name), getattr(torch, name)
    assert_equal_to_torch(lambda x: ours(x, 1), lambda x: theirs(x, 1), [x], double=False)
    nan = np.array([[1.0, math.nan], [0.0, 1.0]])
    assert_equal_to_torch(lambda x: ours(x, 1), lambda x: theirs(x, 1), [nan], double=False)


@pytest.mark.parametrize("name", ["sum", "mean"])
def test_dtype_converts_first(name):
    for dtype in ("float32", "float64"):
        x = np.array([1, 2, 4])
        ours = getattr(reduce, name)(Tensor(x), dtype=dtype)
        theirs = getattr(torch, name)(torch.tensor(x), dtype=getattr(torch, dtype))
        assert ours.dtype == dtype
        assert ours.item() == theirs.item()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.int64])
def test_integer_totals(dtype):
    x = np.array([[1, 0, 1], [1, 1, 1]], dtype)
    for ours, theirs in [
        (lambda x: reduce.sum(x, 1), lambda x: torch.sum(x, 1)),
        (lambda x: accumulate.prod(x, 1), lambda x: torch.prod(x, 1)),
        (lambda x: accumulate.cumsum(x, 1), lambda x: torch.cumsum(x, 1)),
    ]:
        found, expected = ours(Tensor(x)), theirs(torch.tensor(x)).numpy()
        assert found.dtype == expected.dtype == np.int64
        np.testing.assert_array_equal(found.array, expected)


@pytest.mark.parametrize("row", [[-math.inf, -math.inf], [-math.inf, 1.0], [math.inf, 1.0], [1e4, 1e4], [-1e4, -1e4]])
def test_logsumexp_at_the_limits(row):
    assert_equal_to_torch(
        lambda x: reduce.logsumexp(x, 0),
        lambda x: torch.logsumexp(x, 0),
        [np.array(row)],
        double=math.isfinite(sum(row)),
    )


# -- variance ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correction", [1, 0, 0.5, -2])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", ["var", "std"])
def test_spread(name, dim, keepdim, correction):
    ours, theirs = getattr(spread, name), getattr(torch, name)
    options = {"dim": dim, "keepdim": keepdim, "correction": correction}
    assert_equal_to_torch(lambda x: ours(x, **options), lambda x: theirs(x, **options), [numbers(*SHAPE)])


@pytest.mark.parametrize("arguments", [(), (False,), (True,), (1,), (1, False), ((0, 1), False, True), (None, False)])
@pytest.mark.parametrize("name", ["var", "std"])
def test_ways_to_give_unbiased(name, arguments):
    ours, theirs = getattr(spread, name), getattr(torch, name)
    assert_equal_to_torch(lambda x: ours(x, *arguments), lambda x: theirs(x, *arguments), [numbers(3, 4)])


def test_var_mean():
    x = numbers(3, 4)
    for part in (0, 1):
        assert_equal_to_torch(
            lambda x, part=part: spread.var_mean(x, 1, correction=0)[part],
            lambda x, part=part: torch.var_mean(x, 1, correction=0)[part],
            [x],
        )


def test_std_of_equal_elements():
    # PyTorch's second derivative is that of 0 times something infinite.
    assert_equal_to_torch(spread.std, torch.std, [np.full(3, 2.0)], double=False)


@pytest.mark.filterwarnings("ignore:var")
@pytest.mark.parametrize("correction", [1, 3])
def test_too_few_elements(correction):
    for shape in [(1,), (0,), (3,)]:
        x = numbers(*shape)
        ours = spread.var(Tensor(x), correction=correction).item()
        theirs = torch.var(torch.tensor(x), correction=correction).item()
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


# -- products and running sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
@pytest.mark.parametrize("arguments", [(), (0,), (1,), (-1, True)])
def test_prod(arguments, zeros):
    x = numbers(3, 4)
    x[:zeros, 1] = 0.0
    x[0, :zeros] = 0.0
    assert_equal_to_torch(lambda x: accumulate.prod(x, *arguments), lambda x: torch.prod(x, *arguments), [x])


@pytest.mark.parametrize(("shape", "dim"), [((), 0), ((), -1), ((0, 3), 0), ((0, 3), 1), ((1,), 0)])
def test_prod_of_few(shape, dim):
    assert_equal_to_torch(
        lambda x: accumulate.prod(x, dim), lambda x: torch.prod(x, dim), [numbers(*shape)], double=False
    )


@pytest.mark.parametrize(("shape", "dim"), [((), 0), ((5,), 0), ((3, 4), 0), ((3, 4), -1), ((2, 0, 3), 1)])
def test_cumsum(shape, dim):
    assert_equal_to_torch(
        lambda x: accumulate.cumsum(x, dim), lambda x: torch.cumsum(x, dim), [numbers(*shape)], double=False
    )


# -- norms -------------------------------------------------------------------------------------------------------------


ORDERS = [2, 1, 3, 4, 2.5, 1.5, 0.5, math.inf, -math.inf, -1, -2.5]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 1, (0, 2)])
@pytest.mark.parametrize("ord", ORDERS)
def test_vector_norm(ord, dim, keepdim):
    assert_equal_to_torch(
        lambda x: reduce.vector_norm(x, ord, dim, keepdim),
        lambda x: torch.linalg.vector_norm(x, ord, dim, keepdim),
        [numbers(*SHAPE)],
        # PyTorch has no second derivative where the first is constant.
        double=math.isfinite(ord) and ord != 1,
        tolerance=1e-10,
    )


@pytest.mark.parametrize("ord", ORDERS)
@pytest.mark.parametrize("row", [[0.0, 0.0], [3.0, 0.0, -3.0, 1.0], [0.0]])
def test_vector_norm_at_zero(row, ord):
    assert_equal_to_torch(
        lambda x: reduce.vector_norm(x, ord),
        lambda x: torch.linalg.vector_norm(x, ord),
        [np.array(row)],
        double=False,
    )


def test_vector_norm_counts_at_order_zero():
    x = np.where(rng.random(SHAPE) < 0.5, numbers(*SHAPE), 0.0)
    for dim in (None, 1, (0, 2)):
        expected = torch.linalg.vector_norm(torch.tensor(x), 0, dim).numpy()
        np.testing.assert_array_equal(reduce.vector_norm(Tensor(x), 0, dim).array, expected, strict=True)


def test_vector_norm_dtype():
    x = np.array([3, 4])
    ours = reduce.vector_norm(Tensor(x), dtype=np.float32)
    assert ours.dtype == np.float32
    assert ours.item() == 5.0


# -- logic and places --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [*DIMS, ()])
@pytest.mark.parametrize("name", ["any", "all"])
def test_logic(name, dim, keepdim):
    for x in (rng.random(SHAPE) < 0.6, rng.integers(0, 2, SHAPE), np.zeros((0, 3, 2)), np.full(SHAPE, math.nan)):
        found = getattr(reduce, name)(Tensor(x), dim, keepdim).array
        expected = getattr(torch, name)(torch.tensor(x), dim, keepdim).numpy()
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, expected, strict=True)


def rows_with_ties_and_nan() -> np.ndarray:
    x = np.asarray(rng.integers(0, 3, (4, 3, 5)), float)
    x[rng.random(x.shape) < 0.1] = math.nan
    return x


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_argmax(name, dim, keepdim):
    for x in (rows_with_ties_and_nan(), numbers(1), np.asarray(2.0)):
        axis = dim if dim is None or x.ndim > 1 else 0
        found = getattr(sort, name)(Tensor(x), axis, keepdim).array
        expected = getattr(torch, name)(torch.tensor(x), axis, keepdim).numpy()
        np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["max", "min"])
def test_max_along_an_axis(name, dim, keepdim):
    ours, theirs = getattr(sort, name), getattr(torch, name)
    x = rows_with_ties_and_nan()
    found, expected = ours(Tensor(x), dim, keepdim), theirs(torch.tensor(x), dim, keepdim)
    np.testing.assert_array_equal(found.values.array, expected.values.numpy())
    np.testing.assert_array_equal(found.indices.array, expected.indices.numpy(), strict=True)
    ties = np.asarray(rng.integers(0, 3, SHAPE), float)
    assert_equal_to_torch(
        lambda x: ours(x, dim, keepdim).values, lambda x: theirs(x, dim, keepdim).values, [ties], double=False
    )


@pytest.mark.parametrize("name", ["max", "min"])
def test_max_of_all_and_of_two(name):
    ours, theirs = getattr(sort, name), getattr(torch, name)
    assert_equal_to_torch(ours, theirs, [np.array([[1.0, 2.0], [2.0, 1.0]])], double=False)
    assert_equal_to_torch(ours, theirs, [numbers(3, 4), numbers(4)], double=False)


# -- sorting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_sort(dim, descending):
    x = rows_with_ties_and_nan()
    found = sort.sort(Tensor(x), dim, descending)
    expected = torch.sort(torch.tensor(x), dim=dim, descending=descending, stable=True)
    np.testing.assert_array_equal(found.values.array, expected.values.numpy())
    np.testing.assert_array_equal(found.indices.array, expected.indices.numpy(), strict=True)
    np.testing.assert_array_equal(sort.argsort(Tensor(x), dim, descending).array, expected.indices.numpy())
    assert_equal_to_torch(
        lambda x: sort.sort(x, dim, descending).values,
        lambda x: torch.sort(x, dim, descending).values,
        [numbers(*SHAPE)],
        double=False,
    )


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("dim", "k"), [(0, 2), (1, 3), (-1, 1), (-1, 0), (2, 4)])
def test_topk(dim, k, largest):
    x = rows_with_ties_and_nan()
    np.testing.assert_array_equal(
        sort.topk(Tensor(x), k, dim, largest).values.array, torch.topk(torch.tensor(x), k, dim, largest).values.numpy()
    )
    distinct = numbers(*SHAPE) if k <= SHAPE[dim] else numbers(4, 4, 4)
    np.testing.assert_array_equal(
        sort.topk(Tensor(distinct), k, dim, largest).indices.array,
        torch.topk(torch.tensor(distinct), k, dim, largest).indices.numpy(),
    )
    assert_equal_to_torch(
        lambda x: sort.topk(x, k, dim, largest).values,
        lambda x: torch.topk(x, k, dim, largest).values,
        [distinct],
        double=False,
    )


def test_without_axes():
    for ours, theirs in [
        (sort.sort, torch.sort),
        (lambda x: sort.topk(x, 1), lambda x: torch.topk(x, 1)),
        (lambda x: sort.max(x, 0), lambda x: torch.max(x, 0)),
        (lambda x: sort.min(x, -1, True), lambda x: torch.min(x, -1, True)),
    ]:
        found, expected = ours(Tensor(np.array(2.0))), theirs(torch.tensor(2.0))
        assert found.values.shape == tuple(expected.values.shape) == ()
        assert found.indices.array == expected.indices.numpy()
