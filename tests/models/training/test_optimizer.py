"""The optimiser and the schedule are those that the config names."""

import numpy as np
import pytest
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.training.optimizer import make_optimizer, make_schedule

from tinygrad_attn import Tensor, optim, schedule


def test_adam_has_the_settings():
    config = load_config(None, {"training.beta1": 0.8, "training.beta2": 0.98, "training.eps": 1e-9})
    optimizer = make_optimizer(config.training, MODELS[config.model.name].from_settings(config.model, 5, 5))
    assert (optimizer.betas, optimizer.eps, optimizer.lr) == ((0.8, 0.98), 1e-9, 0.004)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "constant"}, schedule.constant(0.004)),
        ({"schedule": "linear"}, schedule.linear(0.004, 50)),
        ({"schedule": "linear", "warmup": 5}, schedule.linear(0.004, 50, 5)),
        ({"schedule": "cosine", "warmup": 5}, schedule.cosine(0.004, 50, 5)),
        ({"schedule": "cosine", "min_learning_rate": 0.001}, schedule.cosine(0.004, 50, min_lr=0.001)),
        ({"schedule": "linear", "min_learning_rate": 0.001}, schedule.linear(0.004, 50, min_lr=0.001)),
        ({"schedule": "inverse_sqrt", "warmup": 5}, schedule.inverse_sqrt(0.004, 5)),
        ({"schedule": "noam", "warmup": 5, "noam_factor": 2.0}, schedule.noam(64, 5, 2.0)),
    ],
)
def test_the_schedule(settings, expected):
    config = load_config(None, {f"training.{name}": value for name, value in settings.items()})
    found = make_schedule(config, 50)
    assert [found(step) for step in range(50)] == [expected(step) for step in range(50)]


def test_noam_takes_the_width_of_the_transformer():
    config = load_config(
        None, {"model.name": "transformer", "model.d_model": 96, "training.schedule": "noam", "training.warmup": 9}
    )
    assert make_schedule(config, 50)(3) == schedule.noam(96, 9)(3)


def test_a_warmup_without_end():
    with pytest.raises(ValueError, match="warmup must be less than the number of steps, 50, got 50"):
        make_schedule(load_config(None, {"training.warmup": 50}), 50)


def test_warmup_that_is_not_shorter_than_training_is_told_once():
    for name in ("constant", "inverse_sqrt", "noam"):
        config = load_config(None, {"training.schedule": name, "training.warmup": 10})
        with pytest.warns(UserWarning, match="training.warmup is 10, but training has 10 steps") as told:
            make_schedule(config, 10)
        assert len(told) == 1


def test_matrices_alone_decay():
    config = load_config(None, {"model.name": "gpt", "data.kind": "stories", "training.weight_decay": 0.5,
                                "training.beta1": 0.8, "model.bias": True})  # fmt: skip
    model = MODELS["gpt"].from_settings(config.model, 9, 9)
    optimizer = make_optimizer(config.training, model)
    assert isinstance(optimizer, optim.AdamW) and optimizer.betas == (0.8, 0.999)
    before = {name: parameter.array.copy() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.array[...] += 1  # nothing is zero
        parameter.grad = Tensor(np.zeros_like(parameter.array))
    optimizer.lr = 0.1
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if parameter.ndim > 1 else 1.0
        np.testing.assert_allclose(parameter.array, factor * (before[name] + 1), rtol=1e-6, err_msg=name)
