"""The weights of a trainer's model, and their comparison."""

import numpy as np


def weights(trainer):
    return {name: tensor.array.copy() for name, tensor in trainer.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
