"""GPT: its gradients, its steps, and the loss of a text."""

import numpy as np
import pytest
from own_forward import doubled
from tinygrad_attn_models.data import Windows
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.interface import LanguageModel, Translator
from tinygrad_attn_models.multihead import NORMS
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import ConfigError, load_config
from tinygrad_attn_models.transformer import Transformer
from translators import check_gradients

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, set_grad_enabled

FORMS = {
    "plain": {},
    "gpt-2": {"bias": True, "activation": "gelu_tanh"},
    "modern": {"norm": "rms", "activation": "swiglu", "positions": "rotary", "kv_heads": 1, "qk_norm": True},
    "alibi": {"positions": "alibi"},
}


def make(symbols=7, context=6, dtype=np.float64, **options):
    ta.manual_seed(0)
    return GPT(symbols, **{"layers": 2, "heads": 2, "d_model": 8, "context": context, **options}, dtype=dtype)


def text(rows=3, length=5, symbols=7):
    return np.random.default_rng(1).integers(symbols, size=(rows, length))


@pytest.fixture(params=FORMS)
def options(request):
    return FORMS[request.param]


@pytest.mark.parametrize(
    "form", [form if form == "modern" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_gradients(form):
    model = make(**FORMS[form])
    (batch,) = Windows(text().ravel(), length=4, batch_size=2, count=2).epoch(0)
    check_gradients(model, most=8, batch=batch)


def test_the_sums_between_blocks_have_the_bits_of_blocks_called_one_by_one(options):
    model = make(dtype=np.float32, **options)
    symbols = Tensor(text())

    def one_by_one():
        x = model._embed(symbols)
        for block in model.blocks:
            x = block(x)
        return model._logits(x)

    def results(logits):
        return logits, *ta.grad(logits.square().sum(), list(model.parameters()))

    for ours, expected in zip(results(model(symbols)), results(one_by_one()), strict=True):
        np.testing.assert_array_equal(ours.array, expected.array)


@pytest.mark.parametrize("way", ["subclass", "assigned"])
def test_a_block_calls_the_linear_map_that_a_user_put_into_it(way):
    ours, theirs = make(), make()
    doubled(theirs.blocks[0].feed_forward.linear1, way)
    with ta.no_grad():
        ours.blocks[0].feed_forward.linear1.weight.mul_(2.0)
    np.testing.assert_allclose(theirs(Tensor(text()))[0].array, ours(Tensor(text()))[0].array, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", ["subclass", "assigned"])
def test_an_embedding_that_a_user_put_into_it_is_called(way):
    ours, theirs = make(), make()
    doubled(theirs.embedding, way)
    with ta.no_grad():
        expected = 2.0 * ours.embedding.weight[Tensor(text())] + ours.positions.vectors(5)
    np.testing.assert_allclose(theirs._embed(Tensor(text())).array, expected.array, rtol=0, atol=1e-12)


@pytest.mark.parametrize("recorded", [True, False])
def test_steps_give_the_logits_and_weights_of_the_whole_text(options, recorded):
    model, ids = make(**options).eval(), text(length=6)
    expected, weights = model(Tensor(ids), need_weights=True)
    assert list(weights) == ["blocks.0.self_attn", "blocks.1.self_attn"]
    with set_grad_enabled(recorded):
        state = model.start(model.encode())
        for t in range(6):
            before = state
            logits, state, found = model.step(state, Tensor(ids[:, t]), need_weights=True)
            np.testing.assert_allclose(logits.array, expected.array[:, t], rtol=0, atol=1e-12)
            for path, attention in found.items():
                whole = weights[path].array[:, :, t : t + 1, : t + 1]
                np.testing.assert_allclose(attention.array, whole, rtol=0, atol=1e-12)
            again, _, none = model.step(before, Tensor(ids[:, t]))
            np.testing.assert_allclose(again.array, logits.array, rtol=0, atol=1e-12)
            assert none == {}


def test_a_position_reads_no_later_one():
    model, ids = make().eval(), text(length=6)
    changed = ids.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % 7
    first, second = model(Tensor(ids)).array, model(Tensor(changed)).array
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert (first[:, 3:] != second[:, 3:]).any()


def test_the_small_one_is_as_known():
    model = MODELS["gpt"].from_settings(load_config(None, ["model.name=gpt", "data.kind=stories"]).model, 65, 65)
    assert isinstance(model, LanguageModel) and not isinstance(model, Translator)
    assert sum(parameter.numel() for parameter in model.parameters()) == 804_096


def test_weights_that_write_to_the_stream_are_small():
    model = GPT(50, layers=8, heads=4, d_model=64, context=16)
    spread = {name: float(parameter.array.std()) for name, parameter in model.named_parameters() if parameter.ndim > 1}
    for name, found in spread.items():
        onto = name.endswith(("out_proj.weight", "linear2.weight"))
        assert found == pytest.approx(0.005 if onto else 0.02, rel=0.1), name


def test_dropout_is_of_training_alone():
    model = make(dropout=0.5)
    first, second = model(Tensor(text())).array, model(Tensor(text())).array
    assert (first != second).any()
    model.eval()
    np.testing.assert_array_equal(model(Tensor(text())).array, model(Tensor(text())).array)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="a text of 7 symbols is longer than its context of 6"):
        make()(Tensor(text(length=7)))
    for options, message in (
        ({"activation": "relu"}, r"model\.activation: .*gelu, gelu_tanh, swiglu.* got 'relu'"),
        ({"kv_heads": 3}, r"model\.kv_heads is 3, which does not divide model\.heads 2"),
        ({"heads": 8, "positions": "rotary"}, r"turns pairs: model\.d_model 8 / model\.heads 8 must be even"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(**options)
    with pytest.raises(ConfigError, match=r"model\.heads is 3, which does not divide model\.d_model 128"):
        load_config(None, ["model.name=gpt", "data.kind=stories", "model.heads=3"])
    with pytest.raises(ConfigError, match=r"'gpt', which reads a text .* and data\.kind 'dates' gives pairs"):
        load_config(None, ["model.name=gpt"])
    with pytest.raises(ConfigError, match=r"'bahdanau', which reads pairs .* 'stories' gives a text without"):
        load_config(None, ["data.kind=stories"])


@pytest.mark.parametrize("norm", NORMS)
def test_its_norms_have_the_eps_of_the_transformers(norm):
    gpt = GPT(9, layers=1, heads=2, d_model=8, norm=norm)
    other = Transformer(9, 9, d_model=8, heads=2, d_ff=8, encoder_layers=1, decoder_layers=1, norm=norm)
    found = [
        {module.eps for module in model.modules() if isinstance(module, (nn.LayerNorm, nn.RMSNorm))}
        for model in (gpt, other)
    ]
    assert found == [{1e-5}, {1e-5}]
