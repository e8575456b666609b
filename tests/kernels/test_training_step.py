"""Every kernel together: whole training steps of the small workloads, which launch each of them in turn."""

from __future__ import annotations

import pytest
from bits import assert_same_bits, compiled_only
from tinygrad_attn_models.speed.bench import TrainingStep


@compiled_only
@pytest.mark.parametrize("workload", ["bahdanau-small", "luong-small", "transformer-small"])
def test_three_steps_leave_the_same_bits_whatever_the_number_of_threads(workload):
    def learn():
        step = TrainingStep(workload)
        losses = [step() for _ in range(3)]
        return [*losses, *(parameter.array for parameter in step.model.parameters())]

    assert_same_bits(learn)
