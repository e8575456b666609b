"""Which weights a run keeps: the best epoch's by the metric, or the average of the last; when patience ends."""

import numpy as np
import pytest
from tinygrad_attn_models.console.progress import NoProgress
from tinygrad_attn_models.runs.config import change
from tinygrad_attn_models.runs.folder import BEST, LAST, Run
from tinygrad_attn_models.training.trainer import Trainer
from tinygrad_attn_models.training.translation import PairValidation as Validation
from weights import assert_same, weights

from tinygrad_attn.serialize import load_file


def test_training_stops_when_patience_ends(make_trainer):
    trainer = make_trainer(training__epochs=9, training__patience=2, training__learning_rate=0.01)
    finish = trainer._finish_epoch

    def spoil():
        if trainer.position.epoch >= 2:
            trainer.model.state_dict()["output.bias"].array[4:] += np.arange(len(trainer.run.target) - 4)
        finish()

    trainer._finish_epoch = spoil
    assert trainer.train()
    losses = [row["valid_loss"] for row in trainer.position.history]
    assert len(losses) == 4
    assert min(losses) == losses[1]
    assert trainer.train()  # once more changes nothing
    assert len(trainer.position.history) == 4


@pytest.mark.parametrize("metric", ["bleu", "exact_match"])
def test_the_best_weights_are_those_of_the_best_metric(make_trainer, monkeypatch, metric):
    """BLEU and exact match may be best where the loss is not; of equal epochs the first is kept."""
    figures = iter([(0.1, 1.0), (0.3, 2.0), (0.3, 3.0), (0.2, 0.5), (0.9, 0.1)])
    row = Validation.row

    def scripted(validation, model):
        value, loss = next(figures)
        return {**row(validation, model), f"valid_{metric}": value, "valid_loss": loss}

    monkeypatch.setattr(Validation, "row", scripted)
    trainer = make_trainer(training__epochs=9, training__patience=2, training__early_stopping_metric=metric)
    saved = []
    save = trainer.run.save
    monkeypatch.setattr(
        trainer.run,
        "save",
        lambda name, *rest: (name == BEST and saved.append(trainer.position.epoch), save(name, *rest)),
    )
    assert trainer.train()
    assert len(trainer.position.history) == 4  # two epochs without a better one, whatever the loss
    assert saved == [0, 1]


@pytest.mark.parametrize(("metric", "perfect"), [("bleu", 100.0), ("exact_match", 1.0)])
def test_training_ends_with_a_perfect_epoch_if_there_is_patience(make_trainer, monkeypatch, metric, perfect):
    figures = iter([(0.5, 1.0), (0.5, 0.9), (perfect, 0.8)] * 2)
    row = Validation.row

    def scripted(validation, model):
        value, loss = next(figures)
        return {**row(validation, model), f"valid_{metric}": value, "valid_loss": loss}

    monkeypatch.setattr(Validation, "row", scripted)
    trainer = make_trainer(training__epochs=5, training__patience=1, training__early_stopping_metric=metric)
    assert trainer.train()
    assert len(trainer.position.history) == 3  # of equal metrics the smaller loss is better, so patience did not end
    figures = iter([(perfect, 1.0)] * 2)
    trainer = make_trainer("whole", training__epochs=2, training__early_stopping_metric=metric)
    assert trainer.train()
    assert len(trainer.position.history) == 2


@pytest.mark.parametrize("helps", [True, False])
def test_the_average_of_the_last_epochs_is_used_if_it_is_better(make_trainer, helps):
    trainer = make_trainer(training__epochs=4, training__average=3)
    assert trainer.train()
    folder = trainer.run.directory
    names = [f"epoch-{epoch}.safetensors" for epoch in (2, 3, 4)]
    assert sorted(path.name for path in folder.glob("epoch-*")) == names
    epochs = [load_file(folder / name)[0] for name in names]
    mean = {name: sum(arrays[name].astype(np.float64) for arrays in epochs) / 3 for name in epochs[0]}
    best = load_file(folder / BEST)[0]
    for row in trainer.position.history:
        row["valid_loss"] = 100.0 if helps else 0.0
    trainer.finish()
    used = weights(trainer)
    if not helps:
        assert_same(used, best)
    else:
        for name, array in mean.items():
            np.testing.assert_allclose(used[name], array, rtol=1e-6, atol=1e-7, err_msg=name)
        assert any(not np.array_equal(used[name], best[name]) for name in best)
    assert_same(load_file(folder / BEST)[0], used)


def test_an_average_stays_until_an_epoch_is_better_than_it(make_trainer, monkeypatch):
    trainer = make_trainer(training__epochs=3, training__average=2, training__early_stopping_metric="bleu")
    folder = trainer.run.directory
    bleus = iter([50.0, 40.0, 30.0, 70.0, 60.0, 80.0])  # three epochs, their average, two more epochs
    row = type(trainer.validation).row
    monkeypatch.setattr(
        type(trainer.validation), "row", lambda self, model: {**row(self, model), "valid_bleu": next(bleus)}
    )
    assert trainer.train()
    trainer.finish()
    averaged = load_file(folder / BEST)[0]

    def go_on(epochs):
        run, arrays, position = Run.open(folder, LAST)
        run.config = change(run.config, {"training.epochs": epochs})
        again = Trainer(run, run.config.data.load(), NoProgress())
        again.resume(arrays, position)
        assert again.train()
        return load_file(folder / BEST)[0]

    assert_same(go_on(4), averaged)  # better than each epoch before, and not than the average
    after = go_on(5)
    assert any(not np.array_equal(after[name], averaged[name]) for name in averaged)


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_an_average_without_the_file_of_an_epoch(make_trainer, capsys, damage):
    trainer = make_trainer(training__epochs=4, training__average=3)
    assert trainer.train()
    path = trainer.run.directory / "epoch-3.safetensors"
    path.unlink() if damage == "removed" else path.write_bytes(path.read_bytes()[:-9])
    trainer.finish()
    output = capsys.readouterr().out
    reason = "has no epoch-3.safetensors: the file was removed" if damage == "removed" else "is damaged"
    assert "Note: the average is without epoch 3: " in output and reason in output
    assert "average of 2 of the last 3 epochs, " in output
    (trainer.run.directory / "epoch-4.safetensors").unlink()
    trainer.finish()
    assert "average of" not in capsys.readouterr().out


def test_the_best_epoch_is_kept(make_trainer):
    trainer = make_trainer(training__epochs=3)
    kept = {}
    step = trainer._finish_epoch

    def finish():
        if trainer.position.epoch == 2:  # spoil the last epoch
            trainer.model.state_dict()["output.weight"].array[...] *= -3.0
        step()
        kept[trainer.position.epoch] = weights(trainer)

    trainer._finish_epoch = finish
    trainer.train()
    trainer.restore_best()
    assert_same(weights(trainer), kept[2])
