"""Generation: what is drawn, where it ends, and what a window that slides reads."""

import numpy as np
import pytest
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import CharacterTokenizer
from tinygrad_attn_models.decoding.generate import Sampling, distribution, generate, generate_ids
from tinygrad_attn_models.gpt import GPT

import tinygrad_attn as ta
from tinygrad_attn import Tensor, no_grad

TOKENIZER = CharacterTokenizer.train(["abcdefgh\n"])


@pytest.fixture
def model():
    ta.manual_seed(2)
    made = GPT(len(TOKENIZER), layers=2, heads=2, d_model=8, context=8)
    for parameter in made.parameters():
        parameter.array[...] *= 20  # far from uniform
    return made


def written(model, prompt="ab", **options):
    return "".join(generate(model, TOKENIZER, prompt, Sampling(**options)))


LOGITS = np.log(np.array([0.4, 0.1, 0.3, 0.2]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1.0}, [0.4, 0.1, 0.3, 0.2]),
        ({"temperature": 0.5}, np.array([16, 1, 9, 4]) / 30),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 2}, [4 / 7, 0, 3 / 7, 0]),
        ({"temperature": 1.0, "top_k": 9}, [0.4, 0.1, 0.3, 0.2]),
        ({"temperature": 1.0, "top_p": 0.5}, [4 / 7, 0, 3 / 7, 0]),
        ({"temperature": 1.0, "top_p": 0.01}, [1, 0, 0, 0]),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.7}, [4 / 7, 0, 3 / 7, 0]),
    ],
)
def test_the_distribution(options, expected):
    np.testing.assert_allclose(distribution(LOGITS.copy(), Sampling(**options)), expected, atol=1e-12)


def test_extreme_logits_have_a_distribution():
    for temperature in (1e-3, 1.0, 1e3):
        found = distribution(np.array([-np.inf, 1e4, -1e4, 1e4], np.float32), Sampling(temperature=temperature))
        assert found.sum() == pytest.approx(1) and found[0] == 0 and found[1] == found[3]


def test_symbols_are_drawn_as_often_as_the_model_expects(model):
    model.eval()
    ids = TOKENIZER.encode("ab")
    with no_grad():
        logits = model(Tensor(np.array([ids]))).array[0, -1]
    logits[:4] = -np.inf
    expected = distribution(logits, Sampling(temperature=1.0))
    drawn = [next(generate_ids(model, ids, Sampling(temperature=1.0, length=1, seed=seed), (0, 1, 2, 3)))
             for seed in range(400)]  # fmt: skip
    assert np.abs(np.bincount(drawn, minlength=len(TOKENIZER)) / 400 - expected).max() < 0.1
    assert min(drawn) >= 4


def test_the_likeliest_are_those_of_the_whole_text_also_when_the_window_slides(model):
    model.eval()
    ids, kept = TOKENIZER.encode("abc"), 0
    found = list(generate_ids(model, ids, Sampling(temperature=0, length=30), (0, 1, 2, 3)))
    text = list(ids)
    for number in found:
        if len(text) - kept > 8:
            kept = len(text) - 4  # the later half of the context
        with no_grad():
            logits = model(Tensor(np.array([text[kept:]]))).array[0, -1]
        assert number == 4 + logits[4:].argmax()
        text.append(number)
    assert len(found) == 30


def test_a_prompt_longer_than_the_context_is_read_from_its_end(model):
    assert written(model, "abcdefgh" * 3, length=1, seed=1) == written(model, "abcdefgh", length=1, seed=1)


def test_a_seed_repeats_and_pieces_come_one_by_one(model):
    pieces = list(generate(model, TOKENIZER, "ab", Sampling(seed=5, length=20)))
    assert "".join(pieces) == written(model, seed=5, length=20) != written(model, seed=6, length=20)
    assert len(pieces) == 20 and all(len(piece) == 1 for piece in pieces)
    assert written(model, length=0) == ""
    assert model.training


def test_stops(model):
    whole = written(model, seed=1, length=40)
    for size in (1, 2, 5):
        stop = whole[10 : 10 + size]
        pieces = list(generate(model, TOKENIZER, "ab", Sampling(seed=1, length=40, stop=(stop, "no such text"))))
        assert "".join(pieces) == whole[: whole.index(stop)]
    assert written(model, seed=1, length=40, stop=(whole[-1] + "x",)) == whole


def test_gradients_stay_on_while_it_waits(model):
    pieces = generate(model, TOKENIZER, "ab", Sampling(length=3))
    next(pieces)
    assert ta.is_grad_enabled()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be at least 0, got -1"),
        ({"temperature": float("nan")}, "temperature must be at least 0, got nan"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 0}, "top_p must be more than 0 and at most 1, got 0"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"length": -1}, "length must be at least 0"),
        ({"stop": ("",)}, "stop must be texts that are not empty"),
        ({"stop": "x"}, "stop must be texts"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(UserError, match=f"generate: {message}"):
        Sampling(**options)


def test_an_empty_prompt_begins_a_line(model):
    assert written(model, "", seed=1, length=9) == written(model, "\n", seed=1, length=9)
    with pytest.raises(UserError, match="the prompt is empty"):
        generate(model, CharacterTokenizer.train(["abc"]), "", Sampling())
