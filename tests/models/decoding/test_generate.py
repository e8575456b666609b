"""Generation: what is drawn, where it ends, and what a window that slides reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, START, CharacterTokenizer
from tinygrad_attn_models.data.tokenizer import train_tokenizer
from tinygrad_attn_models.decoding.generate import Sampling, distribution, generate, generate_ids
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.interface import LanguageModel

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
    long = written(model, "hgfedcbahh" + "abcdefgh", length=9, seed=1)
    assert long == written(model, "abcdefgh", length=9, seed=1) != written(model, "hgfedcba", length=9, seed=1)


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


class Dropping(LanguageModel):
    """Of the first symbol alone: no fast decoder, and in training other logits."""

    def __init__(self, fast):
        super().__init__()
        self.gpt = GPT(len(TOKENIZER), layers=1, heads=2, d_model=8, context=8, dropout=0.9)
        self.fast = fast

    def start(self, memory=None):
        return self.gpt.start()

    def step(self, state, token, *, need_weights=False):
        return self.gpt.step(state, token)

    def fused_decoder(self, state, rows, *, int8=False):
        return self.gpt.fused_decoder(state, rows) if self.fast else None


@pytest.mark.parametrize("fast", [False, True])
def test_two_texts_at_once_and_training_between_change_nothing(fast):
    ta.manual_seed(0)
    model = Dropping(fast)
    for parameter in model.parameters():
        parameter.array[...] *= 20
    expected = [written(model, prompt, seed=1, length=6) for prompt in ("ab", "cd")]
    first, second = (generate(model, TOKENIZER, prompt, Sampling(seed=1, length=6)) for prompt in ("ab", "cd"))
    begun = [next(first), next(second)]
    assert model.training and all(module.training for module in model.modules())  # while they wait
    rest = "".join(first)
    assert [begun[0] + rest, begun[1] + "".join(second)] == expected
    assert all(module.training for module in model.modules())


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
        ({"temperature": "hot"}, "temperature must be at least 0, got 'hot'"),
        ({"temperature": None}, "temperature must be at least 0, got None"),
        ({"temperature": True}, "temperature must be"),
        ({"top_k": 2.5}, "top_k must be at least 0 and whole, got 2.5"),
        ({"top_p": "0.9"}, "top_p must be"),
        ({"length": 10.0}, "length must be at least 0 and whole"),
        ({"length": None}, "length must be"),
        ({"stop": None}, "stop must be texts that are not empty, in a tuple or list, got None"),
        ({"stop": ("a", 1)}, "stop must be texts"),
        ({"seed": "1"}, "seed must be"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(UserError, match=f"generate: {message}"):
        Sampling(**options)


def test_numbers_of_numpy_are_numbers(model):
    given = Sampling(temperature=np.float32(1), top_k=np.int64(3), length=np.int32(4), seed=np.uint8(1), stop=["zz"])
    assert len("".join(generate(model, TOKENIZER, "ab", given))) == 4


@pytest.mark.filterwarnings("error")
def test_a_temperature_near_0_takes_the_likeliest():
    assert distribution(LOGITS.copy(), Sampling(temperature=5e-324)).tolist() == [1, 0, 0, 0]


def test_a_prompt_that_is_no_text(model):
    with pytest.raises(TypeError, match="expected a text, got int 5; give a str"):
        generate(model, TOKENIZER, 5, Sampling())


def test_an_empty_prompt_begins_a_line(model):
    assert written(model, "", seed=1, length=9) == written(model, "\n", seed=1, length=9)
    with pytest.raises(UserError, match="the prompt is empty"):
        generate(model, CharacterTokenizer.train(["abc"]), "", Sampling())


class Scripted(LanguageModel):
    """Says these ids after so many that it is given, whatever they are, and notes what it reads."""

    def __init__(self, ids, given=1, size=None):
        super().__init__()
        self.ids, self.given, self.size = list(ids), given, size or len(TOKENIZER)
        self.seen = []

    def start(self, memory=None):
        return 0

    def step(self, state, token, *, need_weights=False):
        self.seen.append(int(token.array[0]))
        logits = np.zeros((1, self.size), np.float32)
        if state + 1 >= self.given:
            logits[0, self.ids[state + 1 - self.given]] = 9
        return Tensor(logits), state + 1, {}


class ScriptedSentence(Scripted):
    delimited = True


def said(text, prompt, tokenizer=TOKENIZER, **options):
    """The pieces in which a model says a text after a prompt."""
    ids = tokenizer.encode(text)
    model = Scripted(ids, len(tokenizer.encode(prompt)), len(tokenizer))
    return list(generate(model, tokenizer, prompt, Sampling(temperature=0, length=len(ids), **options)))


@pytest.mark.parametrize(
    ("prompt", "text", "stop", "expected"),
    [
        ("\n", "\n\nabc", "\n\n", ""),  # the prompt's end and the first symbol are no text of stop
        ("a", "aab", "aa", ""),
        ("a", "ababac", "abac", "ab"),
        ("ab", "cbcbcd", "bcd", "cbc"),
        ("a", "aaaaab", "aab", "aaa"),
    ],
)
def test_a_stop_text_is_found_wherever_its_beginning_is(prompt, text, stop, expected):
    assert "".join(said(text, prompt, stop=(stop,))) == expected


def test_a_long_text_is_decoded_a_few_symbols_at_a_time():
    class Counting(CharacterTokenizer):
        decoded = 0

        def decode(self, ids):
            ids = list(ids)
            Counting.decoded += len(ids)
            return super().decode(ids)

    tokenizer = Counting.train(["abcdefgh\n"])
    for text in ("abcdefgh" * 50, "a" * 400):  # of the second something is held back all the time
        Counting.decoded = 0
        assert "".join(said(text, "a", tokenizer, stop=("ab\n",))) == text
        assert Counting.decoded < 10 * len(text)


@pytest.mark.parametrize("name", ["characters", "words", "bpe"])
def test_the_pieces_are_the_text_of_all_symbols(name):
    if name == "bpe":
        pytest.importorskip("tokenizers")
    tokenizer = train_tokenizer(name, ["don't go (a, b) ((c)) ab abc ... go."] * 4, vocabulary_size=40)

    @given(st.lists(st.integers(4, len(tokenizer) - 1), max_size=12))
    def check(ids):
        first = tokenizer.encode("go")
        model = Scripted(ids, len(first), len(tokenizer))
        pieces = generate(model, tokenizer, "go", Sampling(temperature=0, length=len(ids)))
        assert "go" + "".join(pieces) == tokenizer.decode([*first, *ids])

    check()


@pytest.mark.parametrize("length", [0, 1, 3])
def test_the_model_reads_no_symbol_after_which_none_is_said(length):
    model = Scripted([4, 5, 6], given=2)
    assert list(generate_ids(model, [7, 8], Sampling(temperature=0, length=length))) == [4, 5, 6][:length]
    assert model.seen == [7, 8, 4, 5][: length and length + 1]


def test_a_model_of_sentences_reads_their_beginning_first():
    for prompt in ("ab", ""):
        given = TOKENIZER.encode(prompt)
        model = ScriptedSentence([*TOKENIZER.encode("cd"), END], given=len(given) + 1)
        assert "".join(generate(model, TOKENIZER, prompt, Sampling(temperature=0))) == "cd"
        assert model.seen == [START, *given, *TOKENIZER.encode("cd")]


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_have_diverged_are_told(model, temperature, number):
    model.embedding.weight.array[5] = number
    with pytest.raises(UserError, match=r"^generate: the model's logits have nan, so its weights have diverged; train"):
        written(model, temperature=temperature)


def test_a_vocabulary_without_symbols_is_told():
    empty = CharacterTokenizer.train([""])
    with pytest.raises(UserError, match=r"^generate: no symbol may be drawn, since the vocabulary has none beside"):
        next(generate(Scripted([0], size=len(empty)), empty, "a", Sampling()))
