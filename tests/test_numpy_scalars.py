"""A number of NumPy's, or a tensor without axes, in place of a number of Python's. Ops are drawn."""

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
