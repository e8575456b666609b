"""Every model of the registry, and each kind of Luong's attention, in sizes that plain Python computes at once."""

from translators import TRANSLATORS

from tinygrad_attn.nn import SCORES

__all__ = ["CASES", "SIZES", "STORIES", "TEXT", "small_model"]

SIZES = {"embedding_size": 4, "hidden_size": 6}
_TRANSFORMER = {"d_model": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "d_ff": 8}
_GPT = {"layers": 1, "heads": 2, "d_model": 8, "context": 16}
_OTHER = {"transformer": _TRANSFORMER, "gpt": _GPT}

CASES = {name: {"name": name, **_OTHER.get(name, SIZES)} for name in TRANSLATORS}
CASES["transformer"] |= {"dropout": 0.1}
CASES |= {f"luong {score}": {"name": "luong", "score": score, **SIZES} for score in SCORES}
CASES |= {
    f"luong {attention}": {"name": "luong", "attention": attention, "window": 1, **SIZES}
    for attention in ("local-m", "local-p")
}
CASES["luong fed"] = {"name": "luong", "input_feeding": True, **SIZES}
"""Of translators, the settings of the model section."""

STORIES = {"data.kind": "stories", "data.train_size": 60, "data.valid_size": 4, "data.test_size": 4}
"""A text that is written at once."""


def small_model(name):
    """The settings that make a small model of this name."""
    return {f"model.{key}": value for key, value in {"name": name, **_OTHER.get(name, SIZES)}.items()}


TEXT = small_model("gpt") | STORIES | {"model.dropout": 0.1, "data.epoch_windows": 64, "training.batch_size": 4}
"""Of a language model, all settings."""
