"""Settings chosen from the user's text: for each kind of text what is chosen, and that the user's own settings win."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.data import Batches, encode_pairs, train_tokenizers
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.fitted import load_fitted_config
from tinygrad_attn_models.runs.quick import QUICK
from tinygrad_attn_models.training.optimizer import make_schedule
from translators import TRANSLATORS

ENGLISH = "the a dog cat runs sleeps in to garden house big small red old sees likes with man woman tree".split()
KOREAN = "개가 고양이가 정원에서 집에서 잔다 달린다 큰 작은 빨간 늙은 본다 좋아한다 남자와 여자와 나무가".split()


def sentences(words, count, seed=0, least=2, most=9):
    """Sentences of a language with many rare words: each has one of many endings."""
    draw = random.Random(seed)
    return [
        " ".join(
            draw.choice(words) + draw.choice(words)[0] * draw.randrange(3) + draw.choice(words)[0]
            for _ in range(draw.randint(least, most))
        ).capitalize()
        + "."
        for _ in range(count)
    ]


def write(folder, source, target):
    """A folder of parallel text, whose last few pairs are for validation and testing; and the settings that name it."""
    folder.mkdir(exist_ok=True)
    held = max(1, len(source) // 20)
    for language, lines in (("a", source), ("b", target)):
        parts = {"train": lines[: -2 * held], "valid": lines[-2 * held : -held], "test": lines[-held:]}
        for split, part in parts.items():
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
    return ["data.kind=parallel", f"data.directory={folder}", "data.source=a", "data.target=b"]


@pytest.fixture
def korean(tmp_path):
    return write(tmp_path / "ko", sentences(KOREAN, 1200, 1), sentences(ENGLISH, 1200, 2))


def test_sentences_of_two_scripts(korean):
    config, text, fitted = load_fitted_config(korean)
    assert (config.data.tokenizer, config.data.lowercase, config.data.shared_vocabulary) == ("bpe", True, False)
    assert 200 <= config.data.vocabulary_size <= 3000
    assert config.model.name == "bahdanau" and config.model.hidden_size > 64  # wider than the model of dates
    assert config.decoding.beam > 1
    described = fitted.describe()
    assert all(f"{name}=" in described for name in fitted.settings)
    assert "data.lowercase=false" in described  # how to keep capitals
    assert len(text.train) == 1080


def test_languages_of_one_script_share_a_vocabulary(tmp_path):
    config, _, _ = load_fitted_config(write(tmp_path / "t", sentences(ENGLISH, 200, 1), sentences(ENGLISH, 200, 2)))
    assert config.data.tokenizer == "bpe" and config.data.shared_vocabulary


def test_few_different_words_are_symbols(tmp_path):
    draw = random.Random(0)
    source = [" ".join(draw.choices(["jump", "walk", "left", "right"], k=5)) for _ in range(300)]
    settings = write(tmp_path / "t", source, [line.upper() for line in source])
    config, text, _ = load_fitted_config(settings)
    assert config.data.tokenizer == "words" and not config.data.lowercase
    assert len(train_tokenizers(text, config.data)[0]) == 8


def test_short_strings_are_read_by_character(tmp_path):
    draw = random.Random(0)
    names = ["".join(draw.choices("abcdefgh", k=7)).capitalize() for _ in range(400)]
    config, _, _ = load_fitted_config(write(tmp_path / "t", names, [name[::-1] for name in names]))
    assert config.data.tokenizer == "characters" and not config.data.lowercase
    assert config.training.early_stopping_metric == "exact_match" and config.training.bleu_tokenizer == "char"


def test_capitals_that_mean_something_stay(tmp_path):
    upper = [line.upper() for line in sentences(ENGLISH, 300, 2)]
    config, _, _ = load_fitted_config(write(tmp_path / "t", sentences(ENGLISH, 300, 1), upper))
    assert config.data.tokenizer == "bpe" and not config.data.lowercase


def test_a_script_without_case_or_spaces(tmp_path):
    draw = random.Random(0)
    chinese = ["".join(draw.choices("我你他她们在有是不了人这中大来上国个到说", k=12)) + "。" for _ in range(300)]
    config, _, _ = load_fitted_config(write(tmp_path / "t", chinese, sentences(ENGLISH, 300)))
    assert config.data.tokenizer == "bpe" and config.data.vocabulary_size >= 200


@pytest.mark.parametrize("length", [150, 400, pytest.param(1200, marks=pytest.mark.slow)])
def test_long_lines(tmp_path, length):
    long = sentences(ENGLISH, 60, 1, least=length, most=length + 30)
    config, text, fitted = load_fitted_config(write(tmp_path / "t", long, long))
    examples = encode_pairs(text.train, *train_tokenizers(text, config.data))
    assert config.training.batch_type == "tokens"
    batches = Batches(
        examples, batch_size=config.training.batch_size, batch_type="tokens", max_length=config.data.max_length
    )
    assert batches.dropped <= 0.55 * len(examples)
    assert any("too long" in note or "longer than" in note for note in fitted.notes) == (batches.dropped > 6)


def test_the_user_s_settings_win(korean):
    given = {
        "data.tokenizer": "words", "data.lowercase": "false", "data.max_length": "33", "model.name": "transformer",
        "model.d_model": "24", "model.dropout": "0.05", "training.epochs": "3", "training.batch_type": "sentences",
        "decoding.beam": "2",
    }  # fmt: skip
    config, _, fitted = load_fitted_config([*korean, *(f"{name}={value}" for name, value in given.items())])
    assert not given.keys() & fitted.settings.keys()
    stored = config.to_dict()
    for name, value in given.items():
        section, _, key = name.partition(".")
        assert str(stored[section][key]).lower() == value
    assert config.model.d_ff == 2 * 128  # of the width for so many pairs


def test_a_tokenizer_of_the_user_s_gets_its_size(korean):
    config, _, _ = load_fitted_config([*korean, "data.tokenizer=bpe"])
    assert config.data.vocabulary_size > 0
    config, _, _ = load_fitted_config([*korean, "data.tokenizer=characters"])
    assert config.data.vocabulary_size == 0


@pytest.mark.parametrize("length", [5, 150])
@pytest.mark.parametrize(
    ("settings", "unit", "sizes"),
    [
        (["training.batch_type=tokens"], "tokens", range(100, 5000)),
        (["training.batch_type=sentences"], "sentences", [8]),
        (["training.batch_size=16"], "sentences", [16]),
        (["training.batch_type=tokens", "training.batch_size=999"], "tokens", [999]),
    ],
)
def test_the_unit_of_a_batch_goes_with_its_size(tmp_path, length, settings, unit, sizes):
    lines = sentences(ENGLISH, 60, 1, least=length, most=length + 5)
    config, _, _ = load_fitted_config([*write(tmp_path / "t", lines, lines), *settings])
    assert config.training.batch_type == unit and config.training.batch_size in sizes


def test_the_config_of_the_run_says_it_all(korean, tmp_path):
    config, _, _ = load_fitted_config(korean)
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    assert load_config(tmp_path / "config.toml") == config


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", TRANSLATORS)
def test_the_settings_fit_every_model(tmp_path, name, quick):
    settings = write(tmp_path / "t", sentences(KOREAN, 50, 1), sentences(ENGLISH, 50, 2))
    config, text, _ = load_fitted_config([*settings, f"model.name={name}"], under=QUICK if quick else {})
    examples = encode_pairs(text.train, *train_tokenizers(text, config.data))
    batches = Batches(examples, batch_size=config.training.batch_size, batch_type=config.training.batch_type)
    make_schedule(config, sum(batches.count(epoch) for epoch in range(config.training.epochs)))


@pytest.mark.slow
def test_a_quick_run_reads_few_symbols_of_any_text(tmp_path):
    long, short = (sentences(ENGLISH, 300, 1, least=length, most=length) for length in (150, 5))
    for lines, limited in ((long, True), (short, False)):
        settings = write(tmp_path / "t", lines, lines)
        config, text, _ = load_fitted_config(settings, under=QUICK, symbols=20_000)
        examples = encode_pairs(text.train, *train_tokenizers(text, config.data))
        batches = Batches(examples, batch_size=config.training.batch_size, batch_type=config.training.batch_type)
        steps = sum(batches.count(epoch) for epoch in range(config.training.epochs))
        assert bool(config.training.max_steps) == limited
        symbols = sum(max(map(len, pair)) for pair in examples) * config.training.epochs
        read = symbols * min(steps, config.training.max_steps or steps) / steps
        assert read < 25_000
        assert (
            load_fitted_config([*settings, "training.max_steps=7"], under=QUICK, symbols=9)[0].training.max_steps == 7
        )


def test_what_the_text_lacks_is_said(tmp_path):
    few = sentences(ENGLISH, 40, 1)
    _, _, fitted = load_fitted_config(write(tmp_path / "t", [*few, *few], [*few, *few]))
    notes = " ".join(fitted.notes)
    assert all(words in notes for words in ("different pairs are few", "come again", "test pairs", "are equal"))
    _, _, fitted = load_fitted_config(write(tmp_path / "t", sentences(KOREAN, 1500, 1), sentences(ENGLISH, 1500, 2)))
    assert fitted.notes == []


LINES = st.lists(
    st.text(st.sampled_from("ab é가나 我。.1\N{ZERO WIDTH SPACE}"), min_size=1, max_size=30).filter(str.strip),
    min_size=3,
    max_size=20,
)


@given(lines=LINES)
def test_any_text_gets_settings_that_train(tmp_path_factory, lines):
    settings = write(tmp_path_factory.mktemp("data"), lines, lines[::-1])
    config, text, fitted = load_fitted_config(settings)
    examples = encode_pairs(text.train, *train_tokenizers(text, config.data))
    assert Batches(examples, batch_size=config.training.batch_size, batch_type=config.training.batch_type).dropped == 0
    assert fitted.describe()
