"""What users give as values: NumPy scalars, lists, foreign arrays, numbers out of range. Ops and dtypes are drawn."""

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.public import NAMESPACES
from tinygrad_attn.samples import Draw
from tinygrad_attn.tensor import Tensor

OPS = {n: o for n, o in registered_ops().items() if o.__module__.startswith("tinygrad_attn.") and o.samples}
INTEGERS = [np.dtype(c) for c in "bhilBHIL"]
DTYPES = [*INTEGERS, np.dtype(np.bool_), np.dtype(np.float32), np.dtype(np.float64)]

# -- a number of NumPy's, or a tensor without axes, for a number of Python's -------------------------------------------


def disguised(value: Any, kind: int) -> Any:
    """A Python number as a NumPy scalar, an array or a tensor without axes; inside tuples and lists too."""
    if isinstance(value, (tuple, list)) and all(isinstance(item, (int, float)) for item in value):
        return [disguised(item, kind % 2) for item in value]
    if not isinstance(value, (int, float)):
        return value
    integer = np.int32 if kind % 2 and abs(value) < 2**31 else np.int64
    scalars = {bool: np.bool_, int: integer, float: (np.float64, np.float32)[kind % 2]}
    scalar = scalars[type(value)](value)
    if scalar.item() != value:  # a float that float32 rounds
        scalar = np.float64(value)
    return (scalar, scalar, np.asarray(scalar), ta.tensor(scalar))[kind]


def outcome(function: Any, operands: list[Any], options: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The values of a call in float32, and the gradients of its operands."""
    ta.manual_seed(0)
    tensors = [
        ta.tensor(o.astype(np.float32), requires_grad=True)
        if isinstance(o, np.ndarray) and o.dtype.kind == "f"
        else (Tensor(o) if isinstance(o, np.ndarray) else o)
        for o in operands
    ]
    result = function(*tensors, **options)
    outputs = list(result) if isinstance(result, tuple) else [result]
    values = [output.array.copy() for output in outputs]
    started = [output for output in outputs if output.requires_grad]
    if started:
        ta.backward(started, [ta.ones_like(output) for output in started])
    return values, [t.grad.array for t in tensors if isinstance(t, Tensor) and t.grad is not None]


def assert_same(found: Any, expected: Any) -> None:
    for ours, wanted in zip(found, expected, strict=True):
        assert len(ours) == len(wanted)
        for array, other in zip(ours, wanted, strict=True):
            assert array.dtype == other.dtype
            np.testing.assert_array_equal(array, other)


def assert_scalars_change_nothing(op: Op, draw: Draw, kind: int) -> None:
    """A call with its numbers in disguise gives the values, dtypes and gradients of the call without."""
    sample = op.samples(draw)
    options = {n: disguised(v, kind) for n, v in sample.options.items()}
    operands = [disguised(o, kind % 2) if isinstance(o, (int, float)) else o for o in sample.operands]
    assert_same(outcome(op, operands, options), outcome(op, list(sample.operands), sample.options))


@pytest.mark.parametrize("name", OPS)
def test_a_numpy_scalar_is_a_number(name: str) -> None:
    for kind in range(4):
        assert_scalars_change_nothing(OPS[name], Draw.seeded(kind), kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
@given(data=st.data())
def test_a_numpy_scalar_is_a_number_in_any_sample(name: str, data: st.DataObject) -> None:
    draw = Draw(lambda low, high: data.draw(st.integers(low, high)))
    assert_scalars_change_nothing(OPS[name], draw, data.draw(st.integers(0, 3)))


X = np.linspace(-1.0, 2.0, 12).reshape(3, 4)
WEIGHTS = np.ones(4)
CALLS: dict[str, list[tuple[Any, ...]]] = {
    # Functions that are no ops themselves: positional arguments after the tensor, then options.
    "ta.reshape": [(2, 6), ((6, 2),)], "ta.flatten": [(0, 1)], "ta.expand": [(2, 3, 4)],
    "ta.broadcast_to": [((2, 3, 4),)],
    "ta.permute": [(1, 0)], "ta.movedim": [(0, 1), ((0, 1), (1, 0))], "ta.flip": [(0,), ((0, 1),)],
    "ta.sum": [(0, True), ((0, 1),)], "ta.mean": [(0, True)], "ta.cumsum": [(1,)], "ta.prod": [(1, True)],
    "ta.select": [(1, 2)], "ta.narrow": [(1, 1, 2)], "ta.split": [(2, 1), ([1, 3], 1)], "ta.chunk": [(2, 1)],
    "ta.unbind": [(1,)], "ta.repeat": [(2, 1), ((1, 2),)], "ta.roll": [(1,), (1, 0), ((1, 2), (0, 1))],
    "ta.max": [], "ta.min": [], "ta.sort": [(1, True)], "ta.topk": [(2, 1, False)],
    "ta.var": [(0, False), (0, True, True), {"correction": 0.5}], "ta.std": [(0, False), {"correction": 2}],
    "ta.var_mean": [(0, True, True), {"correction": 0.5}], "ta.take_along_dim": [(np.zeros((3, 1), int), 1)],
    "ta.masked_fill": [(X > 0, 2.5)], "ta.index_put": [([np.array([0])], 2.5, True)],
    "F.dropout": [(0.5,)], "F.layer_norm": [(4, None, None, 0.01), ((4,), WEIGHTS)],
    "F.add_layer_norm": [(X, 4, None, None, 0.01)], "F.rms_norm": [(4, None, 0.01)], "F.normalize": [(3.0, 1, 0.01)],
    "F.rotary": [(2, 100.0, 0, None)],
    "F.cosine_similarity": [(X, 1, 0.01)], "F.pad": [([1, 2], "constant", 0.5)],
    "F.cross_entropy": [(np.array([0, 1, 2]), None, {"label_smoothing": 0.1, "ignore_index": 1})],
    "F.nll_loss": [(np.array([0, 1, 2]), None, {"ignore_index": 1})],
    "F.scaled_dot_product_attention": [(X, X, None, 0.5, True, 0.3)], "linalg.vector_norm": [(3, 0, True), (1.5,)],
    "F.mse_loss": [], "F.l1_loss": [], "F.smooth_l1_loss": [(X * 0.5, {"beta": 0.5})], "F.binary_cross_entropy": [],
    "F.huber_loss": [(X * 0.5, {"delta": 0.5})], "F.kl_div": [(X, {"log_target": True})],
    "F.binary_cross_entropy_with_logits": [],
    "ta.norm": [(3, 0, True), (1.5,)], "ta.tile": [(2, 1), ((1, 2),)], "ta.repeat_interleave": [(2, 1), (2,)],
    "ta.unflatten": [(1, (2, 2))], "ta.diag": [(1,)], "ta.index_fill": [(1, np.array([0, 2]), 2.5)],
    "ta.unique": [(True, True, True)], "ta.count_nonzero": [(1,), ((0, 1),)], "ta.nonzero": [({"as_tuple": True},)],
    "ta.isclose": [(X, 1e-3, 1e-3)], "ta.div": [(2.5,), (2.5, {"rounding_mode": "floor"})],
    "ta.addmm": [(X[:, :3], X, {"beta": 0.5, "alpha": 2})], "ta.baddbmm": [], "ta.allclose": [], "ta.equal": [],
    "ta.meshgrid": [], "ta.bincount": [], "ta.masked_select": [(X > 0,)], "F.one_hot": [], "F.glu": [(1,)],
}  # fmt: skip


@pytest.mark.parametrize("kind", [0, 1, 3])
def test_functions_of_other_operands_take_numpy_scalars(kind: int) -> None:
    index = np.array([0, 2, 1])
    for function, operands, named in [
        (F.one_hot, [index], {"num_classes": 4}),
        (ta.bincount, [index], {"minlength": 5}),
        (ta.baddbmm, [X[None, :, :3], X[None], X.T[None]], {"beta": 0.5, "alpha": 2}),
    ]:
        hidden = {name: disguised(value, kind) for name, value in named.items()}
        assert_same(outcome(function, operands, hidden), outcome(function, operands, named))
    assert ta.allclose(ta.ones(2), ta.ones(2) + 0.1, disguised(0.2, kind), disguised(0.0, kind))


def public_functions() -> dict[str, Any]:
    """Functions of a tensor that take numbers, besides the ops and the methods of the same name."""
    found = {}
    for space in ("ta", "F", "linalg"):
        for name, function in NAMESPACES[space].items():
            home = getattr(function, "__module__", "")
            if isinstance(function, (Op, type)) or not home.startswith("tinygrad_attn.ops"):
                continue
            if function.__name__ != name:  # another name of a function that is here already
                continue
            annotations = [str(p.annotation) for p in inspect.signature(function).parameters.values()][1:]
            if any(kind in text for text in annotations for kind in ("int", "float", "bool", "Dim", "Any")):
                found[f"{space}.{name}"] = function
    return found


def test_every_function_that_takes_numbers_is_called() -> None:
    assert set(public_functions()) - set(CALLS) - {"ta.einsum", "ta.cat", "ta.stack"} == set()


@pytest.mark.parametrize("name", [name for name, calls in CALLS.items() if calls])
def test_functions_take_numpy_scalars(name: str) -> None:
    function = public_functions()[name]
    for call in CALLS[name]:
        options = call if isinstance(call, dict) else call[-1] if isinstance(call[-1], dict) else {}
        given = [] if isinstance(call, dict) else [a for a in call if not isinstance(a, dict)]
        for kind in (0, 1, 3):
            operands = [X, *[disguised(a, kind) for a in given]]
            named = {n: disguised(v, kind) for n, v in options.items()}
            assert_same(outcome(function, operands, named), outcome(function, [X, *given], options))


@given(kind=st.integers(0, 3), step=st.sampled_from([1, 0.5, 2]), size=st.integers(0, 3))
def test_creation_takes_numpy_scalars(kind: int, step: float, size: int) -> None:
    def d(value: Any) -> Any:
        return disguised(value, kind)

    for found, expected in [
        (ta.full((d(size),), d(step)), ta.full((size,), step)),
        (ta.zeros(d(size), d(2)), ta.zeros(size, 2)),
        (ta.arange(d(size), d(4), d(step)), ta.arange(size, 4, step)),
        (ta.linspace(d(0.5), d(2.0), d(size)), ta.linspace(0.5, 2.0, size)),
        (ta.eye(d(size)), ta.eye(size)),
        (ta.full_like(ta.ones(2), d(step)), ta.full_like(ta.ones(2), step)),
    ]:
        assert found.dtype == expected.dtype and found.tolist() == expected.tolist()
    assert ta.randint(d(2), d(5), (d(size),)).shape == (size,) and ta.randperm(d(size)).shape == (size,)


def test_an_option_is_of_its_type() -> None:
    x = ta.tensor([[1.0, 2.0]], requires_grad=True)
    with pytest.raises(TypeError, match="clamp: min takes a number, through which no gradient flows"):
        x.clamp(min=x[0, 0])
    with pytest.raises(TypeError, match="clamp: min must be a number or None, got a Tensor of float32"):
        x.clamp(min=ta.ones(2))
    with pytest.raises(TypeError, match="sum: keepdim must be True or False, got 'no'"):
        x.sum(0, keepdim="no")
    with pytest.raises(TypeError, match=r"argmax: dim must be an integer or None, got 1\.0"):
        x.argmax(dim=1.0)
    with pytest.raises(TypeError, match="dropout: p must be a number, got 'a'"):
        F.dropout(x, p="a")
    with pytest.raises(TypeError, match=r"narrow: start must be an integer, got 0\.5"):
        x.narrow(1, 0.5, 1)
    assert x.sum(0, keepdim=1).shape == (1, 2)


def test_sizes_as_arrays_and_long_doubles() -> None:
    """Sizes computed by NumPy, and its widest float, are numbers like others."""
    x, sizes = ta.ones(2, 3), np.array([3, 2])
    for found in (
        x.reshape(sizes),
        x.view(ta.tensor(sizes)),
        ta.zeros(sizes),
        ta.randn(ta.tensor(sizes)),
        x.repeat([1, 1]).T,
    ):
        assert found.shape == (3, 2)
    assert x.permute(np.array([1, 0])).shape == (3, 2) and ta.ones(1, 3).expand(np.array([2, 3])).shape == (2, 3)
    assert (x * np.longdouble(2)).dtype == x.clamp(min=np.longdouble(0.5)).dtype == np.float32


def test_a_tensor_in_a_slice_is_not_kept() -> None:
    x, start = ta.ones(3, requires_grad=True), ta.tensor(1)
    y = x[start:]
    start.fill_(2)
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0]


def test_a_list_of_axes_is_not_kept() -> None:
    x, dims = ta.ones(2, 3, requires_grad=True), [0]
    y = x.sum(dim=dims)
    dims[0] = 1
    y.backward(ta.tensor([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == [[1.0, 2.0, 3.0]] * 2


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
