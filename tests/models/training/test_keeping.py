"""training.keep_checkpoints: the weights of some steps, the same ones however often a run is stopped, and no others."""

import signal

import numpy as np
import pytest
from small_models import STORIES, small_model
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.memory import readable
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.continued import continued
from tinygrad_attn_models.runs.folder import LAST, Run
from tinygrad_attn_models.runs.kept import file_of, kept_steps
from tinygrad_attn_models.training.trainer import Trainer
from weights import assert_same, weights

from tinygrad_attn.serialize import load_file

STEPS = [0, 1, 3, 10, 20]


def settings_of(name="bahdanau", **changes):
    text = {**STORIES, "data.epoch_windows": 48, "training.batch_size": 4} if name == "gpt" else {}
    return {**small_model(name), **text, "training.keep_checkpoints": True, **changes}


def kept(trainer):
    """By file its bytes."""
    folder = trainer.run.directory
    return {file_of(step): (folder / file_of(step)).read_bytes() for step in kept_steps(folder)}


def resumed(folder, *changes):
    run, arrays, position = Run.open(folder, LAST)
    run.config = continued(run, changes)
    trainer = Trainer(run, run.config.data.load(), PlainProgress())
    trainer.resume(arrays, position)
    return trainer


def stop_at(trainer, step):
    """Ctrl-C within a step of training."""
    take = trainer.step

    def interrupted(*batches):
        if trainer.position.step == step:
            signal.raise_signal(signal.SIGINT)
        return take(*batches)

    trainer.step = interrupted


class Killed(BaseException):
    """Training ends here, and saves nothing more."""


def test_nothing_is_kept_unless_asked_for(make_trainer):
    trainer = make_trainer()
    assert trainer.train() and kept_steps(trainer.run.directory) == []


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_keeps_the_weights_that_it_had(make_trainer, name):
    trainer = make_trainer(**settings_of(name))
    seen, take = {0: weights(trainer)}, trainer.step

    def watched(*batches):
        result = take(*batches)
        seen[trainer.position.step + 1] = weights(trainer)
        return result

    trainer.step = watched
    assert trainer.train()
    steps = kept_steps(trainer.run.directory)
    assert steps == sorted({0, 1, 3, 10, trainer.steps}) and trainer.steps >= 10
    for step in steps:
        assert_same(load_file(trainer.run.directory / file_of(step))[0], seen[step])
    assert trainer.run.directory.joinpath(file_of(0)).stat().st_size < 2 * sum(x.nbytes for x in seen[0].values()) + 9e3


def test_keeping_changes_no_bit_of_training(make_trainer):
    settings = settings_of(**{"model.dropout": 0.1})
    keeps = make_trainer("keeps", **settings)
    assert keeps.train()
    does_not = make_trainer("does not", **{**settings, "training.keep_checkpoints": False})
    assert does_not.train()
    assert_same(weights(keeps), weights(does_not))


@pytest.mark.parametrize("steps", [0, 2, 3, 9, 12])
def test_a_run_that_is_stopped_keeps_the_same_as_one_that_is_not(make_trainer, steps):
    settings = settings_of(**{"model.dropout": 0.1})
    whole = make_trainer("whole", **settings)
    assert whole.train() and kept_steps(whole.run.directory) == STEPS
    stopped = make_trainer("stopped", **settings)
    stop_at(stopped, steps)
    assert not stopped.train()
    assert kept_steps(stopped.run.directory) == [step for step in STEPS if step <= steps + 1]
    again = resumed(stopped.run.directory)
    assert again.train()
    assert kept(again) == kept(whole)


def test_what_a_killed_process_wrote_beyond_its_checkpoint_is_written_anew(make_trainer):
    """With other settings from there on, the weights are others."""
    trainer = make_trainer(**settings_of(**{"training.checkpoint_seconds": 0.0}))
    take = trainer.step

    def killed(*batches):
        if trainer.position.step == 4:
            raise Killed
        return take(*batches)

    trainer.step = killed
    with pytest.raises(Killed):
        trainer.train()
    before = kept(trainer)
    assert kept_steps(trainer.run.directory) == [0, 1, 3]  # its checkpoint is that of step 0
    again = resumed(trainer.run.directory, "training.clip_norm=0.01")
    assert again.train() and kept_steps(again.run.directory) == STEPS
    after = kept(again)
    assert after[file_of(0)] == before[file_of(0)] and after[file_of(3)] != before[file_of(3)]


def test_a_run_that_goes_on_keeps_more(make_trainer):
    trainer = make_trainer(**settings_of())
    assert trainer.train()
    before = kept(trainer)
    again = resumed(trainer.run.directory, "training.epochs=4")
    assert again.train() and kept_steps(again.run.directory) == [*STEPS, 30, 40]
    assert before.items() <= kept(again).items()
    np.testing.assert_array_equal(
        load_file(again.run.directory / file_of(40))[0]["output.weight"], again.model.output.weight.array
    )


@pytest.mark.parametrize("limit", [5, 10])
def test_a_limit_of_steps_ends_with_a_kept_one(make_trainer, limit):
    trainer = make_trainer(**settings_of(**{"training.max_steps": limit}))
    assert trainer.train() and kept_steps(trainer.run.directory) == [step for step in STEPS if step < limit] + [limit]


def test_the_room_on_disk_is_told(make_trainer, capsys):
    trainer = make_trainer(**settings_of())
    assert trainer.train()
    size = sum(array.nbytes for array in weights(trainer).values())
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("keeps the weights"))
    assert "of steps 0, 1, 3, 10, 20 for the microscope: " in line
    assert f"5 files of {readable(size)}, {readable(5 * size)} of disk together" in line
