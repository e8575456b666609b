"""Gradient accumulation: several batches make the step that one batch of them all would make."""

import csv

import numpy as np
import pytest
from small_models import STORIES, small_model
from tinygrad_attn_models.data import Batch, collate
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.continued import continued
from tinygrad_attn_models.runs.folder import LAST, Run, RunError
from weights import assert_same, weights

from tinygrad_attn.program import Program


def settings_of(name):
    """The settings of a small model, and of what it is trained on."""
    text = {**STORIES, "data.epoch_windows": 40, "training.batch_size": 4} if name == "gpt" else {}
    return {**small_model(name), **text, "model.dropout": 0.0}


def as_one(trainer, batches):
    """The batch of all examples of some batches."""
    indices = np.concatenate([batch.indices for batch in batches])
    if batches[0].given:
        return collate(trainer.train_batches.examples, indices)
    parts = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("target_in", "target_out", "target_mask")
    }
    return Batch(**parts, indices=indices, target_tokens=sum(batch.target_tokens for batch in batches))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_step_is_that_of_one_large_batch(make_trainer, name, capture, dtype, tolerance):
    options = settings_of(name) | {
        "training.capture": capture, "training.label_smoothing": 0.1, "training.clip_norm": 0.05,
        "training.schedule": "constant", "training.batch_type": "tokens", "training.batch_size": 70,
        "training.gradient_accumulation_steps": 3,
    }  # fmt: skip
    parts, whole = make_trainer("parts", **options), make_trainer("whole", **options)
    whole.group = 1
    whole.gradients.whole, whole.gradients.captured.function = True, whole.gradients._loss
    for trainer in (parts, whole):
        getattr(trainer.model, "double" if dtype == "float64" else "float")()
    for _ in range(3):  # of a program in the last
        batches = next(parts.groups(0))
        assert len(batches) == 3
        found, expected = parts.step(*batches), whole.step(as_one(parts, batches))
        assert found[0] == pytest.approx(expected[0], rel=10 * tolerance)
        assert found[1] == expected[1]
        assert found[2] == pytest.approx(expected[2], rel=100 * tolerance)
        assert expected[2] > 0.05  # so that it is clipped
        for (path, one), other in zip(parts.model.named_parameters(), whole.model.parameters(), strict=True):
            np.testing.assert_allclose(one.grad.array, other.grad.array, rtol=0, atol=tolerance, err_msg=path)
        for one, other in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
            other.array[...] = one.array
    made = [isinstance(program, Program) for program in parts.gradients.captured.programs.values()]
    assert any(made) == capture


def test_an_epoch_and_its_steps(make_trainer):
    trainer = make_trainer(training__gradient_accumulation_steps=4, training__schedule="linear")
    assert trainer.train_batches.count(0) == 10
    assert [len(group) for group in trainer.groups(0)] == [4, 4, 2]
    assert trainer.steps == 2 * 3
    assert trainer.train()
    with (trainer.run.directory / "steps.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.01 / 6)
    tokens = [sum(batch.target_tokens for batch in group) for group in trainer.groups(0)]
    assert [int(row["tokens"]) for row in rows[:3]] == tokens
    first = sum(float(row["loss"]) * int(row["tokens"]) for row in rows[:3]) / sum(tokens)
    assert trainer.position.history[0]["train_loss"] == pytest.approx(first)


def test_a_limit_of_steps_counts_those_of_the_optimiser(make_trainer):
    trainer = make_trainer(training__gradient_accumulation_steps=4, training__max_steps=4)
    assert trainer.steps == 4
    assert trainer.train()
    assert trainer.position.step == 4 and trainer.position.skipped == 2
    assert trainer.position.epoch == 2


@pytest.mark.parametrize("text", [True, False])
def test_a_stopped_run_continues_to_the_same_bits(make_trainer, text):
    options = settings_of("gpt" if text else "bahdanau") | {
        "training.gradient_accumulation_steps": 4,
        "model.dropout": 0.1,
    }
    whole = make_trainer("whole", **options)
    assert whole.train()
    for steps in (1, 2, 4):
        stopped = make_trainer(f"stopped {steps}", **options)
        step = stopped.step

        def interrupted(*batches, stopped=stopped, step=step, steps=steps):
            if stopped.position.step == steps:
                stopped.interruption.requested = True
            return step(*batches)

        stopped.step = interrupted
        assert not stopped.train()
        resumed = make_trainer(f"resumed {steps}", **options)
        resumed.run, arrays, position = Run.open(stopped.run.directory, LAST)
        resumed.resume(arrays, position)
        assert resumed.steps == whole.steps
        assert resumed.train()
        assert_same(weights(resumed), weights(whole))


def test_of_one_batch_each_the_bits_are_those_without(make_trainer):
    results = []
    for name, options in (("with", {"training__gradient_accumulation_steps": 1}), ("without", {})):
        trainer = make_trainer(name, **options)
        assert trainer.train()
        results.append(weights(trainer))
    assert_same(*results)


def test_a_continued_run_keeps_to_it(make_trainer):
    trainer = make_trainer()
    with pytest.raises(RunError, match=r"training\.gradient_accumulation_steps cannot change when .* is continued"):
        continued(trainer.run, ["training.gradient_accumulation_steps=2"])
