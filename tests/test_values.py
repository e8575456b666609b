"""What users give as values: lists, foreign arrays, numbers out of range. Ops and dtypes are drawn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F
from tinygrad_attn.op import registered_ops
from tinygrad_attn.samples import Draw

OPS = {n: o for n, o in registered_ops().items() if o.__module__.startswith("tinygrad_attn.") and o.samples}
INTEGERS = [np.dtype(c) for c in "bhilBHIL"]
DTYPES = [*INTEGERS, np.dtype(np.bool_), np.dtype(np.float32), np.dtype(np.float64)]

# -- integers out of range ---------------------------------------------------------------------------------------------


@given(dtype=st.sampled_from(INTEGERS), beyond=st.integers(1, 2**40), above=st.booleans())
def test_an_integer_out_of_range_is_an_error(dtype: np.dtype, beyond: int, above: bool) -> None:
    limits = np.iinfo(dtype)
    value = limits.max + beyond if above else limits.min - beyond
    x, mask = ta.zeros(2, dtype=dtype), ta.tensor([True, False])

    def assign(index: Any) -> None:
        x[index] = value

    for call in (
        lambda: ta.tensor([value], dtype=dtype),
        lambda: ta.tensor(value, dtype=dtype),
        lambda: ta.full((2,), value, dtype=dtype),
        lambda: ta.full_like(x, value),
        lambda: ta.arange(value, value + 1, dtype=dtype),
        lambda: x.masked_fill(mask, value),
        lambda: x.masked_fill_(mask, value),
        lambda: x.fill_(value),
        lambda: x.add_(value),
        lambda: x + value,
        lambda: x.clamp(max=value),
        lambda: x.index_put([[0]], value),
        lambda: F.pad(x, (1, 1), value=value),
        lambda: assign(0),
        lambda: assign(mask),
        lambda: assign(slice(None)),
    ):
        with pytest.raises(OverflowError, match=r"does not fit u?int"):
            call()
    assert x.tolist() == [0, 0]


@given(dtype=st.sampled_from(INTEGERS), value=st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30]))
def test_a_float_that_no_integer_is_near(dtype: np.dtype, value: float) -> None:
    x = ta.zeros(2, dtype=dtype)
    for call in (
        lambda: ta.tensor([value], dtype=dtype),
        lambda: x.masked_fill(ta.tensor([True, False]), value),
        lambda: ta.tensor([value]).to(dtype),
        lambda: x.fill_(value),
        lambda: ta.full((2,), value, dtype=dtype),
        lambda: F.pad(x, (1, 1), value=value),
    ):
        with pytest.raises(OverflowError, match="does not fit"):
            call()


@given(source=st.sampled_from(INTEGERS), target=st.sampled_from(INTEGERS), data=st.data())
def test_conversions_keep_the_number_or_raise(source: np.dtype, target: np.dtype, data: st.DataObject) -> None:
    limits = np.iinfo(source)
    value = data.draw(st.integers(int(limits.min), int(limits.max)))
    array = np.array([value], source)
    x, writes = ta.tensor(array), ta.zeros(1, dtype=target)
    ways = (
        lambda: x.to(target),
        lambda: ta.tensor(array, dtype=target),
        lambda: writes.copy_(x),
        lambda: writes.copy_(array),
    )
    for convert in ways:
        if np.iinfo(target).min <= value <= np.iinfo(target).max:
            assert convert().item() == value
        else:
            with pytest.raises(OverflowError, match=f"{value} does not fit {target}"):
                convert()


def test_python_integers_beyond_int64() -> None:
    for data in (2**63, [2**63], [2**63, -1], [2**64], [[1], [2**70]]):
        with pytest.raises(OverflowError, match="does not fit int64"):
            ta.tensor(data)
    assert ta.tensor([2**63], dtype=np.uint64).item() == 2**63
    assert ta.tensor([2**70], dtype=np.float64).item() == 2.0**70
    assert ta.tensor([2**70, 0.5]).tolist() == [2.0**70, 0.5]
    with pytest.raises(OverflowError, match="too large for float32"):
        ta.tensor([10**400], dtype=np.float32)


def test_integers_never_make_floats() -> None:
    big = ta.tensor([2**63], dtype=np.uint64)
    assert big.sum().item() == big.prod().item() == 2**63
    assert (ta.tensor([1], dtype=np.uint64) + ta.tensor([1])).dtype == np.int64
    with pytest.raises(OverflowError, match="9223372036854775808 does not fit int64"):
        big + ta.tensor([1])
    with pytest.raises(OverflowError, match="1099511627775 does not fit int32"):
        ta.arange(2**40, dtype=np.int32)


def test_rounding_is_no_overflow() -> None:
    assert ta.tensor([-0.5, 255.9]).to(np.uint8).tolist() == [0, 255]
    assert ta.tensor([1, 2]).masked_fill(ta.tensor([True, False]), 1.5).tolist() == [1, 2]


# -- arrays that are not ours ------------------------------------------------------------------------------------------


@given(dtype=st.sampled_from([d for d in DTYPES if d.itemsize > 1]), swapped=st.booleans())
def test_a_foreign_byte_order_is_converted_or_refused(dtype: np.dtype, swapped: bool) -> None:
    array = np.array([1, 2, 3], dtype.newbyteorder() if swapped else dtype)
    made = ta.tensor(array)
    assert made.dtype == dtype and made.dtype.isnative and made.tolist() == [1, 2, 3]
    assert ta.zeros(2, dtype=array.dtype).dtype.isnative and made.to(array.dtype).dtype.isnative
    assert (made + array).tolist() == [2, 4, 6] and (made + array).dtype == dtype
    made[:] = array
    assert made.tolist() == [1, 2, 3]
    for share in (ta.Tensor, ta.from_numpy):
        if swapped:
            with pytest.raises(TypeError, match="foreign byte order"):
                share(array)
        else:
            assert share(array).array is array


def test_gradients_of_a_foreign_byte_order() -> None:
    x = ta.ones(2, requires_grad=True)
    (x * x).backward(np.array([1.0, 2.0], ">f4"))
    assert x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("name", OPS)
def test_ops_take_foreign_byte_orders(name: str) -> None:
    sample = OPS[name].samples(Draw.seeded(1))
    swapped = [o.astype(o.dtype.newbyteorder()) if isinstance(o, np.ndarray) else o for o in sample.operands]
    if not any(isinstance(o, np.ndarray) for o in sample.operands):
        return
    found, expected = OPS[name](*swapped, **sample.options), OPS[name](*sample.operands, **sample.options)
    for ours, wanted in zip(*[r if isinstance(r, tuple) else (r,) for r in (found, expected)], strict=True):
        # The copy may lie in memory in another order, in which NumPy rounds otherwise.
        np.testing.assert_allclose(ours.array, wanted.array, rtol=1e-12)
        assert ours.dtype == wanted.dtype and ours.dtype.isnative


def test_unaligned_and_masked_arrays() -> None:
    unaligned = np.zeros(3, [("a", "i1"), ("b", "f4")])["b"]
    assert ta.tensor(unaligned).array.flags.aligned and (ta.ones(3) + unaligned).tolist() == [1.0] * 3
    with pytest.raises(TypeError, match="not aligned"):
        ta.from_numpy(unaligned)
    for make in (ta.tensor, ta.Tensor, ta.from_numpy):
        with pytest.raises(TypeError, match=r"[Mm]ask"):
            make(np.ma.array([1.0], mask=[True]))


@given(char=st.sampled_from("?bhilqBHILQefdgFDGSUOMm"), requires_grad=st.booleans())
def test_tensor_checks_its_array(char: str, requires_grad: bool) -> None:
    array = np.zeros(2, char)
    floats = char in "fd"
    if char in "?bhilqBHILQfd" and (floats or not requires_grad):
        assert ta.Tensor(array, requires_grad).requires_grad is requires_grad
    else:
        with pytest.raises(TypeError, match=r"float32 and float64|float32 or float64"):
            ta.Tensor(array, requires_grad)


def test_tensor_takes_arrays_only() -> None:
    for arguments in (([1.0, 2.0],), (2, 3), (None,), ("a",), (ta.ones(2),)):
        with pytest.raises(TypeError, match=r"Tensor: expected an array, got \w+; tensor\(data\) takes lists"):
            ta.Tensor(*arguments)
    assert ta.Tensor(np.float32(2.0)).shape == ()


@pytest.mark.parametrize("value", [None, "a", 1j, {}, object(), [None], ["a"]])
def test_values_that_are_no_numbers(value: Any) -> None:
    x = ta.zeros(2)

    def assign(index: Any) -> None:
        x[index] = value

    for call in (
        lambda: ta.tensor(value),
        lambda: assign(0),
        lambda: assign(x == 0),
        lambda: x.copy_(value),
        lambda: x.fill_(value),
        lambda: x.add_(value),
        lambda: x.masked_fill(x == 0, value),
        lambda: ta.full((2,), value),
    ):
        with pytest.raises(TypeError, match=r"number|complex128 is not supported"):
            call()
    assert x.tolist() == [0.0, 0.0]


def test_a_list_keeps_the_precision_of_its_partner() -> None:
    x = ta.zeros(2, dtype=np.float64)
    x[:] = [0.1, 0.2]
    assert x.tolist() == [0.1, 0.2] and ta.add(x, [0.1, 0.2]).tolist() == [0.2, 0.4]
    assert ta.add(ta.zeros(2), [0.1, 0.2]).dtype == np.float32


# -- gradients that are assigned ---------------------------------------------------------------------------------------


@given(own=st.sampled_from(DTYPES), other=st.sampled_from(DTYPES), shape=st.sampled_from([(), (1,), (2,), (2, 1)]))
def test_a_gradient_has_its_tensors_shape_and_dtype(own: np.dtype, other: np.dtype, shape: tuple[int, ...]) -> None:
    x, gradient = ta.zeros(2, dtype=own), ta.ones(*shape, dtype=other)
    if own == other and own.kind == "f" and shape == (2,):
        x.grad = gradient
        assert x.grad is gradient
    else:
        with pytest.raises((TypeError, ValueError), match=r"grad: .*(dtype|shape)"):
            x.grad = gradient
        assert x.grad is None


def test_other_things_that_are_no_gradient() -> None:
    x = ta.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match="grad: must be a tensor or None, got ndarray"):
        x.grad = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="the tensor itself"):
        x.grad = x
    x.grad = None


@pytest.mark.parametrize("target", [None, "cp", np.complex64, "f2", {}, 5, (np.int32, -1)])
def test_what_is_no_dtype(target: Any) -> None:
    for convert in (lambda: ta.ones(2).to(target), lambda: ta.nn.Linear(2, 2).to(target)):
        with pytest.raises(TypeError, match="bool, an integer type, float32 or float64"):
            convert()


def test_the_only_device() -> None:
    x, layer = ta.ones(2), ta.nn.Linear(2, 2)
    assert x.to("cpu") is x and layer.to("cpu") is layer and x.to(ta.tensor(1)).dtype == np.int64
    for thing in (x, layer):
        with pytest.raises(TypeError, match="no device 'cuda'"):
            thing.to("cuda")


def test_a_power_has_no_modulus() -> None:
    with pytest.raises(TypeError, match=r"^pow: takes at most 2 arguments, got 3$"):
        pow(ta.tensor([3.0]), 2, 5)
