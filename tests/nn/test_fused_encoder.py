"""An encoder as programs of kernels, held to the encoder itself."""

from __future__ import annotations

import numpy as np
import pytest
from own_forward import doubled

from tinygrad_attn import no_grad, unfused
from tinygrad_attn.nn import (
    LayerNorm,
    Linear,
    Module,
    TransformerEncoder,
    TransformerEncoderLayer,
    frozen_weights,
    record_attention_weights,
)  # fmt: skip
from tinygrad_attn.nn.functional_call import functional_call
from tinygrad_attn.nn.fused_encoder import encode_at_once
from tinygrad_attn.random import manual_seed
from tinygrad_attn.tensor import Tensor

DTYPES = [np.float32, np.float64]


def encoder_of(dtype=np.float64, layers=3, last=False, **options):
    manual_seed(0)
    layer = TransformerEncoderLayer(12, 3, 20, batch_first=True, dtype=dtype, **options)
    encoder = TransformerEncoder(layer, layers, LayerNorm(12, dtype=dtype) if last else None)
    random = np.random.default_rng(0)
    for parameter in encoder.parameters():  # no two layers alike, and biases other than 0
        parameter.array[...] = 0.3 * random.standard_normal(parameter.shape)
    return encoder.eval()


def sentences(dtype=np.float64, batch=4, length=7):
    random = np.random.default_rng(1)
    padding = np.arange(length) >= random.integers(1, length + 1, (batch, 1))
    return Tensor(random.standard_normal((batch, length, 12)).astype(dtype)), Tensor(padding)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_encoder(dtype, bias, norm_first, last):
    encoder = encoder_of(dtype, last=last, bias=bias, norm_first=norm_first)
    src, padding = sentences(dtype)
    before = src.array.copy()
    with no_grad():
        found, expected = encode_at_once(encoder, src, padding), encoder(src, src_key_padding_mask=padding)
    assert found.dtype == dtype
    np.testing.assert_array_equal(src.array, before)
    np.testing.assert_allclose(found.array, expected.array, rtol=0, atol=1e-5 if dtype is np.float32 else 1e-13)


def test_it_stands_aside_where_somebody_looks_on():
    encoder, (src, padding) = encoder_of(), sentences()
    assert encode_at_once(encoder, src, padding) is None  # gradients may be wanted
    with no_grad():
        assert encode_at_once(encoder, src, padding) is not None
        with unfused():
            assert encode_at_once(encoder, src, padding) is None
        with record_attention_weights(encoder):
            assert encode_at_once(encoder, src, padding) is None
        encoder.train()
        assert encode_at_once(encoder, src, padding) is None


@pytest.mark.parametrize("options", [{"activation": "gelu"}, {"norm": "rms"}, {"qk_norm": True}, {"num_kv_heads": 1}])
def test_it_stands_aside_for_what_it_does_not_know(options):
    with no_grad():
        assert encode_at_once(encoder_of(**options), *sentences()) is None


def test_it_is_for_few_positions():
    with no_grad():
        assert encode_at_once(encoder_of(layers=1), *sentences(batch=2, length=256)) is not None
        assert encode_at_once(encoder_of(layers=1), *sentences(batch=1, length=513)) is None


@pytest.mark.parametrize(
    ("src", "padding"),
    [((2, 4, 12), (1, 4)), ((2, 4, 12), (2, 5)), ((2, 4, 12), (4,)), ((2, 4, 8), (2, 4)), ((4, 12), (4, 12))],
)
def test_sizes_that_do_not_fit_are_for_the_encoder_to_name(src, padding):
    source, mask = Tensor(np.ones(src)), Tensor(np.zeros(padding, bool))
    with no_grad():
        assert encode_at_once(encoder_of(), source, mask) is None


def test_padding_whose_axes_were_exchanged():
    encoder, (src, padding) = encoder_of(), sentences()
    exchanged = Tensor(np.ascontiguousarray(padding.array.T).T)
    with no_grad():
        expected = encode_at_once(encoder, src, padding)
        np.testing.assert_array_equal(encode_at_once(encoder, src, exchanged).array, expected.array)


@pytest.mark.parametrize(
    "path",
    [
        "self_attn", "self_attn.out_proj", "linear1", "linear2", "norm1", "norm2", "dropout", "dropout1", "dropout2",
        "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["subclass", "assigned"])
def test_it_stands_aside_for_a_forward_of_the_users_own(path, way):
    encoder = encoder_of()
    layer = encoder.layers[1]
    with no_grad():
        assert encode_at_once(encoder, *sentences()) is not None
        doubled(layer.get_submodule(path), way)
        assert encode_at_once(encoder, *sentences()) is None


@pytest.mark.parametrize("way", ["subclass", "assigned"])
@pytest.mark.parametrize("last", [True, False])
def test_it_stands_aside_for_an_encoder_or_a_last_norm_of_the_users_own(last, way):
    encoder = encoder_of(last=True)
    doubled(encoder.norm if last else encoder, way)
    with no_grad():
        assert encode_at_once(encoder, *sentences()) is None


def test_it_stands_aside_for_dropout_that_still_drops():
    encoder = encoder_of()
    encoder.layers[1].dropout1.train()  # as for samples of what the model might say
    with no_grad():
        assert encode_at_once(encoder, *sentences()) is None


@pytest.mark.parametrize("change", ["double", "wide"])
def test_it_stands_aside_for_parameters_that_do_not_fit(change):
    encoder = encoder_of(np.float32)
    with no_grad():
        if change == "double":
            encoder.layers[1].linear2.double()
        else:
            encoder.layers[1].linear2 = Linear(50, 12)
        assert encode_at_once(encoder.eval(), *sentences(np.float32)) is None


def test_inside_frozen_weights_sources_one_after_the_other_are_encoded_as_new():
    encoder, other = encoder_of(last=True), encoder_of(layers=1)
    sources = [sentences(length=length) for length in (7, 7, 3, 7)]
    with no_grad():
        expected = [encode_at_once(encoder, *source).array for source in sources]
        alone = encode_at_once(other, *sources[0]).array
        with frozen_weights(encoder):
            found = []
            for source in sources:
                found.append(encode_at_once(encoder, *source))
                np.testing.assert_array_equal(encode_at_once(other, *sources[0]).array, alone)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.array, two)


def test_another_models_weights_are_not_frozen():
    teacher, student = encoder_of(last=True), encoder_of(last=True)
    source = sentences()
    with no_grad(), frozen_weights(teacher):
        for _ in range(2):
            for parameter in student.parameters():
                parameter.mul_(0.5)
            with frozen_weights(student):  # which is within another block, and changes nothing
                np.testing.assert_allclose(
                    encode_at_once(student, *source).array, student(source[0], None, source[1]).array, rtol=1e-12
                )


def test_other_parameters_are_not_those_that_are_frozen():
    encoder, source = encoder_of(), sentences()
    halves = {name: parameter.detach() * 0.5 for name, parameter in encoder.named_parameters()}

    class Fused(Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, source, padding):
            return encode_at_once(self.encoder, source, padding)

    model = Fused().eval()
    given = {f"encoder.{name}": half for name, half in halves.items()}
    with no_grad():
        expected = functional_call(model, given, source).array
        with frozen_weights(model):
            before = model(*source).array
            np.testing.assert_array_equal(functional_call(model, given, source).array, expected)
            np.testing.assert_array_equal(model(*source).array, before)
