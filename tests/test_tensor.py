"""The tensor as a value: dtypes, conversion, display, and errors instead of surprises."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_attn as ta


def test_dtypes_of_new_tensors() -> None:
    assert ta.tensor([1.0, 2.0]).dtype == np.float32
    assert ta.tensor([1, 2]).dtype == np.int64
    assert ta.tensor([True]).dtype == np.bool_
    assert ta.tensor(np.ones(2)).dtype == np.float64
    assert ta.tensor([1, 2], dtype=np.float64).dtype == np.float64
    with pytest.raises(TypeError, match="complex128 is not supported"):
        ta.tensor([1j])
    with pytest.raises(TypeError, match="expected numbers, nested lists of them, or an array, got 'text'"):
        ta.tensor(["text"])
    with pytest.raises(ValueError, match="equal lengths"):
        ta.tensor([[1.0], [1.0, 2.0]])


def test_tensor_copies_and_from_numpy_shares() -> None:
    array = np.zeros(2)
    copied, shared = ta.tensor(array), ta.from_numpy(array)
    array[0] = 7.0
    assert copied.tolist() == [0.0, 0.0] and shared.tolist() == [7.0, 0.0]


@pytest.mark.parametrize("number", [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.asarray(2.5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_never_changes_a_float_dtype(number: object, dtype: type) -> None:
    x = ta.tensor(np.ones(3, dtype))
    for result in (
        x * number,
        number * x,
        x + number,
        number - x,
        x / number,
        number / x,
        x**number,
        ta.maximum(x, number),
    ):
        assert isinstance(result, ta.Tensor)
        assert result.dtype == dtype


def test_promotion() -> None:
    integers, booleans = ta.tensor([1, 2]), ta.tensor([True, False])
    f32, f64 = ta.tensor([1.0, 2.0]), ta.tensor(np.array([1.0, 2.0]))
    assert (integers * f32).dtype == np.float32
    assert (f32 * f64).dtype == np.float64
    assert (f32 * ta.tensor(np.array(2.0))).dtype == np.float32
    assert (integers * 2.5).dtype == np.float32
    assert (integers / integers).dtype == np.float32
    assert (booleans * integers).dtype == np.int64
    assert ta.exp(integers).dtype == np.float32
    assert (f32 > integers).dtype == np.bool_


def test_promotion_keeps_each_gradients_dtype() -> None:
    narrow = ta.tensor([1.0, 2.0], requires_grad=True)
    wide = ta.tensor(np.array([3.0, 4.0]), requires_grad=True)
    (narrow * wide).sum().backward()
    assert narrow.grad.dtype == np.float32 and wide.grad.dtype == np.float64


def test_operators_with_arrays_in_both_orders() -> None:
    x, array = ta.tensor(np.array([1.0, 2.0]), requires_grad=True), np.array([10.0, 20.0])
    for result, expected in (
        (x + array, [11, 22]),
        (array + x, [11, 22]),
        (array - x, [9, 18]),
        (array / x, [10, 10]),
        (x * array, [10, 40]),
    ):
        assert isinstance(result, ta.Tensor) and result.requires_grad
        np.testing.assert_allclose(result.detach().numpy(), expected)
    assert isinstance(array @ x, ta.Tensor)
    assert (array > x).tolist() == [True, True]


def test_unsupported_operand_is_named() -> None:
    with pytest.raises(TypeError, match="add: y must be a tensor, an array or a number, got str"):
        ta.tensor([1.0]) + "text"
    with pytest.raises(TypeError, match="mul: at least one operand"):
        ta.mul(2.0, 3.0)


def test_only_floats_require_a_gradient() -> None:
    with pytest.raises(TypeError, match="int64"):
        ta.tensor([1], requires_grad=True)
    x = ta.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        (x * 2.0).requires_grad = False
    assert (x * 2.0).detach().requires_grad_().is_leaf


def test_conversion_that_would_lose_a_gradient() -> None:
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    for convert in (np.asarray, lambda t: t.numpy(), np.from_dlpack):
        with pytest.raises((RuntimeError, TypeError)):
            convert(x)
    np.sum(x).backward()  # a method of the tensor, which NumPy calls
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0]
    with ta.no_grad():
        assert (x * 2.0).numpy().tolist() == [2.0, 4.0]
    y = ta.tensor([1.0, 2.0])
    assert np.asarray(y) is y.array
    assert np.array(y, copy=True) is not y.array
    assert np.asarray(y, dtype=np.float64).dtype == np.float64
    assert np.from_dlpack(y).tolist() == [1.0, 2.0]


def test_scalars() -> None:
    assert float(ta.tensor(2.5)) == 2.5 and int(ta.tensor(2.5)) == 2
    assert [10, 20, 30][ta.tensor(1)] == 20
    with pytest.raises(TypeError, match="index"):
        [1][ta.tensor(0.0)]
    with pytest.raises(ValueError, match=r"one element, this one has shape \(2,\)"):
        ta.tensor([1.0, 2.0]).item()


def test_truth_is_never_guessed() -> None:
    assert bool(ta.tensor(1.0)) and not bool(ta.tensor([0]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(ta.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="ambiguous"):
        1.0 in ta.tensor([1.0])  # noqa: B015


def test_a_typo_is_an_error() -> None:
    with pytest.raises(AttributeError):
        ta.tensor([1.0]).requires_gard = True
    with pytest.raises(AttributeError):
        ta.tensor([1.0]).sume()


def test_length_and_iteration() -> None:
    x = ta.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2
    total = sum(row.sum() for row in x)
    total.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((2, 2)))
    for operation in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            operation(ta.tensor(1.0))


def test_display() -> None:
    x = ta.tensor([1.0, 2.5], requires_grad=True)
    assert repr(x) == "tensor([1. , 2.5], requires_grad=True)"
    assert repr(x * 2.0) == "tensor([2., 5.], made by mul)"
    assert repr(ta.tensor(np.ones(2))) == "tensor([1., 1.], dtype=float64)"
    assert "shape=(0, 3)" in repr(ta.zeros(0, 3))
    assert len(repr(ta.zeros(100, 100))) < 1000
    assert f"{ta.tensor(1.23456):.2f}" == "1.23"
    html = ta.tensor([[1.0, 2.0]])._repr_html_()
    assert html.count("<td>") == 2 and "float32" in html
    assert "&lt;" not in html and ta.zeros(30, 30)._repr_html_().startswith("<pre>")


def test_deepcopy_is_for_leaves() -> None:
    x = ta.tensor([1.0], requires_grad=True)
    (x * 2.0).sum().backward()
    twin = copy.deepcopy(x)
    twin.array[0] = 9.0
    assert x.item() == 1.0 and twin.requires_grad and twin.grad.item() == 2.0
    with pytest.raises(RuntimeError, match="clone"):
        copy.deepcopy(x * 2.0)


def test_a_view_shares_the_version() -> None:
    x = ta.zeros(2, 3)
    row = x[0]
    row.add_(1.0)
    assert x.version == row.version == x.detach().version == 1
    assert x.tolist()[0] == [1.0, 1.0, 1.0]


@given(
    hnp.arrays(
        np.float64, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), elements=st.floats(-1e3, 1e3)
    )
)
def test_round_trips(array: np.ndarray) -> None:
    x = ta.tensor(array)
    assert x.shape == array.shape and x.numel() == array.size and x.ndim == array.ndim
    np.testing.assert_array_equal(x.numpy(), array)
    np.testing.assert_array_equal(np.asarray(x.tolist()).reshape(array.shape), array)


@pytest.mark.parametrize(
    ("made", "shape", "dtype"),
    [
        (lambda: ta.zeros(2, 3), (2, 3), np.float32),
        (lambda: ta.ones((2, 3), dtype=np.float64), (2, 3), np.float64),
        (lambda: ta.full((2,), 7), (2,), np.int64),
        (lambda: ta.full((2,), 7.0), (2,), np.float32),
        (lambda: ta.arange(5), (5,), np.int64),
        (lambda: ta.arange(0.0, 1.0, 0.25), (4,), np.float32),
        (lambda: ta.linspace(0, 1, 5), (5,), np.float32),
        (lambda: ta.eye(2, 3), (2, 3), np.float32),
        (lambda: ta.randn(4, 5), (4, 5), np.float32),
        (lambda: ta.rand(4, dtype=np.float64), (4,), np.float64),
        (lambda: ta.randint(0, 3, (4,)), (4,), np.int64),
        (lambda: ta.zeros_like(ta.ones(2, dtype=np.float64)), (2,), np.float64),
        (lambda: ta.full_like(ta.ones(2), 3.0), (2,), np.float32),
        (lambda: ta.randperm(6), (6,), np.int64),
        (lambda: ta.empty(0, 2), (0, 2), np.float32),
    ],
)
def test_creation(made: object, shape: tuple[int, ...], dtype: type) -> None:
    result = made()
    assert result.shape == shape and result.dtype == dtype


def test_creation_errors() -> None:
    with pytest.raises(ValueError, match="sizes must be integers"):
        ta.zeros(2.5)
    with pytest.raises(ValueError, match="at least 0"):
        ta.ones(-1)
    with pytest.raises(ValueError, match="does not lead"):
        ta.arange(0, 5, -1)
    with pytest.raises(TypeError, match="expected an array"):
        ta.from_numpy([1.0])
    with pytest.raises(ValueError, match="randint: low must be less than high, got 5 and 2"):
        ta.randint(5, 2, (1,))
    for make in (lambda: ta.linspace(0, 1, -1), lambda: ta.eye(-1)):
        with pytest.raises(ValueError, match="at least 0"):
            make()


def test_the_same_seed_gives_the_same_numbers() -> None:
    ta.manual_seed(3)
    first = ta.randn(5).tolist()
    ta.manual_seed(3)
    assert ta.randn(5).tolist() == first
    assert ta.randn(5).tolist() != first


def test_bit_operators() -> None:
    a, b = ta.tensor([1, 2]), ta.tensor([3, 1])
    assert (a & b).tolist() == [1, 0] and (a | b).tolist() == [3, 3] and (a ^ b).tolist() == [2, 3]
    assert (~a).tolist() == [-2, -3] and (~ta.tensor([True])).tolist() == [False]
    with pytest.raises(TypeError, match="bitwise_and: operands must be bool or integers, got float32"):
        ta.tensor([1.0]) & ta.tensor([1.0])


def test_nothing_is_not_an_operand() -> None:
    x = ta.tensor([1.0])
    assert (x == None) is False and (x != None) is True and (x == "a") is False  # noqa: E711
    with pytest.raises(TypeError, match="add: y must be a tensor, an array or a number, got NoneType"):
        x + None
    assert ta.where(ta.tensor([True, False]), 1.0, 2.0).dtype == np.float32


def test_copy_shares_the_version() -> None:
    x = ta.tensor([2.0], requires_grad=True)
    y = x * 3.0
    twin = copy.copy(y)
    z = twin * twin
    with ta.no_grad():
        y.mul_(0.0)
    with pytest.raises(RuntimeError, match=r"mul saved [xy] .* and mul_.* has since changed it"):
        z.sum().backward()


def test_unsupported_dtypes_stay_out() -> None:
    for make in (
        lambda: ta.zeros(2, dtype="float16"),
        lambda: ta.tensor([1.0]).to("complex64"),
        lambda: ta.ones(1, dtype=object),
    ):
        with pytest.raises(TypeError, match="not supported"):
            make()
    with pytest.raises(TypeError, match="'floaty' is not a dtype"):
        ta.zeros(2, dtype="floaty")
