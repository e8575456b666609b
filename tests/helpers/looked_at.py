"""Small models for the microscope, by name, each with its forward pass in plain NumPy."""

import itertools

import numpy as np
import plain_models
import pytest
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.luong import ATTENTIONS, Luong
from tinygrad_attn_models.microscope.record.arrays import decoded
from tinygrad_attn_models.seq2seq import Seq2Seq
from tinygrad_attn_models.transformer import Transformer

import tinygrad_attn as ta
from tinygrad_attn.nn import SCORES

SOURCE, TARGET = [4, 6, 5, 7, 6], [5, 4, 6]
LUONGS = [f"luong {score} {attention}" for score in SCORES for attention in ATTENTIONS]
FEEDING = ["luong general global feeding", "luong concat local-p feeding"]
# Each score and each attention once, which is quick, and then each pair of them.
_PAIRED = {f"luong {score} {attention}" for score, attention in zip(SCORES, itertools.cycle(ATTENTIONS))}
EACH = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LUONGS and name not in _PAIRED else [])
    for name in ("bahdanau", *LUONGS, *FEEDING, "transformer", "seq2seq")
]
HEADS, WINDOW = 4, 1


def make(name):
    """An untrained model of 9 source and 8 target symbols; a Transformer's γ differ from channel to channel, as they do
    in a trained one."""
    ta.manual_seed(3)
    kind, *options = name.split()
    if kind == "bahdanau":
        return Bahdanau(9, 8, 5, 6)
    if kind == "seq2seq":
        return Seq2Seq(9, 8, 5, 6)
    if kind == "transformer":
        model = Transformer(9, 8, d_model=8, heads=HEADS, encoder_layers=2, decoder_layers=2, d_ff=12)
        set_gammas(model, np.linspace(0.5, 2.0, 8))
        return model
    score, attention, *feeding = options
    return Luong(9, 8, 5, 6, score=score, attention=attention, window=WINDOW, input_feeding=bool(feeding))


def set_gammas(model, values):
    """The weights of all layer norms."""
    for path, parameter in model.named_parameters():
        if "norm" in path and path.endswith("weight"):
            parameter.array[:] = values


def plain(name, window=WINDOW):
    """The model's forward pass in plain NumPy."""
    kind, *options = name.split()
    if kind == "luong":
        score, attention, *feeding = options
        return plain_models.luong(score, attention, window, bool(feeding))
    if kind == "transformer":
        return plain_models.transformer(HEADS)
    return {"bahdanau": plain_models.bahdanau, "seq2seq": plain_models.seq2seq}[kind]


def matrix(data, site, tensor, part):
    """A tensor's value or gradient (heads, rows, columns), None if it is not there."""
    number = site["tensors"][tensor][part]
    return None if number is None else decoded(data["arrays"][number])
