"""Every model of the registry, and each kind of Luong's attention, in sizes that plain Python computes at once."""

from translators import TRANSLATORS

from tinygrad_attn.nn import SCORES

__all__ = ["CASES", "SIZES", "TEXT"]

SIZES = {"embedding_size": 4, "hidden_size": 6}
_SMALL = {
    "transformer": {"d_model": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "d_ff": 8, "dropout": 0.1}
}

CASES = {name: {"name": name, **_SMALL.get(name, SIZES)} for name in TRANSLATORS}
CASES |= {f"luong {score}": {"name": "luong", "score": score, **SIZES} for score in SCORES}
CASES |= {
    f"luong {attention}": {"name": "luong", "attention": attention, "window": 1, **SIZES}
    for attention in ("local-m", "local-p")
}
CASES["luong fed"] = {"name": "luong", "input_feeding": True, **SIZES}
"""Of translators, the settings of the model section."""

TEXT = {
    "model.name": "gpt", "model.layers": 1, "model.heads": 2, "model.d_model": 8, "model.context": 16,
    "model.dropout": 0.1, "data.kind": "stories", "data.train_size": 60, "data.valid_size": 4, "data.test_size": 4,
    "data.epoch_windows": 64, "training.batch_size": 4,
}  # fmt: skip
"""Of a language model, all settings."""
