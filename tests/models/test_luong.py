"""Luong's attention: what holds for every model, for each score, reach and cell, with and without input feeding."""

import numpy as np
import pytest
import translators as t
from tinygrad_attn_models.luong import Luong, LuongSettings
from tinygrad_attn_models.runs.config import ConfigError, load_config

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn

OPTIONS = [
    *({"score": score} for score in nn.SCORES),
    {"score": "dot", "input_feeding": True},
    {"input_feeding": True, "cell": "gru", "layers": 2},
    {"cell": "rnn"},
    {"attention": "local-m", "window": 1},
    {"attention": "local-m", "window": 1, "input_feeding": True},
    {"attention": "local-p", "window": 1, "score": "dot"},
    {"attention": "local-p", "window": 2, "input_feeding": True, "layers": 2},
]


def make(hidden_size=3, dtype=np.float64, **options):
    return Luong(t.SOURCE_SIZE, t.TARGET_SIZE, 2, hidden_size, max_length=10, dtype=dtype, **options)


@pytest.fixture(params=OPTIONS, ids=lambda options: ",".join(f"{value}" for value in options.values()))
def model(request):
    ta.manual_seed(0)
    return make(**request.param).eval()


@pytest.mark.slow
def test_gradients(model):
    t.check_gradients(model)


def test_steps_padding_and_causality(model):
    t.check_steps(model)
    t.check_padding(model)
    t.check_causality(model)


def test_weights(model):
    t.check_weights(model, ["attention"], heads=1, sums_to_one=model.attention != "local-p")


@pytest.mark.parametrize("options", OPTIONS)
def test_files(options, tmp_path):
    ta.manual_seed(0)
    t.check_files(lambda: make(**options), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"score": "concat", "input_feeding": True},
        {"score": "location", "cell": "gru"},
        {"attention": "local-p", "window": 2},
        {"attention": "local-m", "window": 1, "cell": "rnn"},
    ],
)
def test_learning(options):
    ta.manual_seed(0)
    t.check_overfits(make(hidden_size=16, dtype=np.float32, **options))


def test_dropout():
    t.check_dropout(make(dropout=0.5, layers=2, input_feeding=True))


def long_source(model, lengths=(9, 4), steps=7):
    """The weights (B, T, S) while sources of these lengths are read."""
    draw = np.random.default_rng(0)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    source = Tensor(draw.integers(4, t.SOURCE_SIZE, mask.shape))
    target = Tensor(draw.integers(4, t.TARGET_SIZE, (len(lengths), steps)))
    _, weights = model(source, Tensor(mask), target, need_weights=True)
    return weights["attention"].array[:, 0]


def test_local_m_attends_around_the_same_place_and_no_further():
    weights = long_source(make(attention="local-m", window=1))
    for b, length in enumerate((9, 4)):
        for step in range(7):
            centre = min(step, length - 1)
            within = [j for j in range(length) if abs(j - centre) <= 1]
            assert np.flatnonzero(weights[b, step]).tolist() == within


def test_local_p_attends_around_the_place_that_it_predicts():
    ta.manual_seed(3)
    model = make(attention="local-p", window=1, score="dot")
    predicted = []
    forward = model.position.forward
    model.position.forward = lambda *inputs: predicted.append(forward(*inputs)) or predicted[-1]
    weights = long_source(model)
    for b, length in enumerate((9, 4)):
        for step in range(7):
            p = predicted[0].array[b, step, 0]
            assert 0.0 < p < length
            within = [j for j in range(length) if abs(j - p) <= 1.0]
            assert np.flatnonzero(weights[b, step]).tolist() == within
            # The Gaussian of the paper, undone: what is left is a softmax over the window.
            inside = weights[b, step, within] / np.exp(-((np.array(within) - p) ** 2) / (2 * 0.5**2))
            np.testing.assert_allclose(inside.sum(), 1.0, **t.EXACT)


def test_a_window_as_wide_as_the_source_is_global_attention():
    ta.manual_seed(0)
    reached, local = make(), make(attention="local-m", window=9)
    local.load_state_dict(reached.state_dict())
    np.testing.assert_array_equal(long_source(local), long_source(reached))


def test_the_six_steps_by_hand():
    ta.manual_seed(0)
    model = make(score="general")
    batch = t.whole_batch()
    logits = t.run(model, batch).array
    memory = model.encode(Tensor(batch.source), Tensor(batch.source_mask))
    h = memory.states.array
    embedded = model.target_embedding(Tensor(batch.target_in))
    final = tuple(ta.transpose(part, 0, 1) for part in memory.final)
    s = model.decoder(embedded, final)[0].array
    scores = np.einsum("bti,ij,bsj->bts", s, model.score.key.weight.array, h)
    scores[~np.broadcast_to(batch.source_mask[:, None], scores.shape)] = -np.inf
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    context = weights @ h
    combined = np.concatenate([context, s], axis=-1) @ model.combine.weight.array.T + model.combine.bias.array
    expected = np.tanh(combined) @ model.output.weight.array.T + model.output.bias.array
    np.testing.assert_allclose(logits, expected, **t.EXACT)


def test_input_feeding_starts_with_zeros_and_matters():
    ta.manual_seed(0)
    model = make(input_feeding=True)
    batch = t.whole_batch()
    state = model.start(model.encode(Tensor(batch.source), Tensor(batch.source_mask)))
    assert not state.attentional.array.any()
    token = Tensor(batch.target_in[:, 0])
    fed, after, _ = model.step(state, token)
    other, _, _ = model.step(state._replace(attentional=after.attentional), token)
    assert not np.allclose(fed.array, other.array)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "cosine"}, "there is no attention score 'cosine'; there are .*dot"),
        ({"attention": "near"}, "attention must be one of global, local-m, local-p, got 'near'"),
        ({"attention": "local-m", "window": 0}, "window must be at least 1, got 0"),
        ({"cell": "mlp"}, "cell must be one of"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_source_too_long_for_the_location_score():
    with pytest.raises(ValueError, match="there are 11 keys, max_length is 10"):
        long_source(make(score="location"), lengths=(11,))


# -- from the config ---------------------------------------------------------------------------------------------------


def test_it_is_built_from_its_settings():
    settings = LuongSettings(
        embedding_size=3, hidden_size=5, cell="gru", layers=2, score="location", attention="local-p",
        window=4, input_feeding=True, max_length=12, dropout=0.1,
    )  # fmt: skip
    model = Luong.from_settings(settings, 8, 7, np.float64)
    assert isinstance(model, Luong)
    assert model.decoder.weight_ih_l0.shape == (15, 8)
    assert model.decoder.num_layers == model.encoder.num_layers == 2
    assert model.score.max_length == 12
    assert (model.attention, model.window, model.dropout.p, model.decoder.dropout) == ("local-p", 4, 0.1, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "dot"}, "model.score is a setting of luong; model.name is 'bahdanau'"),
        ({"name": "luong", "heads": 4}, "model.heads is a setting of gpt, transformer; model.name is 'luong'"),
        ({"name": "transformer", "hidden_size": 8}, "is a setting of bahdanau, luong, seq2seq; model"),
        ({"name": "transformer", "d_model": 30}, "model.heads is 8, which does not divide model.d_model 30"),
    ],
)
def test_settings_of_another_model_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, {f"model.{name}": value for name, value in settings.items()})
