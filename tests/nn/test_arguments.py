"""What layers refuse, and in which words: every argument of every constructor, inputs, and states."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.checked import Refused, _kinds

LAYERS = {
    name: kind
    for name in nn.__all__
    if isinstance(kind := getattr(nn, name), type) and issubclass(kind, nn.Module) and kind not in (nn.Module, nn.Score)
}
HOSTILE = [
    -1, 0, 1.5, float("nan"), float("inf"), -0.5, None, True, "x", "", [1], (1, 2), {}, object(), np.float32(0.5),
    np.int64(-3), np.array([1, 2]), 2**62, 10**400, np.dtype(np.float32),
    complex(1, 2), int, np.int32, ta.ones(2), nn.Dropout(0.1), print,
]  # fmt: skip
FREE = {"arguments", "options"}
"""Arguments of Identity, which takes any."""


def valid(name: str, parameter: inspect.Parameter) -> Any:
    """A value that a layer's argument may have."""
    layers = {"encoder_layer": nn.TransformerEncoderLayer, "decoder_layer": nn.TransformerDecoderLayer}
    return layers[name](2, 2, 2) if name in layers else 2


def required(kind: type) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters
    return {
        name: valid(name, p)
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def attempt(kind: type, options: dict[str, Any]) -> nn.Module | Exception:
    parameters = inspect.signature(kind).parameters
    positional = [options.pop(n) for n in list(options) if parameters[n].kind is inspect.Parameter.VAR_POSITIONAL]
    try:
        return kind(*positional, **options)
    except Exception as error:
        return error


@pytest.mark.parametrize("name", LAYERS)
@given(st.data())
def test_every_argument_is_checked_by_one_mechanism(name: str, data: st.DataObject) -> None:
    kind = LAYERS[name]
    parameters = [n for n in inspect.signature(kind).parameters if n not in FREE]
    if not parameters:
        assert isinstance(kind(), nn.Module)
        return
    argument = data.draw(st.sampled_from(parameters))
    value = data.draw(st.sampled_from(HOSTILE))
    check = _kinds(kind.__init__).get(argument)
    made = attempt(kind, {**required(kind), argument: value})
    if check is not None:
        try:
            check(value)
        except Refused as refused:
            assert type(made) is refused.kind, made
            assert str(made).startswith(f"{name}: {argument} {refused}"), made
            return
    if isinstance(made, Exception):
        assert isinstance(made, (TypeError, ValueError, MemoryError, KeyError)), repr(made)
        assert str(made).lstrip("'\"").startswith(f"{name}: ") and "\n" not in str(made), made


@pytest.mark.parametrize("name", LAYERS)
def test_arguments_that_nothing_checks_are_few(name: str) -> None:
    kind = LAYERS[name]
    unchecked = set(inspect.signature(kind).parameters) - set(_kinds(kind.__init__)) - FREE
    assert unchecked <= {"modules", "weight", "pos_weight"}


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: nn.Linear(-1, 3), ValueError, "Linear: in_features must be at least 0, got -1"),
        (lambda: nn.Linear(2.0, 3), TypeError, "Linear: in_features must be an integer, got 2.0"),
        (lambda: nn.Linear(2, 3, dtype=int), TypeError, "Linear: dtype must be float32 or float64, got int"),
        (lambda: nn.MultiheadAttention(0, 1), ValueError, "MultiheadAttention: embed_dim must be at least 1, got 0"),
        (lambda: nn.Transformer(num_encoder_layers=-1), ValueError,
         "Transformer: num_encoder_layers must be at least 0, got -1"),
        (lambda: nn.GRU([2], 3), TypeError, "GRU: input_size must be an integer, got a list"),
        (lambda: nn.GRU(2, 3, True), TypeError, "GRU: num_layers must be an integer, got True"),
        (lambda: nn.LSTM(2, 0), ValueError, "LSTM: hidden_size must be at least 1, got 0"),
        (lambda: nn.LayerNorm((2, -1)), ValueError,
         "LayerNorm: normalized_shape must be an integer of at least 0, or several, got (2, -1)"),
        (lambda: nn.Dropout(float("nan")), ValueError, "Dropout: p must be a finite number, got nan"),
        (lambda: nn.Linear(3), TypeError,
         "Linear: missing a required argument: 'out_features'; it takes (in_features, out_features, bias=True, "
         "dtype=dtype('float32'))"),
        (lambda: nn.ReLU(inplace=True), TypeError, "ReLU: got an unexpected keyword argument 'inplace'; it takes ()"),
        (lambda: nn.Linear(2**40, 2**40), MemoryError,
         f"Linear: its parameters do not fit into memory (in_features={2**40}, out_features={2**40})"),
        (lambda: nn.CrossEntropyLoss(reduction="avg"), ValueError,
         "CrossEntropyLoss: reduction must be 'mean', 'sum' or 'none', got 'avg'"),
        (lambda: nn.BCELoss(weight="x"), TypeError, "BCELoss: weight must be a tensor, got 'x'"),
        (lambda: nn.Sequential(nn.ReLU())[3], IndexError, "Sequential: index 3 is out of range for 1 modules"),
        (lambda: nn.ModuleDict({"training": nn.ReLU()}), KeyError, "ModuleDict: a module cannot be named 'training'"),
        (lambda: nn.ModuleDict({"a": nn.ReLU()})["b"], KeyError, "ModuleDict: there is no module 'b'; there are a"),
        (lambda: nn.GRU(2, 3)(), TypeError,
         "GRU: missing a required argument: 'input'; it takes (input, hx=None, mask=None, lengths=None)"),
        (lambda: nn.Linear(2, 3)(ta.ones(2), bias=True), TypeError,
         "Linear: got an unexpected keyword argument 'bias'; it takes (input)"),
        (lambda: nn.GRU(2, 3)("x"), TypeError, "GRU: input must be a tensor, got 'x'"),
        (lambda: nn.LSTMCell(2, 3)(None), TypeError, "LSTMCell: input must be a tensor, got None"),
        (lambda: nn.GRU(2, 3)(ta.ones(4, 1, 2).long()), TypeError,
         "GRU: input must hold floats, it is int64; convert it with float()"),
        (lambda: nn.MultiheadAttention(2, 1)(ta.ones(3, 1, 2), None, None), TypeError,
         "MultiheadAttention: key must be a tensor, got None"),
        (lambda: nn.TransformerEncoderLayer(2, 1)(3), TypeError,
         "TransformerEncoderLayer: src must be a tensor, got 3"),
        (lambda: nn.SinusoidalPositionalEncoding(2)({}), TypeError,
         "SinusoidalPositionalEncoding: input must be a tensor, got a dict"),
        (lambda: nn.DotScore()(ta.ones(1, 2), [1.0]), ValueError, "DotScore: query must be (B, D)"),
    ],
)  # fmt: skip
def test_messages(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value).lstrip("'\"").startswith(message)


def test_numpy_integers_are_sizes_and_lists_inputs() -> None:
    layer = nn.GRU(np.int64(2), np.int32(3), num_layers=np.int8(1))
    assert type(layer.hidden_size) is int
    outputs, _ = layer([[1.0, 2.0], [3.0, 4.0]])
    assert outputs.shape == (2, 3) and outputs.dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 2), int), "wrong dtype: weight is int64, expected float32"),
        (np.zeros((3, 2), complex), "wrong dtype: weight is complex128, expected float32"),
        (np.zeros((3, 2), bool), "wrong dtype: weight is bool, expected float32"),
        (np.full((3, 2), "x"), "wrong dtype: weight is <U1, expected float32"),
        ("weights.npz", r"wrong shape: weight is \(\), expected \(3, 2\)"),
        (None, r"wrong shape: weight is \(\), expected \(3, 2\)"),
        ([[1.0], [1.0, 2.0]], r"wrong shape: weight is \(\), expected \(3, 2\)"),
        (np.zeros((2, 3)), r"wrong shape: weight is \(2, 3\), expected \(3, 2\)"),
        (float("nan"), r"wrong shape: weight is \(\), expected \(3, 2\)"),
    ],
)
def test_states_that_cannot_be_loaded(value: Any, message: str) -> None:
    layer = nn.Linear(2, 3)
    before = {name: p.array.copy() for name, p in layer.state_dict().items()}
    with pytest.raises(ValueError, match=f"(?s)^load_state_dict of Linear:.*{message}"):
        layer.load_state_dict({"weight": value, "bias": np.ones(3)})
    assert all(np.array_equal(p.array, before[name]) for name, p in layer.state_dict().items())


def test_a_state_is_a_dict_and_is_converted_among_floats() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(TypeError, match=r"load_state_dict of Linear: state must be a dict, got 'best.safetensors'"):
        layer.load_state_dict("best.safetensors")
    with pytest.raises(ValueError, match=r"missing: bias \(3,\)"):
        layer.load_state_dict({"weight": np.ones((3, 2))})
    layer.load_state_dict({"weight": np.ones((3, 2), np.float16), "bias": ta.ones(3, dtype=ta.float64)})
    assert layer.weight.dtype == np.float32 and layer.weight.array.sum() == 6.0


def test_a_dtype_is_numpys_own_object_by_which_ops_recognise_the_usual_case() -> None:
    for dtype in (None, "float32", "<f4", ">f4", np.float32, np.dtype(np.float32).newbyteorder("=")):
        assert nn.Linear(2, 3, dtype=dtype).weight.array.dtype is np.dtype(np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.init.normal_(ta.tensor([1])), "normal_: tensor must be a tensor of floats, got one of int64"),
        (lambda: nn.init.zeros_(None), "constant_: tensor must be a tensor of floats, got None"),
        (lambda: nn.init.normal_(ta.ones(2), std="a"), "normal_: std must be a number, got 'a'"),
        (lambda: nn.init.uniform_(ta.ones(2), b=None), "uniform_: b must be a number, got None"),
        (lambda: nn.init.ones_(ta.ones(1).expand(3)), "constant_: the memory of this tensor .* is read-only"),
        (lambda: nn.init.constant_(ta.zeros(2).byte(), 300), "constant_: 300 does not fit uint8"),
        (lambda: nn.init.xavier_uniform_(3), "two axes, this one 3"),
        (lambda: nn.Linear(2, 2).apply(3), "apply: expected a function of a module, got 3"),
        (lambda: nn.Linear(2, 2).train("a"), "train: mode must be True or False, got 'a'"),
        (
            lambda: nn.Linear(2, 2).register_buffer("b", 3),
            "register_buffer: expected a name and a tensor, got 'b' and 3",
        ),
        (lambda: nn.Linear(2, 2).register_buffer(3, None), "register_buffer: expected a name and a tensor, got 3"),
        (lambda: nn.count_parameters(3), "count_parameters: expected a function that makes a module, got 3"),
        (lambda: nn.Linear(2, 3)(None), "linear: input must be a tensor, an array or a number, got None"),
    ],
)
def test_functions_of_modules_name_what_they_cannot_take(call, message):
    with pytest.raises((TypeError, ValueError, OverflowError), match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ta.set_num_threads("a"), "set_num_threads: count must be an integer, got 'a'"),
        (lambda: ta.capture(3), "capture: expected a function of tensors, got 3"),
        (lambda: ta.gradcheck(3, []), "gradcheck: expected a function of tensors, got 3"),
        (lambda: ta.check_op(len), "check_op: expected an op, as @op makes it, got a builtin_function_or_method"),
        (lambda: nn.Linear(2, 2)([[1.0], [1.0, 2.0]]), "nested lists must have equal lengths"),
        (
            lambda: ta.optim.lr_scheduler.LambdaLR(ta.optim.SGD([ta.zeros(1)], lr=0.1), lambda step: None),
            "LambdaLR: what lr_lambda returns must be a number, got None",
        ),
    ],
)
def test_what_takes_functions_names_what_is_none(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
