from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

from tinygrad_attn.ops import matmul as ops  # noqa: E402
from tinygrad_attn.ops.einsum import einsum  # noqa: E402
from tinygrad_attn.ops.fused.linear import linear  # noqa: E402
from tinygrad_attn.tensor import Tensor  # noqa: E402


def operands(*shapes):
    rng = np.random.default_rng(0)
    return [None if shape is None else np.asarray(rng.standard_normal(shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((2, 3), (3, 4)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((6, 5, 2, 3), (3,)),
        ((5, 2, 3), (3, 4)),
        ((6, 5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4)),
        ((0, 3), (3, 4)),
        ((2, 0), (0, 4)),
        ((0, 2, 3), (3, 4)),
        ((0,), (0,)),
        ((1, 1), (1, 1)),
    ],
)
def test_matmul(x, y):
    assert_equal_to_torch(ops.matmul, torch.matmul, operands(x, y))


def test_matmul_where_the_kernel_has_blocks_and_threads():
    assert_equal_to_torch(ops.matmul, torch.matmul, operands((2, 70, 300), (300, 90)), double=False)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("mm", (2, 3), (3, 4)),
        ("mm", (2, 0), (0, 4)),
        ("bmm", (5, 2, 3), (5, 3, 4)),
        ("bmm", (0, 2, 3), (0, 3, 4)),
        ("mv", (2, 3), (3,)),
        ("dot", (3,), (3,)),
        ("dot", (0,), (0,)),
        ("outer", (2,), (3,)),
        ("outer", (0,), (3,)),
    ],
)
def test_products_of_given_ranks(name, x, y):
    assert_equal_to_torch(getattr(ops, name), getattr(torch, name), operands(x, y))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("leading", [(), (2,), (2, 5), (6, 2, 5), (0,), (2, 0)])
def test_linear(leading, bias):
    shapes = [(*leading, 3), (4, 3), (4,) if bias else None]
    assert_equal_to_torch(linear, torch.nn.functional.linear, operands(*shapes))


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_integers(dtype):
    x, y = np.arange(6, dtype=dtype).reshape(2, 3), np.arange(12, dtype=dtype).reshape(3, 4)
    found, expected = ops.matmul(x, y), torch.matmul(torch.tensor(x), torch.tensor(y)).numpy()
    assert found.dtype == expected.dtype
    assert np.array_equal(found.array, expected)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ba,cb", [(2, 3), (4, 2)]),
        ("Ab", [(2, 3)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ij->j", [(2, 3)]),
        ("ii", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("iij->ij", [(3, 3, 2)]),
        ("iji->j", [(3, 2, 3)]),
        ("iii->i", [(3, 3, 3)]),
        ("ii,jj->ij", [(3, 3), (2, 2)]),
        ("ii,i->i", [(1, 1), (3,)]),
        ("->", [()]),
        (",", [(), ()]),
        ("ij,", [(2, 3), ()]),
        ("i,i", [(3,), (3,)]),
        ("i,i->", [(3,), (1,)]),
        ("i,i->i", [(0,), (1,)]),
        ("i,j->ji", [(3,), (2,)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("bhij,bhjd->bihd", [(2, 3, 4, 6), (2, 3, 6, 5)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("i,ij,j->", [(2,), (2, 3), (3,)]),
        ("a,ab,abc,abcd->d", [(2,), (2, 3), (2, 3, 2), (2, 3, 2, 3)]),
        ("bn,anm,bm->ba", [(2, 5), (3, 5, 4), (2, 4)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)]),
        ("...ij,...jk", [(5, 2, 3), (6, 1, 3, 4)]),
        ("...", [(2, 3)]),
        ("...,...", [(2, 3), (3,)]),
        ("i...->...", [(2, 3)]),
        ("...ij->ij", [(2, 3, 4)]),
        ("ij->...ij", [(2, 3)]),
        ("b...d,od->b...o", [(2, 5, 6, 3), (4, 3)]),
        (" i j , j k -> k i ", [(2, 3), (3, 4)]),
        ("ij,jk->ik", [(2, 0), (0, 4)]),
    ],
)
def test_einsum(equation, shapes):
    assert_equal_to_torch(lambda *x: einsum(equation, *x), lambda *x: torch.einsum(equation, *x), operands(*shapes))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ii", [(2, 3)]),
        ("ii->i", [(1, 3)]),
        ("ij,jk->ikk", [(2, 3), (3, 4)]),
        ("ij->iz", [(2, 3)]),
        ("ij", [(2,)]),
        ("ij", [(2, 3, 4)]),
        ("ij,jk", [(2, 3)]),
        ("ij", [(2, 3), (2, 3)]),
        ("i.j", [(2, 3)]),
        ("......", [(2, 3)]),
        ("i->i->i", [(2,)]),
        ("i,i->i", [(3,), (2,)]),
        ("i1", [(2, 3)]),
        ("i->...i...", [(2,)]),
        ("ij-", [(2, 3)]),
    ],
)
def test_einsum_rejects_what_torch_rejects(equation, shapes):
    with pytest.raises(RuntimeError):
        torch.einsum(equation, *[torch.ones(shape) for shape in shapes])
    with pytest.raises(ValueError, match=r"^einsum: "):
        einsum(equation, *[Tensor(np.ones(shape)) for shape in shapes])
