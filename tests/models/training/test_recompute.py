"""training.recompute: the bits of training that keeps everything; a model that cannot says so."""

from commands import refused
from small_models import TEXT

SETTINGS = {**TEXT, "model.layers": 3, "training.epochs": 1, "data.epoch_windows": 12}


def test_training_by_a_setting(make_trainer):
    weights = []
    for recompute in (False, True):
        trainer = make_trainer(f"recompute {recompute}", **SETTINGS, training__recompute=recompute)
        assert trainer.model.recompute == recompute
        assert trainer.train()
        weights.append([parameter.array.tobytes() for parameter in trainer.model.parameters()])
    assert weights[0] == weights[1]


def test_a_model_without_layers_says_so(capsys, tmp_path):
    sizes = ["data.train_size=20", "data.valid_size=2", "data.test_size=2", "training.recompute=true"]
    refused(capsys, ["train", "--out", tmp_path / "run", "--set", *sizes], "bahdanau has no stack of layers", "false")
