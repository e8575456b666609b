"""FusedDecoder beside the plain steps: the same logits, however rows are chosen; and where it stands aside."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from own_forward import doubled

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, no_grad
from tinygrad_attn.kernels.decoder.int8 import multiply_int8_in_numpy
from tinygrad_attn.modes import unfused
from tinygrad_attn.nn.fused_decoder import FusedDecoder, TokenVectors, can_fuse
from tinygrad_attn.record import record

D, V, B, S = 24, 11, 3, 5
PADDING = np.arange(S) >= np.array([[5], [3], [2]])
# After these steps the rows are chosen: repeated, exchanged, left out.
CHOICES = {1: [0, 0, 2, 1, 1], 5: [4, 1, 2], 9: [2, 0]}
DTYPES = {np.float32: 2e-6, np.float64: 1e-13}


def parts(dtype=np.float64, heads=2, **options):
    ta.manual_seed(0)
    decoder = nn.Transformer(D, heads, 1, 2, 30, dropout=0.1, dtype=dtype, **options).decoder.eval()
    return decoder, nn.Embedding(V, D, dtype=dtype), nn.Linear(D, V, dtype=dtype)


def memory_of(decoder, dtype):
    memory = np.random.default_rng(0).standard_normal((B, S, D)).astype(dtype)
    return Tensor(memory if decoder.layers[0].self_attn.batch_first else memory.swapaxes(0, 1))


def positions(t, dtype):
    return np.random.default_rng(t).standard_normal(D).astype(dtype)


def plain_steps(decoder, embedding, output, state, dtype):
    """A function of the tokens, to their logits, and of rows, to the rows' state."""
    batch_axis = 0 if decoder.layers[0].self_attn.batch_first else 1
    count = itertools.count()

    def step(tokens):
        nonlocal state
        x = embedding(Tensor(tokens)).array * np.dtype(dtype).type(2.0) + positions(next(count), dtype)
        y, state = decoder.step(Tensor(np.expand_dims(x, 1 - batch_axis)), state)
        return output(y).array.squeeze(1 - batch_axis)

    def choose(rows):
        nonlocal state

        def cache(kept):
            return nn.KVCache(Tensor(kept.all().array[rows]), kept.length)

        layers = [layer._replace(memory=cache(layer.memory), past=cache(layer.past)) for layer in state.layers]
        mask = state.memory_mask
        state = state._replace(layers=layers, memory_mask=None if mask is None else Tensor(mask.array[rows]))

    return step, choose


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_its_logits_are_those_of_the_plain_steps(dtype, bias, norm_first, batch_first):
    decoder, embedding, output = parts(dtype, bias=bias, norm_first=norm_first, batch_first=batch_first)
    with no_grad():
        state = decoder.start(memory_of(decoder, dtype), PADDING if bias else None)
        vectors = TokenVectors(embedding.weight, lambda t: positions(t, dtype), 2.0)
        fused = FusedDecoder(decoder, vectors, output, state, 6)
        step, choose = plain_steps(decoder, embedding, output, state, dtype)
        tokens = np.array([1, 2, 3])
        for t in range(70):  # longer than what is reserved at first
            expected = step(tokens)
            np.testing.assert_allclose(fused.step(tokens), expected, rtol=0, atol=DTYPES[dtype])
            tokens = expected.argmax(-1)
            if t in CHOICES:
                rows = np.array(CHOICES[t])
                choose(rows)
                fused.choose(rows)
                tokens = tokens[rows]


def test_it_stands_aside_where_somebody_looks_on():
    decoder, *_ = parts()
    with no_grad():
        state = decoder.start(memory_of(decoder, np.float64), PADDING)
        assert can_fuse(decoder, state)
        with unfused():
            assert not can_fuse(decoder, state)
        with record():
            assert not can_fuse(decoder, state)
        with nn.record_attention_weights(decoder):
            assert not can_fuse(decoder, state)
        with ta.enable_grad():
            assert not can_fuse(decoder, state)
        decoder.train()
        assert not can_fuse(decoder, state)


def test_it_stands_aside_for_what_it_does_not_know():
    class Own(nn.TransformerDecoderLayer):
        pass

    with no_grad():
        for decoder in (
            parts(activation="gelu")[0],
            nn.TransformerDecoder(Own(D, 2, dtype=np.float64), 1).eval(),
        ):
            assert not can_fuse(decoder, decoder.start(memory_of(decoder, np.float64)))
        decoder, *_ = parts()
        added = np.where(PADDING, -np.inf, 0.0)
        assert not can_fuse(decoder, decoder.start(memory_of(decoder, np.float64), added))


@pytest.mark.parametrize(
    "path",
    [
        "self_attn", "self_attn.out_proj", "multihead_attn", "multihead_attn.out_proj", "linear1", "linear2", "norm1",
        "norm2", "norm3", "dropout", "dropout1", "dropout2", "dropout3", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["subclass", "assigned"])
def test_it_stands_aside_for_a_forward_of_the_users_own(path, way):
    decoder, *_ = parts()
    with no_grad():
        state = decoder.start(memory_of(decoder, np.float64))
        assert can_fuse(decoder, state)
        doubled(decoder.layers[1].get_submodule(path), way)
        assert not can_fuse(decoder, state)


@pytest.mark.parametrize("way", ["subclass", "assigned"])
def test_it_stands_aside_for_a_decoder_a_last_norm_or_an_output_of_the_users_own(way):
    for which in range(3):
        decoder, _, output = parts()
        with no_grad():
            state = decoder.start(memory_of(decoder, np.float64))
            assert can_fuse(decoder, state, output)
            doubled((decoder, decoder.norm, output)[which], way)
            assert not can_fuse(decoder, state, output)


def test_it_stands_aside_for_dropout_that_still_drops_and_parameters_that_do_not_fit():
    for change in ("dropout", "attention", "wide", "double"):
        decoder, *_ = parts()
        layer = decoder.layers[1]
        with no_grad():
            state = decoder.start(memory_of(decoder, np.float64))
            if change in ("dropout", "attention"):
                (layer.dropout1 if change == "dropout" else layer.self_attn).train()
            elif change == "wide":
                layer.linear2 = nn.Linear(50, D, dtype=np.float64).eval()
            else:
                layer.norm2.float()
            assert not can_fuse(decoder, state)


def test_an_embedding_and_an_output_for_another_decoder():
    decoder, embedding, output = parts()
    other = nn.Linear(V, V + 2, dtype=np.float64)
    single = nn.Embedding(V, D)
    with no_grad():
        state = decoder.start(memory_of(decoder, np.float64))
        for weight, last, message in (
            (nn.Embedding(V, 8, dtype=np.float64).weight, output, r"size 24 .*embedding is \(11, 8\)"),
            (single.weight, output, "float64, .*embedding .*float32"),
            (embedding.weight, other, r"output is \(13, 11\)"),
        ):
            vectors = TokenVectors(weight, lambda t: positions(t, np.float64), 2.0)
            with pytest.raises(ValueError, match=f"FusedDecoder: .*{message}"):
                FusedDecoder(decoder, vectors, last, state, 6)


def test_with_8_bit_weights_it_is_the_decoder_of_rounded_products(monkeypatch):
    decoder, embedding, output = parts(np.float32)
    tokens = np.array([1, 2, 3])

    def rounded(x, matrix, bias, activation=None):
        y = multiply_int8_in_numpy(x, matrix, bias)
        return np.maximum(y, 0.0) if activation == "relu" else y

    with no_grad():
        state = decoder.start(memory_of(decoder, np.float32), PADDING)
        vectors = TokenVectors(embedding.weight, lambda t: positions(t, np.float32), 2.0)
        fused = FusedDecoder(decoder, vectors, output, state, B, int8=True)
        plain = FusedDecoder(decoder, vectors, output, state, B)
        step, _ = plain_steps(decoder, embedding, output, state, np.float32)
        monkeypatch.setattr("tinygrad_attn.ops.fused.linear.product", rounded)
        for _ in range(4):
            logits = fused.step(tokens)
            np.testing.assert_allclose(logits, step(tokens), rtol=0, atol=2e-3)
            assert 0.0 < np.abs(logits - plain.step(tokens)).max() < 0.1


def test_8_bit_weights_are_for_float32():
    decoder, embedding, output = parts()
    vectors = TokenVectors(embedding.weight, lambda t: positions(t, np.float64), 2.0)
    with no_grad(), pytest.raises(ValueError, match=r"FusedDecoder: int8 is for float32 .* float64"):
        FusedDecoder(decoder, vectors, output, decoder.start(memory_of(decoder, np.float64)), B, int8=True)


def memories(dtype):
    """Sources of other numbers and lengths, with their padding."""
    rng = np.random.default_rng(1)
    for sentences, length in ((3, 5), (2, 9), (4, 2), (4, 2)):
        memory = rng.standard_normal((length, sentences, D)).astype(dtype)
        yield Tensor(memory), np.arange(length) >= rng.integers(1, length + 1, (sentences, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inside_frozen_weights_decoders_one_after_the_other_are_as_new(dtype):
    decoder, embedding, output = parts(dtype)
    vectors = TokenVectors(embedding.weight, lambda t: positions(t, dtype), 2.0)

    def logits(memory, padding):
        fused = FusedDecoder(decoder, vectors, output, decoder.start(memory, padding), 4)
        found = [fused.step(np.arange(len(padding))).copy()]
        fused.choose(np.array([1, 0, 1]))
        return [*found, *(fused.step(np.array([4, t % V, 6])).copy() for t in range(66))]

    with no_grad():
        expected = [logits(*source) for source in memories(dtype)]
        with nn.frozen_weights(nn.ModuleList([decoder, embedding, output])):
            for source, steps in zip(memories(dtype), expected, strict=True):
                for found, expected_step in zip(logits(*source), steps, strict=True):
                    np.testing.assert_array_equal(found, expected_step)


def test_inside_frozen_weights_decoders_at_the_same_time_do_not_disturb_each_other():
    decoder, embedding, output = parts()
    vectors = TokenVectors(embedding.weight, lambda t: positions(t, np.float64), 2.0)
    with no_grad(), nn.frozen_weights(nn.ModuleList([decoder, embedding, output])):
        for _ in range(2):
            states = [decoder.start(*source) for source in memories(np.float64)]
            several = [FusedDecoder(decoder, vectors, output, state, 4) for state in states]
            tokens = [np.arange(len(state.layers[0].memory.joined.array)) for state in states]
            found = [[fused.step(read).copy() for fused, read in zip(several, tokens, strict=True)] for _ in range(3)]
            for state, read, *steps in zip(states, tokens, *found, strict=True):
                alone = FusedDecoder(decoder, vectors, output, state, 4)
                np.testing.assert_array_equal([alone.step(read).copy() for _ in range(3)], steps)


@pytest.mark.parametrize("wrong", [-1, V, 1 << 40])
def test_a_token_that_is_no_symbol_is_refused_and_changes_nothing(wrong):
    decoder, embedding, output = parts()
    vectors = TokenVectors(embedding.weight, lambda t: positions(t, np.float64), 2.0)
    with no_grad():
        state = decoder.start(memory_of(decoder, np.float64), PADDING)
        fused, other = (FusedDecoder(decoder, vectors, output, state, 6) for _ in range(2))
        for t in range(3):
            with pytest.raises(IndexError, match=rf"^FusedDecoder.step: token {wrong} of row 1 is not from 0 to 10"):
                fused.step(np.array([2, wrong, 3]))
            np.testing.assert_array_equal(fused.step(np.array([t, 2, 3])), other.step(np.array([t, 2, 3])))


def test_tokens_and_rows_of_the_wrong_kind_are_refused():
    decoder, embedding, output = parts()
    vectors = TokenVectors(embedding.weight, lambda t: positions(t, np.float64), 2.0)
    with no_grad():
        state = decoder.start(memory_of(decoder, np.float64), PADDING)
        with pytest.raises(ValueError, match=r"^FusedDecoder: rows must be at least 3, one for each sentence; got 2"):
            FusedDecoder(decoder, vectors, output, state, 2)
        fused = FusedDecoder(decoder, vectors, output, state, 6)
        for tokens in (np.array([1, 2]), np.array([1.0, 2.0, 3.0]), np.array(1)):
            with pytest.raises(ValueError, match=r"^FusedDecoder.step: tokens must be integers, one for each of 3"):
                fused.step(tokens)
        fused.step(np.array([1, 2, 3]))
        with pytest.raises(IndexError, match=r"^FusedDecoder.choose: rows must be integers from 0 to 2, got"):
            fused.choose(np.array([0, 3]))
        with pytest.raises(ValueError, match=r"^FusedDecoder.choose: 7 rows are chosen, it was made for 6"):
            fused.choose(np.zeros(7, np.int64))
