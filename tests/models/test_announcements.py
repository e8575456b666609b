"""The announcements of the models, besides those of layers, by which the microscope finds attention sites."""

import numpy as np
import pytest
from looked_at import FEEDING, LUONGS, SOURCE, TARGET, make

import tinygrad_attn as ta
from tinygrad_attn import Tensor
from tinygrad_attn.modes import MARKS
from tinygrad_attn.record import record


def announced(name):
    model = make(name).to(np.float64).eval()
    source, target = np.array([SOURCE]), np.array([TARGET])
    with record() as tape, ta.unfused():
        logits = model(Tensor(source), Tensor(np.ones_like(source, bool)), Tensor(target))
        logits.sum().backward()
    assert {found.name for found in tape.marks} <= set(MARKS)
    assert tape.marks[-1].name == "logits" and tape.marks[-1].tensor is logits
    return tape.marks


def of_attention(marks):
    """Those besides the encoder's and the decoder's states, on which the paths of the gradient go."""
    return [found for found in marks if found.name not in ("state", "encoded", "start")]


@pytest.mark.parametrize("name", [*LUONGS, *FEEDING])
def test_luong(name):
    _, score, attention, *feeding = name.split()
    marks = of_attention(announced(name))
    call = {"location": ["query", "parameter"]}.get(score, ["query", "key"])
    call += ["parameter"] if score in ("additive", "concat") else []
    mixing = ["gaussian", "mixed"] if attention == "local-p" else []
    call = [*call, "scores", "mask", "weights", *mixing, "value", "context", "joined", "attentional"]
    steps = len(TARGET) if feeding else 1
    assert [found.name for found in marks] == [*call * steps, "logits"]
    assert {found.module for found in marks} == {"Luong"}
    expected = [(t,) for t in range(steps) for _ in call] if feeding else [()] * len(call)
    assert [found.steps for found in marks[:-1]] == expected
    assert {found.details["score"] for found in marks if found.name == "scores"} == {score}
    shapes = {found.name: found.tensor.shape for found in marks}
    rows = 1 if feeding else len(TARGET)
    assert shapes["scores"] == shapes["weights"] == (1, rows, len(SOURCE))
    assert (shapes["joined"], shapes["attentional"]) == ((1, rows, 12), (1, rows, 6))


def test_bahdanau():
    marks = of_attention(announced("bahdanau"))
    assert [found.name for found in marks[-3:]] == ["joined", "attentional", "logits"]
    assert {found.module for found in marks} == {"Bahdanau"}
    assert [found.steps for found in marks if found.name == "weights"] == [(0,), (1,), (2,)]
    assert {found.details["score"] for found in marks if found.name == "scores"} == {"additive"}
    shapes = {found.name: found.tensor.shape for found in marks}
    assert (shapes["joined"], shapes["attentional"]) == ((1, len(TARGET), 6 + 5 + 12), (1, len(TARGET), 6))


def test_transformer():
    marks = announced("transformer")
    roles = {
        found.module.removeprefix("Transformer.transformer."): found.details["role"]
        for found in marks
        if found.name == "joined"
    }
    expected = {f"encoder.layers.{i}.self_attn": "self" for i in range(2)}
    for i in range(2):
        expected |= {f"decoder.layers.{i}.self_attn": "causal", f"decoder.layers.{i}.multihead_attn": "cross"}
    assert roles == expected


def test_seq2seq():
    marks = announced("seq2seq")
    assert [found.name for found in of_attention(marks)] == ["logits"]
    states = [found for found in marks if found.name == "state"]
    assert states and {found.tensor.shape[0] for found in states} == {1}
    assert {"encoded", "start"} <= {found.name for found in marks}
