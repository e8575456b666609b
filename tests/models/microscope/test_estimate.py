"""The memory of a page is estimated before it is used, and told or refused."""

import pytest
import translators as t
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.luong import Luong
from tinygrad_attn_models.memory import TooLargeError
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record import estimate
from tinygrad_attn_models.microscope.record.trace import in_float64, trace
from tinygrad_attn_models.transformer import Transformer

SIZES = t.SOURCE_SIZE, t.TARGET_SIZE
MODELS = {
    "bahdanau": lambda: Bahdanau(*SIZES, 6, 12),
    "luong": lambda: Luong(*SIZES, 6, 12),
    "transformer": lambda: Transformer(*SIZES, 16, 2, 2, 2, 32, dropout=0.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_three_short_passes_tell_the_size_of_a_long_one(name):
    model = in_float64(MODELS[name]())
    found = estimate._size(trace(model, [4] * 9, [5] * 9))
    assert estimate.needed_memory(model, [9, 9]) / estimate._SHARE == pytest.approx(found, rel=0.05)


def test_much_memory_is_told_and_too_much_refused(monkeypatch):
    model = MODELS["transformer"]()
    monkeypatch.setattr(estimate, "_MUCH", 100_000)
    with pytest.warns(
        UserWarning, match=r"every number of a model of [\d,]+ parameters over 5 and 4 symbols takes abo"
    ):
        microscope(model, [4] * 5, [5] * 4)
    monkeypatch.setattr("tinygrad_attn_models.memory.machine_memory", lambda: 200_000)
    with pytest.raises(TooLargeError, match=r"about [\d.]+ MB of memory; there are 200 KB; choose a shorter sentence"):
        microscope(model, [4] * 5, [5] * 4)


def test_a_small_model_is_not_measured(monkeypatch, recwarn):
    monkeypatch.setattr(estimate, "needed_memory", lambda *_: pytest.fail("there is no need"))
    microscope(MODELS["bahdanau"](), [4] * 5, [5] * 4)
    assert not recwarn.list
