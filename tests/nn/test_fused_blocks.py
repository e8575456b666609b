"""FusedBlocks beside the layers: the same logits for every setting of a language model, and where it stands aside."""

from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st
from own_forward import doubled
from tinygrad_attn_models.gpt import GPT

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, no_grad
from tinygrad_attn.modes import unfused
from tinygrad_attn.nn import fused_blocks
from tinygrad_attn.nn.fused_blocks import FusedBlock, FusedBlocks
from tinygrad_attn.nn.fused_decoder import TokenVectors
from tinygrad_attn.record import record

SYMBOLS, CONTEXT = 11, 9
MODERN = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "kv_heads": 1, "qk_norm": True}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def make(dtype=np.float64, seed=0, **options):
    ta.manual_seed(seed)
    model = GPT(SYMBOLS, **{"layers": 2, "heads": 2, "d_model": 24, "context": CONTEXT, **options}, dtype=dtype)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # far from uniform; scores that a norm's weight made large would magnify rounding
            parameter.array[...] *= 4
    return model.eval()


def log_probabilities(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


settings = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 3),
        "activation": st.sampled_from(["gelu", "gelu_tanh", "swiglu"]),
        "norm": st.sampled_from(["layer", "rms"]),
        "positions": st.sampled_from(["learned", "rotary", "alibi"]),
        "qk_norm": st.booleans(),
        "bias": st.booleans(),
    }
)
shapes = st.sampled_from([(1, 0, 8), (2, 0, 24), (4, 2, 24), (4, 1, 40), (6, 3, 36), (2, 1, 68)])


@examples
@given(settings, shapes, st.sampled_from([np.float32, np.float64]), st.integers(0, CONTEXT - 1), st.integers(0, 99))
def test_its_logits_are_those_of_the_layers(options, shape, dtype, prompt, seed):
    heads, kv_heads, d_model = shape
    model = make(dtype, seed, heads=heads, kv_heads=kv_heads, d_model=d_model, **options)
    rng = np.random.default_rng(seed)
    ids = rng.integers(SYMBOLS, size=(3, CONTEXT))
    with no_grad():
        expected, state = model(Tensor(ids)).array, model.start()
        found = log_probabilities(model.fused_decoder(state, 1).read(ids[1]))
        np.testing.assert_allclose(found[0], log_probabilities(expected[1, -1]), rtol=0, atol=TOLERANCE[dtype])
        if prompt:
            logits, state = model.read(state, Tensor(ids[:, :prompt]))
            np.testing.assert_allclose(logits.array, expected[:, prompt - 1], rtol=0, atol=TOLERANCE[dtype])
        fused = model.fused_decoder(state, 3)
        for t in range(prompt, CONTEXT):
            logits, state, _ = model.step(state, Tensor(ids[:, t]))
            found = log_probabilities(fused.step(ids[:, t]))
            np.testing.assert_allclose(found, log_probabilities(logits.array), rtol=0, atol=TOLERANCE[dtype])
            np.testing.assert_allclose(found, log_probabilities(expected[:, t]), rtol=0, atol=TOLERANCE[dtype])


def test_rows_are_chosen_and_the_state_is_left_alone():
    model, ids = make(), np.random.default_rng(0).integers(SYMBOLS, size=(4, CONTEXT))
    with no_grad():
        _, state = model.read(model.start(), Tensor(ids[:2, :3]))
        fused = model.fused_decoder(state, 4)
        rows = np.array([0, 1, 1, 0])
        fused.choose(rows)
        for t in range(3, CONTEXT):
            found = fused.step(ids[:, t]).copy()
            whole = np.concatenate([ids[rows, :3], ids[:, 3 : t + 1]], 1)
            np.testing.assert_allclose(found, model(Tensor(whole)).array[:, -1], rtol=0, atol=1e-12)
        again, _, _ = model.step(state, Tensor(ids[:2, 3]))
        expected = model(Tensor(ids[:2, :4])).array[:, -1]
        np.testing.assert_allclose(again.array, expected, rtol=0, atol=1e-12)


def test_a_text_longer_than_the_context():
    model = make(positions="rotary")
    with no_grad():
        fused = model.fused_decoder(model.start(), 1)
        for _ in range(CONTEXT):
            fused.step(np.array([1]))
        with pytest.raises(ValueError, match=f"GPT: a text of {CONTEXT + 1} symbols is longer than its context"):
            fused.step(np.array([1]))


def test_more_positions_than_were_expected():
    model = make(positions="rotary", qk_norm=True, context=200)
    blocks = [
        FusedBlock(
            block.norm1, block.self_attn, block.norm2, block.feed_forward.linear1, "gelu", None,
            block.feed_forward.linear2,
        )
        for block in model.blocks
    ]  # fmt: skip
    vectors = TokenVectors(model.embedding.weight, lambda t: 0.0, 1.0)
    ids = np.random.default_rng(0).integers(SYMBOLS, size=(1, 20))
    with no_grad():
        fused = FusedBlocks(blocks, model.norm, vectors, model.start(), 1, positions=3)
        expected = model(Tensor(ids)).array[0]
        for t in range(20):
            np.testing.assert_allclose(fused.step(ids[:, t])[0], expected[t], rtol=0, atol=1e-12)


def test_it_goes_on_from_another_state():
    model, ids = make(positions="rotary", kv_heads=1), np.random.default_rng(0).integers(SYMBOLS, size=(2, CONTEXT))
    with no_grad():
        fused = model.fused_decoder(model.start(), 2)
        for rows, count in ((1, 4), (2, 0), (2, 6), (1, 8)):
            state = model.start()
            if count:
                _, state = model.read(state, Tensor(ids[:rows, :count]))
            fused.restart(state)
            for t in range(count, CONTEXT):
                expected = model(Tensor(ids[:rows, : t + 1])).array[:, -1]
                np.testing.assert_allclose(fused.step(ids[:rows, t]), expected, rtol=0, atol=1e-12)
        _, state = model.read(model.start(), Tensor(np.repeat(ids, 2, 0)))
        with pytest.raises(ValueError, match="FusedBlocks: 4 rows were read, it was made for 2"):
            fused.restart(state)


@pytest.mark.parametrize("options", [{}, MODERN, {"positions": "alibi", "qk_norm": True}])
@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_it_reads_a_text_at_once(options, chunk, monkeypatch):
    monkeypatch.setattr(fused_blocks, "_CHUNK", chunk)
    model, ids = make(**options), np.random.default_rng(0).integers(SYMBOLS, size=(1, CONTEXT))
    with no_grad():
        expected = model(Tensor(ids)).array[0]
        fused = model.fused_decoder(model.start(), 1)
        for count in (4, 1, CONTEXT, 6):
            found = fused.read(ids[0, :count])
            np.testing.assert_allclose(found[0], expected[count - 1], rtol=0, atol=1e-12)
            for t in range(count, CONTEXT):
                np.testing.assert_allclose(fused.step(ids[:, t])[0], expected[t], rtol=0, atol=1e-12)
        with pytest.raises(ValueError, match="GPT: a text of 10 symbols is longer than its context of 9"):
            fused.read(np.ones(CONTEXT + 1, np.int64))
        for tokens in (np.array([]), np.array([1.5]), np.array([[1]])):
            with pytest.raises(ValueError, match=r"FusedBlocks\.read: tokens must be integers, at least one"):
                fused.read(tokens)
        with pytest.raises(IndexError, match=r"FusedBlocks\.read: token -1 at 1 is not from 0 to 10"):
            fused.read(np.array([3, -1, 2]))


def test_the_bits_do_not_depend_on_the_threads():
    model, ids = make(np.float32, context=80), np.random.default_rng(0).integers(SYMBOLS, size=80)

    def read_and_step():
        with no_grad():
            fused = model.fused_decoder(model.start(), 1)
            return [fused.read(ids[:70]).copy(), *(fused.step(ids[t : t + 1]).copy() for t in range(70, 80))]

    assert_same_bits(read_and_step)


def test_tokens_that_cannot_be():
    model = make()
    with no_grad():
        fused = model.fused_decoder(model.start(), 2)
        for tokens in (np.array([[1]]), np.array([1.0])):
            with pytest.raises(ValueError, match=r"FusedBlocks\.step: tokens must be integers, one for each of"):
                fused.step(tokens)
        with pytest.raises(ValueError, match=r"FusedBlocks\.step: there are 3 tokens, it was made for 2 rows"):
            fused.step(np.array([1, 2, 3]))
        expected = fused.step(np.array([3])).copy()
        fused.restart(model.start())
        with pytest.raises(IndexError, match=r"FusedBlocks\.step: token 11 at 1 is not from 0 to 10"):
            fused.step(np.array([3, 11]))
        fused.restart(model.start())
        np.testing.assert_array_equal(fused.step(np.array([3])), expected)


def test_rows_that_cannot_be_chosen():
    model = make()
    with no_grad():
        fused = model.fused_decoder(model.start(), 2)
        fused.step(np.array([3, 4]))
    with pytest.raises(ValueError, match=r"^FusedBlocks\.choose: 3 rows are chosen, it was made for 2"):
        fused.choose(np.array([0, 1, 1]))
    for rows in (np.array([2]), np.array([-1]), np.array([0.0])):
        with pytest.raises(IndexError, match=r"^FusedBlocks\.choose: rows must be integers from 0 to 1, got"):
            fused.choose(rows)


def test_a_text_that_is_too_long_leaves_what_was_read():
    model = make()
    with no_grad():
        fused = model.fused_decoder(model.start(), 1)
        expected = fused.step(np.array([3])).copy()
        with pytest.raises(Exception, match=str(CONTEXT)):
            fused.read(np.zeros(CONTEXT + 1, np.int64))
        assert fused.count == 1 and fused.rows == 1
        fused.restart(model.start())
        np.testing.assert_array_equal(fused.step(np.array([3])), expected)


def test_with_8_bit_weights_the_logits_are_nearly_the_same():
    model, ids = make(np.float32, d_model=48), np.random.default_rng(0).integers(SYMBOLS, size=(1, CONTEXT))
    with no_grad():
        fused = model.fused_decoder(model.start(), 1, int8=True)
        expected = model(Tensor(ids)).array[0]
        errors = [np.abs(fused.step(ids[:, t])[0] - expected[t]).max() for t in range(CONTEXT)]
        assert 0 < max(errors) < 0.05 * np.abs(expected).max()
    with no_grad(), pytest.raises(ValueError, match=r"FusedBlocks: int8 is for float32 .* float64"):
        make().fused_decoder(model.start(), 1, int8=True)


def test_it_stands_aside_where_somebody_looks_on():
    model = make()
    with no_grad():
        assert model.fused_decoder(model.start(), 1) is not None
        with unfused():
            assert model.fused_decoder(model.start(), 1) is None
        with record():
            assert model.fused_decoder(model.start(), 1) is None
        with nn.record_attention_weights(model):
            assert model.fused_decoder(model.start(), 1) is None
        with ta.enable_grad():
            assert model.fused_decoder(model.start(), 1) is None
        model.blocks[1].dropout.train()
        assert model.fused_decoder(model.start(), 1) is None


@pytest.mark.parametrize("way", ["subclass", "assigned"])
@pytest.mark.parametrize(
    ("options", "path"),
    [
        *(({}, path) for path in (
            "embedding", "positions", "norm", "blocks.1", "blocks.1.norm1", "blocks.1.self_attn",
            "blocks.1.self_attn.out_proj", "blocks.1.norm2", "blocks.1.feed_forward", "blocks.1.feed_forward.linear1",
            "blocks.1.feed_forward.linear2", "blocks.1.dropout",
        )),
        *((MODERN, path) for path in (
            "norm", "blocks.1.norm2", "blocks.1.self_attn.q_norm", "blocks.1.self_attn.rotary",
            "blocks.1.feed_forward", "blocks.1.feed_forward.linear3",
        )),
    ],
)  # fmt: skip
def test_it_stands_aside_for_a_forward_of_the_users_own(options, path, way):
    model = make(**options)
    with no_grad():
        assert model.fused_decoder(model.start(), 1) is not None
        doubled(model.get_submodule(path), way)
        assert model.fused_decoder(model.start(), 1) is None


def test_it_stands_aside_for_parameters_that_do_not_fit():
    for change in ("wide", "double"):
        model = make()
        if change == "wide":
            model.blocks[0].feed_forward.linear2 = nn.Linear(50, 24, dtype=np.float64).eval()
        else:
            model.blocks[1].norm2.float()
        with no_grad():
            assert model.fused_decoder(model.start(), 1) is None
