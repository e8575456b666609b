"""The announcements of layers: names in order, shapes, module and step, and the gradient through each alias alone."""

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import MARKS, at_step, mark
from tinygrad_attn.nn import functional as F
from tinygrad_attn.record import record

B, T, S, D = 2, 3, 4, 6
MASK = np.array([[True, True, False, True], [False, True, True, False]])
CALL = ["query", "key", "value", "scores", "mask", "weights", "context"]


def draw(*shape, seed=0):
    return ta.Tensor(np.random.default_rng([seed, *shape]).standard_normal(shape), requires_grad=True)


def announced(run):
    """The marks of a forward and a backward pass in primitives."""
    with record() as tape, ta.unfused():
        run().square().sum().backward()
    assert {found.name for found in tape.marks} <= set(MARKS)
    return tape.marks


def names(marks):
    return [found.name for found in marks]


def detail(marks, key):
    """The last word on a detail of one call of attention."""
    return [found.details[key] for found in marks if key in found.details][-1]


SCORES = {
    "dot": nn.DotScore,
    "scaled_dot": nn.ScaledDotScore,
    "general": lambda: nn.GeneralScore(D, D, dtype=np.float64),
    "concat": lambda: nn.ConcatScore(D, D, 5, dtype=np.float64),
    "additive": lambda: nn.AdditiveScore(D, D, 5, dtype=np.float64),
    "location": lambda: nn.LocationScore(D, 8, dtype=np.float64),
}


@pytest.mark.parametrize("name", SCORES)
def test_attention_by_every_score(name):
    score = SCORES[name]()
    query, keys, values = draw(B, T, D), draw(B, S, D, seed=1), draw(B, S, 2, seed=2)
    marks = announced(lambda: nn.attention(query, keys, values, score, MASK)[0])
    by_name = {found.name: found for found in marks}
    expected = {"additive": ["query", "key", "parameter"], "location": ["query", "parameter"]}
    expected["concat"] = expected["additive"]
    assert names(marks) == [*expected.get(name, ["query", "key"]), "scores", "mask", "weights", "value", "context"]
    assert by_name["scores"].details["score"] == name
    shapes = {"scores": (B, T, S), "mask": (B, 1, S), "weights": (B, T, S), "value": (B, S, 2), "context": (B, T, 2)}
    assert {which: by_name[which].tensor.shape for which in shapes} == shapes
    np.testing.assert_allclose(by_name["scores"].source.value, score(query, keys).array, rtol=1e-12)
    if name == "scaled_dot":
        assert detail(marks, "scale") == 1.0 / np.sqrt(D)
    if name in ("concat", "additive"):
        assert (by_name["parameter"].details["symbol"], by_name["parameter"].tensor.shape) == ("v", (5,))
    if name == "location":
        assert (by_name["parameter"].details["symbol"], by_name["parameter"].tensor.shape) == ("W", (S, D))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("kind", ["self", "causal", "cross"])
def test_multi_head_attention(kind, need_weights):
    layer = nn.MultiheadAttention(D, 2, batch_first=True, dtype=np.float64)
    query, memory = draw(B, S, D), draw(B, S, D, seed=1)
    memory = memory if kind == "cross" else query
    marks = announced(
        lambda: layer(query, memory, memory, ~MASK, need_weights=need_weights, is_causal=kind == "causal")[0]
    )
    assert names(marks) == [*CALL, "joined"]
    assert {found.module for found in marks} == {"MultiheadAttention"}
    heads, scores = (B, 2, S, D // 2), (B, 2, S, S)
    shapes = dict.fromkeys(("query", "key", "value", "context"), heads) | {"scores": scores, "weights": scores}
    found = {mark.name: mark.tensor.shape for mark in marks}
    assert {which: found[which] for which in shapes} == shapes and found["joined"] == (B, S, D)
    assert detail(marks, "score") == "scaled_dot" and detail(marks, "role") == kind
    assert detail(marks, "scale") == 1.0 / np.sqrt(D // 2)


def test_transformer_layers():
    model = nn.Transformer(D, 2, 1, 1, 8, dropout=0.0, batch_first=True, dtype=np.float64)
    source, target = draw(B, S, D), draw(B, T, D, seed=1)
    marks = announced(lambda: model(source, target, src_key_padding_mask=~MASK, tgt_is_causal=True))
    places = [(found.module.removeprefix("Transformer."), found.name) for found in marks]
    encoder, decoder = "encoder.layers.0", "decoder.layers.0"

    def sublayer(layer, *calls):
        return [*((layer, name) for name in ("skip", "branch")), *calls, (layer, "residual"), (layer, "norm")]

    def attention(path, masked):
        return [(path, name) for name in [*CALL, "joined"] if masked or name != "mask"]

    assert places == [
        *sublayer(encoder, *attention(f"{encoder}.self_attn", True)), *sublayer(encoder), ("encoder.norm", "norm"),
        *sublayer(decoder, *attention(f"{decoder}.self_attn", True)),
        *sublayer(decoder, *attention(f"{decoder}.multihead_attn", False)),
        *sublayer(decoder), ("decoder.norm", "norm"),
    ]  # fmt: skip
    sublayers = [found.details["sublayer"] for found in marks if found.name == "branch"]
    assert sublayers == ["self_attention", "feed_forward", "self_attention", "attention", "feed_forward"]
    roles = [found.details["role"] for found in marks if found.name == "joined"]
    assert roles == ["self", "causal", "cross"]


def test_pre_norm_announces_its_sums_too():
    layer = nn.TransformerEncoderLayer(D, 2, 8, 0.0, batch_first=True, norm_first=True, dtype=np.float64)
    marks = announced(lambda: layer(draw(B, S, D)))
    assert [name for name in names(marks) if name in ("norm", "residual")] == ["norm", "residual"] * 2


def test_the_decoder_of_bahdanau_announces_every_step():
    operands = [draw(*shape) for shape in [(B, T, 5), (B, 3), (B, S, 4), (B, S, 6), (6, 3), (6,), (9, 9), (9, 3)]]
    marks = announced(lambda: F.attention_gru(*operands, None, None, ta.Tensor(MASK))[0])
    step = ["query", "key", "parameter", "scores", "mask", "weights", "value", "context"]
    assert names(marks) == step * T
    assert [found.steps for found in marks] == [(t,) for t in range(T) for _ in step]
    shapes = [(B, 1, 6), (B, S, 6), (6,), (B, 1, S), (B, 1, S), (B, 1, S), (B, S, 4), (B, 1, 4)]
    assert [found.tensor.shape for found in marks[: len(step)]] == shapes


class Own(nn.Module):
    """A user's own attention: keys and values are the same tensor."""

    def forward(self, query, memory):
        query, key, value = mark("query", query), mark("key", memory), mark("value", memory)
        scores = mark("scores", ta.matmul(query, ta.transpose(key, 1, 2)), score="mine", role="self")
        return mark("context", ta.matmul(mark("weights", ta.softmax(scores, -1)), value))


def test_a_module_of_ones_own_announces_as_the_layers_do_and_gradients_are_told_apart():
    own, query, memory = Own(), draw(B, T, D), draw(B, S, D, seed=1)
    with record() as tape, at_step(2):
        own(query, memory).square().sum().backward()
    assert names(tape.marks) == ["query", "key", "value", "scores", "weights", "context"]
    assert {(found.module, found.steps) for found in tape.marks} == {("Own", (2,))}
    assert detail(tape.marks, "score") == "mine" and detail(tape.marks, "role") == "self"
    _, key, value, *_ = tape.marks
    assert key.source.call.inputs == value.source.call.inputs  # one tensor, two ways
    np.testing.assert_allclose(key.source.gradient + value.source.gradient, memory.grad.array, rtol=1e-12)
    assert not np.allclose(key.source.gradient, value.source.gradient)


def test_announcements_change_no_bit_and_cost_no_op():
    own, query, memory = Own(), draw(B, T, D), draw(B, S, D, seed=1)
    plain = own(query, memory)
    with record():
        np.testing.assert_array_equal(own(query, memory).array, plain.array)
    assert mark("weights", plain) is plain
