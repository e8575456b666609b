"""From a config to text and tokenizers."""

import pytest
from tinygrad_attn_models.data import UNKNOWN, Dates, generate_dates, train_tokenizers
from tinygrad_attn_models.runs.config import load_config


def test_generated_dates_have_the_sizes_and_seed_of_the_config():
    settings = load_config(None, ["data.train_size=9", "data.valid_size=8", "data.test_size=7", "data.seed=3"]).data
    assert settings.load() == generate_dates(3, train=9, valid=8, test=7)


def test_parallel_text_and_tokenizers_that_know_the_training_side_only(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.ko").write_text(f"가 나 {split}\n", encoding="utf-8")
        (tmp_path / f"{split}.en").write_text(f"A a {split}\n", encoding="utf-8")
    overrides = {
        "data.kind": "parallel", "data.directory": str(tmp_path), "data.source": "ko", "data.target": "en",
        "data.tokenizer": "words", "data.lowercase": True, "data.min_frequency": 2,
    }  # fmt: skip
    settings = load_config(None, overrides).data
    text = settings.load()
    assert text.valid == [("가 나 valid", "A a valid")]
    with pytest.warns(UserWarning, match="the vocabulary of source is empty"):
        source, target = train_tokenizers(text, settings)
    assert len(source) == 4
    assert target.encode("A test") == [4, UNKNOWN]


def test_a_vocabulary_without_symbols_is_told_once():
    with pytest.warns(UserWarning, match="vocabulary of source and target is empty") as told:
        train_tokenizers(load_config(None, ["data.train_size=5"]).data.load(), Dates(min_frequency=1000))
    assert len(told) == 1 and "lower data.min_frequency 1000" in str(told[0].message)
    with pytest.warns(UserWarning, match="raise data.vocabulary_size 4"):
        train_tokenizers(load_config(None, ["data.train_size=5"]).data.load(), Dates(vocabulary_size=4))
