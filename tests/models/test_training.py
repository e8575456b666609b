"""Training: it learns, a seed gives a run, and a run that was stopped ends with the bits of one that was not."""

import csv
import json
import os
import signal

import numpy as np
import pytest

from models.interruption import Interruption
from models.run import BEST, LAST, Run, RunError
from models.training import TrainingError
from tinygrad_attn.serialize import load_file


def weights(trainer):
    return {name: tensor.array.copy() for name, tensor in trainer.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_loss_falls_and_accuracy_rises(make_trainer):
    trainer = make_trainer(training__epochs=3)
    assert trainer.train()
    losses = [row["valid_loss"] for row in trainer.position.history]
    assert losses[2] < losses[1] < losses[0]
    assert trainer.position.history[2]["valid_accuracy"] > trainer.position.history[0]["valid_accuracy"]


def test_one_batch_can_be_learnt_by_heart(make_trainer):
    trainer = make_trainer(data__train_size=2, training__schedule="constant", training__learning_rate=0.05)
    batch = next(trainer.train_batches.epoch(0))
    for _ in range(60):
        loss, correct = trainer._step(batch)
    assert correct == batch.target_tokens
    assert loss < 0.1


def test_a_seed_gives_a_run(make_trainer):
    results = []
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        trainer = make_trainer(name, training__seed=seed, model__dropout=0.1)
        trainer.train()
        results.append(weights(trainer))
    assert_same(results[0], results[1])
    assert not np.array_equal(results[0]["output.weight"], results[2]["output.weight"])


def interrupt_after(trainer, steps):
    """Send the process a Ctrl-C during a step of training."""
    step = trainer._step

    def interrupted(batch):
        if trainer.position.step == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return step(batch)

    trainer._step = interrupted


@pytest.mark.parametrize("steps", [3, 9, 12])  # within the first epoch; in its last step; within the second
def test_a_run_stopped_by_ctrl_c_continues_to_the_same_bits(make_trainer, steps):
    settings = {"model__dropout": 0.1}
    whole = make_trainer("whole", **settings)
    assert whole.train()

    stopped = make_trainer("stopped", **settings)
    interrupt_after(stopped, steps)
    assert not stopped.train()
    assert stopped.position.step == steps + 1
    assert f"--resume {stopped.run.directory}" in stopped.farewell()

    continued = make_trainer("other", **settings)
    continued.run, arrays, position = Run.open(stopped.run.directory, LAST)
    continued.resume(arrays, position)
    assert continued.train()
    assert_same(weights(continued), weights(whole))
    assert_same(*(load_file(trainer.run.directory / LAST)[0] for trainer in (continued, whole)))
    assert (continued.run.directory / BEST).read_bytes() == (whole.run.directory / BEST).read_bytes()

    def figures(trainer):
        return [{key: value for key, value in row.items() if "second" not in key} for row in trainer.position.history]

    assert figures(continued) == figures(whole)


def test_the_second_ctrl_c_stops_at_once():
    interruption = Interruption()
    notices = []
    with pytest.raises(KeyboardInterrupt), interruption.awaited(lambda: notices.append("one more")):
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested
        assert notices == ["one more"]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_loss_that_is_no_number_stops_training(make_trainer):
    trainer = make_trainer(training__learning_rate=0.5)
    trainer.model.state_dict()["output.bias"].array[:] = np.nan
    with pytest.raises(TrainingError, match=r"the loss became nan at step 1; set training.learning_rate below 0.5"):
        trainer.train()


def test_a_schedule_sets_the_step_size(make_trainer):
    linear = make_trainer("linear")
    assert linear._learning_rate(0) == 0.01
    assert linear._learning_rate(linear.steps // 2) == pytest.approx(0.005)
    constant = make_trainer("constant", training__schedule="constant")
    assert constant._learning_rate(constant.steps - 1) == 0.01


def test_the_run_folder_after_training(trained):
    assert {path.name for path in trained.iterdir()} == {
        "config.toml", "run.json", "log.csv", "best.safetensors", "last.safetensors", "learning_curve.png",
        "attention.png",
    }  # fmt: skip
    about = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert about["seed"] == 0
    assert {"python", "numpy", "numba", "tinygrad-attn", "commit"} <= about["versions"].keys()
    assert 0.0 <= about["results"]["exact_match"] <= 1.0
    with (trained / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for picture in trained.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_best_epoch_is_kept(make_trainer):
    trainer = make_trainer(training__epochs=3)
    kept = {}
    step = trainer._finish_epoch

    def finish(began):
        if trainer.position.epoch == 2:  # spoil the last epoch
            trainer.model.state_dict()["output.weight"].array[...] *= -3.0
        step(began)
        kept[trainer.position.epoch] = weights(trainer)

    trainer._finish_epoch = finish
    trainer.train()
    trainer.restore_best()
    assert_same(weights(trainer), kept[2])


def test_resuming_needs_a_checkpoint_of_training(make_trainer):
    trainer = make_trainer()
    arrays = {f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(RunError, match="no checkpoint to continue from"):
        trainer.resume(arrays, {})
