"""Config: defaults, file, overrides; and errors that name the setting and suggest the nearest."""

import dataclasses
import json
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.bahdanau import BahdanauSettings
from tinygrad_attn_models.data import TASKS, TOKENIZERS, DataError, Dates, Parallel
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import (
    CONFIGS,
    SECTIONS,
    Config,
    ConfigError,
    TrainingConfig,
    find_config,
    load_config,
    section_classes,
)
from tinygrad_attn_models.training.optimizer import make_schedule


def refused(message, path=None, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert message in str(caught.value)


def test_a_file_changes_defaults_and_an_override_changes_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[training]\nepochs = 7\nlearning_rate = 1\n\n[data]\ntokenizer = "words"\n', encoding="utf-8")
    config = load_config(path, ["training.epochs=9", "model.dropout = 0.25"])
    assert config.training == TrainingConfig(epochs=9, learning_rate=1.0)
    assert config.data == Dates(tokenizer="words")
    assert config.model == BahdanauSettings(dropout=0.25)
    assert type(config.training.learning_rate) is float
    assert load_config() == Config()


def test_a_mapping_of_overrides():
    assert load_config(None, {"training.epochs": 3}).training.epochs == 3


def test_a_later_override_wins():
    assert load_config(None, ["training.epochs=3", "training.epochs=4"]).training.epochs == 4


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("ko", "ko"),
        ('"ko"', "ko"),
        ("'k o'", "k o"),
        ("true", "true"),
        ("12", "12"),
        ("a=b", "a=b"),
        ("'x'\ny = 1", "'x'\ny = 1"),
        ("C:\\data", "C:\\data"),
    ],
)
def test_a_typed_string_needs_no_quotes(typed, value):
    overrides = ["data.kind=parallel", "data.directory=d", "data.target=t", f"data.source={typed}"]
    assert load_config(None, overrides).data.source == value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=.5", 0.5),
        ("training.learning_rate=5.", 5.0),
        ("training.learning_rate=+5.e-1", 0.5),
        ("training.learning_rate=1e-3", 0.001),
        ("training.epochs=007", 7),
        ("training.epochs=1_000", 1000),
        ("training.epochs=0x10", 16),
        ("data.lowercase=True", True),
        ("data.lowercase=FALSE", False),
        ("data.lowercase=true", True),
        ('training.schedule="cosine"', "cosine"),
    ],
)
def test_pythons_spellings_of_values_are_read_too(override, value):
    section, key = override.partition("=")[0].split(".")
    found = getattr(getattr(load_config(None, [override]), section), key)
    assert (found, type(found)) == (value, type(value))


def test_a_config_that_an_editor_has_saved_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf[training]\nepochs = 7\n")
    assert load_config(path).training.epochs == 7
    path.write_bytes("[training]\nepochs = 7\n".encode("utf-16"))
    refused("is not UTF-8 (byte 1 is 0xff); save it as UTF-8", path)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "run.toml").write_text("", encoding="utf-8")
    assert find_config("~/run.toml") == tmp_path / "run.toml"
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'text'}: does not exist")):
        Parallel(directory="~/text", source="ko", target="en").load()


def test_the_home_of_a_user_that_there_is_not():
    with pytest.raises(ConfigError, match="there is no config '~nobody-of-this-name/dates'"):
        find_config("~nobody-of-this-name/dates")
    with pytest.raises(ConfigError, match=r"~nobody-of-this-name.*model\.py cannot be imported"):
        load_config(None, [], ["~nobody-of-this-name/model.py"])
    for data in ({"data.kind": "text", "data.file": "~nobody-of-this-name/text"},
                 {"data.kind": "parallel", "data.directory": "~nobody-of-this-name", "data.source": "a",
                  "data.target": "b"}):  # fmt: skip
        model = {"model.name": "gpt"} if data["data.kind"] == "text" else {}
        with pytest.raises(DataError, match="~nobody-of-this-name"):
            load_config(None, {**data, **model}).data.load()


def test_values_nested_deep(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(f"training = {'[' * 5000}{']' * 5000}", encoding="utf-8")
    refused("run.toml is not a config: its values are nested too deep", path)
    refused("training.epochs: expected int, got str '[[[", overrides=[f"training.epochs={'[' * 5000}"])


def test_a_long_value_is_quoted_in_part():
    for override in (f"training.epochs={'9' * 10_000}", f"model.name={'x' * 10_000}", f"data.{'y' * 10_000}=1"):
        with pytest.raises(ConfigError) as caught:
            load_config(None, [override])
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("training.epoch", "there is no setting 'training.epoch'; did you mean training.epochs?"),
        ("training.learningrate", "did you mean training.learning_rate?"),
        ("model.learning_rate", "did you mean training.learning_rate?"),
        ("epochs", "there is no setting 'epochs'; did you mean training.epochs?"),
        ("trainning.epochs", "did you mean training.epochs?"),
        ("zzz", "the sections are data, model, training, decoding"),
        ("training", "there is no setting 'training'; did you mean training."),
    ],
)
def test_an_unknown_override_suggests_the_nearest(name, message):
    refused(message, overrides=[f"{name}=1"])
    refused(message, overrides={name: 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 3", "there is no setting 'training.epoch'; did you mean training.epochs?"),
        ("[trainig]\nepochs = 3", "there is no section 'trainig'; did you mean training?"),
        ("epochs = 3", "there is no section 'epochs'; did you mean training.epochs?"),
        ("training = 3", "training: expected a section of settings, got int 3"),
        ("[training]\nepochs = [3]", "training.epochs: expected int, got list [3]"),
        ("[training\n", "run.toml is not a TOML file: "),
        ("[data]\nsource = '\udcff'", "run.toml is not a TOML file: "),
    ],
)
def test_a_wrong_file(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(message, path)
    if text == "training = 3":
        refused(message, path, ["training.epochs=3"])


def test_a_missing_file(tmp_path):
    refused(f"{tmp_path / 'none.toml'} cannot be read: No such file", tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "'training.epochs': expected section.key=value"),
        ("training.epochs=many", "training.epochs: expected int, got str 'many'"),
        ("training.epochs=", "training.epochs: expected int, got str ''"),
        ("training.epochs=2.5", "training.epochs: expected int, got float 2.5"),
        ("training.epochs=true", "training.epochs: expected int, got bool True"),
        ("training.epochs=0", "training.epochs: expected at least 1, got 0"),
        ("training.learning_rate=0", "training.learning_rate: expected more than 0, got 0.0"),
        ("training.learning_rate=nan", "training.learning_rate: expected a finite number, got nan"),
        ("training.learning_rate=1" + "0" * 400, "training.learning_rate: expected a finite number, got inf"),
        ("decoding.length_penalty=1000", "decoding.length_penalty: expected at most 10, got 1000.0"),
        ("training.learning_rate=false", "training.learning_rate: expected float, got bool False"),
        ("model.dropout=1", "model.dropout: expected less than 1, got 1.0"),
        ("data.lowercase=1", "data.lowercase: expected bool, got int 1; write true or false"),
        ("data.lowercase=yes", "data.lowercase: expected bool, got str 'yes'; write true or false"),
        ('data.lowercase="true"', "expected bool, got str 'true'"),
        ('training.learning_rate="0.1"', "expected float, got str '0.1'"),
        (
            ["data.kind=parallel", "data.source=a", "data.target=b", 'data.directory="a\\u0000b"'],
            "data.directory: expected text that can be written as UTF-8, without zero bytes",
        ),
        ("data.tokenizer=letters", "data.tokenizer: expected one of bpe, characters, words, got 'letters'"),
        (
            "data.kind=parallel",
            "which needs data.directory and data.source and data.target too; give the folder with --data",
        ),
        ("data.tokenizer=bpe", "which needs data.vocabulary_size, as in 8000"),
        (
            ["data.kind=copy", "data.shortest=16"],
            "data.shortest is 16, more than data.longest 15 or data.longest_test 15",
        ),
        ("data.kind=copies", "data.kind: expected one of copy, dates, "),
        ("training.schedule=noam", "training.schedule is 'noam', which needs training.warmup, as in 4000"),
        ("training.min_learning_rate=1", "training.min_learning_rate is 1, above training.learning_rate 0.004; lower"),
        (
            {"training.min_learning_rate": 0.001, "training.schedule": "constant"},
            "training.schedule 'constant' does not decay to a least rate; set it to 0, or choose the schedule 'linear' "
            "or 'cosine'",
        ),
        ("training.teacher_forcing=1.5", "training.teacher_forcing: expected at most 1, got 1.5"),
        ("data.source=ko", "data.source is a setting of parallel; data.kind is 'dates'"),
        (["model.name=luong", "model.heads=8"], "model.heads is a setting of gpt, transformer; model.name is 'luong'"),
        ("model.name=Transformer", "got 'Transformer'; did you mean transformer?"),
        ("data.kind=date", "got 'date'; did you mean dates?"),
        ("training.bleu_tokenizer=ko_mecab", "one of nothing, 13a, intl, zh, char, none, ko-mecab"),
        ("training.bleu_tokenizer=ko_mecab", "got 'ko_mecab'; did you mean ko-mecab?"),
        ("training.early_stopping_metric=BLEU", "got 'BLEU'; did you mean bleu?"),
        ("model.name=lstm", "model.name: expected one of bahdanau, "),
    ],
)
def test_a_value_that_cannot_be(override, message):
    refused(message, overrides=[override] if isinstance(override, str) else override)


def test_values_are_checked_in_python_too():
    with pytest.raises(ConfigError, match=r"training.epochs: expected int, got str '3'"):
        TrainingConfig(epochs="3")
    with pytest.raises(ConfigError, match=r"data.tokenizer: expected str, got NoneType None"):
        dataclasses.replace(Dates(), tokenizer=None)


def test_a_shared_embedding_needs_a_shared_vocabulary():
    settings = ["model.name=transformer", "model.shared_embeddings=true"]
    refused("model.shared_embeddings needs data.shared_vocabulary", overrides=settings)
    assert load_config(None, [*settings, "data.shared_vocabulary=true"]).model.shared_embeddings


LEARNED = ["model.name=transformer", "model.positions=learned"]
LOCATION = ["model.name=luong", "model.score=location"]


@pytest.mark.parametrize(
    ("settings", "too_long", "enough"),
    [
        ([*LEARNED, "model.max_length=50", "data.max_length=40"], "decoding.max_length is 100", 101),
        ([*LEARNED, "model.max_length=100"], "data.max_length is 100", 101),
        ([*LEARNED, "data.kind=copy", "data.longest_test=300"], "data.longest_test is 300", 301),
        ([*LOCATION, "model.max_length=99"], "data.max_length is 100", 100),
        ([*LOCATION, "data.kind=reverse", "data.longest=300"], "data.longest is 300", 300),
    ],
)
def test_sentences_longer_than_the_model_can_read(settings, too_long, enough):
    limiting = settings[1].replace("=", " '") + "'"
    refused(f"{too_long}, but {limiting} with model.max_length", overrides=settings)
    refused(f"set model.max_length to at least {enough}", overrides=settings)
    settings = [*settings, f"model.max_length={enough}"]
    assert load_config(None, settings).model.max_length == enough


def test_other_models_read_any_length():
    for model in ("transformer", "luong", "bahdanau", "seq2seq"):
        load_config(None, [f"model.name={model}", "data.max_length=9999", "decoding.max_length=9999"])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_config_of_the_package_gives_a_model(path):
    assert find_config(path.stem) == path
    config = load_config(path, {"data.directory": "folder"} if "parallel" in path.read_text(encoding="utf-8") else {})
    make_schedule(config, 100_000)
    small = {"d_model": 16, "heads": 2, "d_ff": 8, "embedding_size": 4, "hidden_size": 6}
    small = {name: value for name, value in small.items() if hasattr(config.model, name)}
    MODELS[config.model.name].from_settings(dataclasses.replace(config.model, **small), 9, 9)


def test_a_config_is_found_by_its_name_or_path(tmp_path):
    assert find_config("dates") == CONFIGS / "dates.toml"
    assert find_config(str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"
    with pytest.raises(
        ConfigError, match=r"no config 'copy-luong-dott'; did you mean copy-luong-dot\? .* copy-bahdanau"
    ):
        find_config("copy-luong-dott")
    with pytest.raises(ConfigError, match=r"no config 'zzz'; name a TOML file\. "):
        find_config("zzz")


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
parallel = st.fixed_dictionaries(
    {
        "kind": st.just("parallel"),
        "directory": texts,
        "source": texts,
        "target": texts,
        "lowercase": st.booleans(),
    }
)
numbers = st.fixed_dictionaries(
    {"epochs": st.integers(1, 10**9), "learning_rate": st.floats(1e-30, 1e30), "clip_norm": st.integers(0, 10**9)}
)


@given(parallel, numbers)
def test_a_stored_config_is_the_same_config(data, training):
    config = Config(data=Parallel(**data), training=TrainingConfig(**training))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict(tomllib.loads(config.to_toml())) == config


def test_to_toml_is_a_file_that_load_config_reads(tmp_path):
    config = load_config(None, ["data.min_frequency=3", "training.label_smoothing=1e-5"])
    path = tmp_path / "run.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert load_config(path) == config
    assert config.to_toml().startswith('[data]\nkind = "dates"\ntokenizer = "characters"\n')


def test_a_config_has_the_settings_of_its_model_and_task_alone():
    config = load_config(None, ["model.hidden_size=6"]).to_dict()
    assert config["model"] == {"name": "bahdanau", "dropout": 0.0, "embedding_size": 32, "hidden_size": 6}
    assert not {"directory", "source", "shortest"} & config["data"].keys()
    settings = load_config(None, ["model.name=transformer"]).to_dict()["model"]
    assert {"d_model", "heads", "positions"} <= settings.keys()
    assert not {"hidden_size", "score", "cell"} & settings.keys()


def settings_of_all(section):
    """A section as files had it once: the settings of every model or task, with their defaults."""
    return {field.name: field.default for owner in section_classes(section).values() for field in owner.fields()}


def test_a_file_with_the_settings_of_all_models_and_tasks_is_read(tmp_path):
    model = {
        **settings_of_all("model"),
        **{f.name: f.default for f in MODELS["luong"].Settings.fields()},
        "score": "concat",
    }
    own = {field.name: field.default for field in TASKS["copy"].fields()}
    data = {**settings_of_all("data"), **own, "longest": 12}
    config = Config.from_dict({"data": data, "model": model})
    assert config == load_config(None, ["model.name=luong", "model.score=concat", "data.kind=copy", "data.longest=12"])
    with pytest.raises(ConfigError, match=r"model.heads is a setting of gpt, transformer; model.name is 'luong'"):
        Config.from_dict({"model": {**model, "heads": 7}})


def test_the_description_of_a_setting():
    described = {about.name: about for name in TASKS for about in TASKS[name].describe()}
    assert described["data.tokenizer"].limits == "one of bpe, characters, words"
    assert described["data.train_size"].limits == "at least 1"
    rate = {about.name: about for about in TrainingConfig.describe()}["training.beta1"]
    about = "Adam's β₁, the decay rate of the mean of gradients"
    assert rate == ("training.beta1", "float", 0.9, about, "at least 0, less than 1")


def test_every_setting_says_what_it_is():
    assert set(TOKENIZERS) == {"bpe", "characters", "words"}
    for section in SECTIONS:
        for owner in section_classes(section).values():
            assert all(field.metadata["about"] for field in owner.fields())
