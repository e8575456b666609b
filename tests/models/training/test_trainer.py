"""Training: it learns, a seed gives a run, and a run that was stopped ends with the bits of one that was not."""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from tinygrad_attn_models.console.progress import NoProgress
from tinygrad_attn_models.decoding.translate import translate
from tinygrad_attn_models.evaluation.bleu import BleuSettings, bleu
from tinygrad_attn_models.runs.folder import BEST, LAST, Run, RunError
from tinygrad_attn_models.training.trainer import Trainer, TrainingError
from weights import assert_same, weights

from tinygrad_attn.serialize import load_file


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
        loss, correct, _ = trainer.step(batch)
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
    step = trainer.step

    def interrupted(batch):
        if trainer.position.step == steps:
            signal.raise_signal(signal.SIGINT)
        return step(batch)

    trainer.step = interrupted


@pytest.mark.parametrize("steps", [3, 9, 12])  # within the first epoch; in its last step; within the second
def test_a_run_stopped_by_ctrl_c_continues_to_the_same_bits(make_trainer, steps):
    settings = {"model__dropout": 0.1}
    whole = make_trainer("whole", **settings)
    assert whole.train()

    stopped = make_trainer("stopped", **settings)
    interrupt_after(stopped, steps)
    assert not stopped.train()
    assert stopped.position.step == steps + 1
    assert f"--resume {stopped.run.directory}" in stopped.stopped_message()

    continued = make_trainer("other", **settings)
    continued.run, arrays, position = Run.open(stopped.run.directory, LAST)
    continued.resume(arrays, position)
    assert continued.train()
    assert_same(weights(continued), weights(whole))
    for checkpoint in (LAST, BEST):
        assert (continued.run.directory / checkpoint).read_bytes() == (whole.run.directory / checkpoint).read_bytes()
    assert len(continued.clock.epochs) == 2


def test_a_signal_during_the_last_validation_leaves_the_rest_to_a_continuation(make_trainer):
    trainer = make_trainer(training__epochs=1)
    finish = trainer._finish_epoch

    def interrupted():
        signal.raise_signal(signal.SIGTERM)
        finish()

    trainer._finish_epoch = interrupted
    assert not trainer.train()
    assert trainer.interruption.exit_code == 128 + 15
    assert trainer.stopped_message().startswith("Stopped after the last epoch, at step 10 of 10, and saved.")
    continued = make_trainer("other", training__epochs=1)
    continued.run, arrays, position = Run.open(trainer.run.directory, LAST)
    continued.resume(arrays, position)
    assert continued.train()


def test_one_process_at_a_time_trains_in_a_folder(make_trainer):
    trainer = make_trainer()
    with trainer.run.held(), pytest.raises(RunError, match=r"another process is training in .*run; .*--resume"):
        trainer.train()
    assert not (trainer.run.directory / LAST).exists()
    trainer.run.create()  # what the lock leaves behind is nobody's work
    assert trainer.train()


KILLED = {
    "data.train_size": 600, "data.valid_size": 8, "data.test_size": 8, "decoding.max_length": 12,
    "model.embedding_size": 4, "model.hidden_size": 6, "model.dropout": 0.1,
    "training.epochs": 3, "training.batch_size": 8, "training.average": 2, "training.teacher_forcing": 0.9,
    "training.warmup": 3, "training.checkpoint_seconds": 1e-6,
}  # fmt: skip


def train_command(*arguments, killed_at=-1):
    """A process that trains, and kills itself before a step."""
    code = (
        "import os, signal, sys\n"
        "from tinygrad_attn_models.cli.main import main\n"
        "from tinygrad_attn_models.training.trainer import Trainer\n"
        "take = Trainer.step\n"
        "def step(self, batch):\n"
        f"    if self.position.step == {killed_at}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return take(self, batch)\n"
        "Trainer.step = step\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code, "train", *map(str, arguments)]


@pytest.mark.slow
def test_a_run_killed_within_epochs_ends_with_the_files_of_one_that_was_not(tmp_path):
    settings = [f"{name}={value}" for name, value in KILLED.items()]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(train_command("--out", whole, "--set", *settings), check=True, stdout=subprocess.DEVNULL)
    arguments = ["--out", killed, "--set", *settings]
    for steps in (10, 90, 170):  # the first within the first epoch of 75 batches, and so on
        process = subprocess.run(train_command(*arguments, killed_at=steps), stdout=subprocess.DEVNULL, check=False)
        assert process.returncode == -signal.SIGKILL
        assert step_of(killed) == steps
        arguments = ["--resume", killed]
    subprocess.run(train_command(*arguments), check=True, stdout=subprocess.DEVNULL)
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    for path in whole.glob("*.safetensors"):
        assert path.read_bytes() == (killed / path.name).read_bytes(), path.name


def step_of(folder):
    """How far the checkpoint in a folder has come; -1 if there is none."""
    return Run.open(folder, LAST)[2]["step"] if (folder / LAST).exists() else -1


def test_a_run_killed_at_once_can_be_continued(make_trainer):
    trainer = make_trainer()
    trainer._train_epoch = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    _, arrays, position = Run.open(trainer.run.directory, LAST)
    assert position["step"] == 0
    assert_same({name: arrays[f"model.{name}"] for name in weights(trainer)}, weights(trainer))


def test_validation_is_greedy_and_the_test_as_the_settings_say(make_trainer, monkeypatch):
    beams = []

    def counted(model, sentences, settings, on_batch=None):
        beams.append((len(sentences), settings.beam))
        return [[4]] * len(sentences)

    monkeypatch.setattr("tinygrad_attn_models.evaluation.metrics.translate", counted)
    trainer = make_trainer(training__epochs=1, decoding__beam=3)
    assert trainer.train()
    trainer.finish()
    assert beams == [(8, 1), (10, 3)]


def test_bleu_of_an_epoch_is_that_of_its_translations(make_trainer):
    trainer = make_trainer(training__epochs=1)
    assert trainer.train()
    pairs = trainer.run.config.data.load().valid
    translations = translate(trainer.model, sources_of(trainer, pairs), trainer.run.config.decoding)
    texts = [trainer.run.target.decode(ids) for ids in translations]
    expected = bleu(texts, [target for _, target in pairs], BleuSettings("char")).score
    assert trainer.position.history[0]["valid_bleu"] == expected
    with (trainer.run.directory / "log.csv").open(encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["valid_bleu"]) == expected


def sources_of(trainer, pairs):
    return [trainer.run.source.encode(source) for source, _ in pairs]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({}, r"try training.learning_rate below 0.5, or some steps of training.warmup; tinygrad_attn.detect_anomaly"),
        ({"training__clip_norm": 0.0, "training__warmup": 2}, r"learning_rate below 0.5, or training.clip_norm=1; "),
    ],
)
def test_a_loss_that_is_no_number_stops_training(make_trainer, settings, advice):
    trainer = make_trainer(training__learning_rate=0.5, **settings)
    trainer.model.state_dict()["output.bias"].array[:] = np.nan
    with pytest.raises(TrainingError, match=rf"the loss became nan at step 1; {advice}" if not settings else advice):
        trainer.train()


def test_a_loss_that_is_no_number_in_validation_first_says_so(make_trainer):
    trainer = make_trainer(training__epochs=3)
    finish = trainer._finish_epoch

    def spoil():
        if trainer.position.epoch == 1:
            trainer.model.state_dict()["output.bias"].array[:] = np.nan
        finish()

    trainer._finish_epoch = spoil
    with pytest.raises(TrainingError, match=r"validation loss became nan in epoch 2, .*best\.safetensors has the best"):
        trainer.train()
    assert np.isfinite(load_file(trainer.run.directory / BEST)[0]["output.bias"]).all()


def test_weights_that_are_no_numbers_are_not_saved(make_trainer):
    trainer = make_trainer(training__epochs=3, training__checkpoint_seconds=0.0)
    train_epoch = trainer._train_epoch

    def spoil():
        train_epoch()
        if trainer.position.epoch == 1:
            trainer.model.state_dict()["output.bias"].array[:] = np.nan

    trainer._train_epoch = spoil
    with pytest.raises(TrainingError, match=r"weights output.bias became nan .*--resume goes on; try training.learn"):
        trainer.train()
    run, arrays, position = Run.open(trainer.run.directory, LAST)
    again = Trainer(run, run.config.data.load(), NoProgress())
    again.resume(arrays, position)
    assert again.position.epoch == 1
    assert again.train() and again.position.epoch == 3


def test_gradients_that_are_no_numbers_stop_training_also_without_clipping(make_trainer, monkeypatch):
    trainer = make_trainer(training__clip_norm=0.0)
    parameter = trainer.model.output.weight
    step = trainer.optimizer.step

    def spoilt(**options):
        parameter.grad.array[0, 0] = np.inf
        return step(**options)

    monkeypatch.setattr(trainer.optimizer, "step", spoilt)
    before = weights(trainer)
    with pytest.raises(TrainingError, match=r"at step 1, .*1 infinite.*training.clip_norm=1"):
        trainer.train()
    assert_same(before, weights(trainer))


def steps_of(folder):
    with (folder / "steps.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_step_is_recorded_once_whatever_happens(make_trainer):
    whole = make_trainer("whole", training__warmup=3)
    assert whole.train()
    rows = steps_of(whole.run.directory)
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    assert {row["epoch"] for row in rows} == {"1", "2"}
    assert float(rows[0]["learning_rate"]) == whole.schedule(0)
    assert all(0.0 < float(row["gradient_norm"]) < 100.0 and float(row["loss"]) > 0.0 for row in rows)

    stopped = make_trainer("stopped", training__warmup=3)
    interrupt_after(stopped, 7)
    assert not stopped.train()
    path = stopped.run.directory / "steps.csv"
    path.write_text(path.read_text(encoding="utf-8") + "9,1,0.5,0.1,1.0,40\n10,1,0.", encoding="utf-8")  # a kill
    continued = make_trainer("other", training__warmup=3)
    continued.run, arrays, position = Run.open(stopped.run.directory, LAST)
    continued.records.run = continued.run
    continued.resume(arrays, position)
    assert continued.train()
    assert path.read_bytes() == (whole.run.directory / "steps.csv").read_bytes()


def test_a_schedule_sets_the_step_size(make_trainer):
    trainer = make_trainer(training__epochs=1)
    assert trainer.train()
    assert trainer.optimizer.lr == pytest.approx(0.01 / trainer.steps)
    with pytest.raises(TrainingError, match=r"training.warmup: linear: warmup must be less than .* 10, got 10; lower"):
        make_trainer("long", training__epochs=1, training__warmup=10)


def test_the_run_folder_after_training(trained):
    assert {path.name for path in trained.iterdir()} == {
        "config.toml", "run.json", "log.csv", "best.safetensors", "last.safetensors", "learning_curve.png",
        "attention.png", "clock.json", ".lock", "steps.csv",
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


def test_resuming_needs_a_checkpoint_of_training(make_trainer):
    trainer = make_trainer()
    arrays = {f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(RunError, match="no checkpoint to continue from"):
        trainer.resume(arrays, {})
