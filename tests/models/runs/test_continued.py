"""What a continued run may change, and what it says of a text that is another."""

import pytest
from tinygrad_attn_models.data import ParallelText, PlainText
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.continued import continued, refuse_other_text
from tinygrad_attn_models.runs.folder import Run, RunError


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.1), (0.1, 0.0)])
def test_weight_decay_neither_begins_nor_ends_within_a_run(before, after):
    run = Run("runs/one", load_config(None, {"training.weight_decay": before}), None, None)
    with pytest.raises(RunError) as raised:
        continued(run, [f"training.weight_decay={after}"])
    message = str(raised.value)
    assert f"training.weight_decay cannot change from {before:g} to {after:g} when " in message
    assert "begin a new run from its weights, with python -m models train --from" in message


def test_weight_decay_may_become_another():
    run = Run("runs/one", load_config(None, {"training.weight_decay": 0.1}), None, None)
    assert continued(run, ["training.weight_decay=0.2"]).training.weight_decay == 0.2


@pytest.mark.parametrize(
    ("before", "after", "fix"),
    [
        (PlainText("poem", "abc", "d", ""), PlainText("poem", "abx", "d", ""), "--data FILE"),
        (
            ParallelText("text", "a", "b", [("a", "b")], [("c", "d")], [("e", "f")]),
            ParallelText("text", "a", "b", [("a", "x")], [("c", "d")], [("e", "f")]),
            "--data FOLDER",
        ),
    ],
)
def test_another_text_is_refused_with_what_data_names(before, after, fix):
    run = Run("runs/one", load_config(None, {}), None, None)
    refuse_other_text(run, before)
    refuse_other_text(run, before)
    with pytest.raises(RunError) as raised:
        refuse_other_text(run, after)
    assert str(raised.value).count(fix) == 2 and str(raised.value).count("--data") == 2
