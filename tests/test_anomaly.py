"""detect_anomaly names the op, the module and the line where a value first stopped being finite."""

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn


class Inner(nn.Module):
    def forward(self, x: ta.Tensor) -> ta.Tensor:
        return ta.log(x)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: ta.Tensor) -> ta.Tensor:
        return self.inner(x - 1.0)


def test_forward() -> None:
    with (
        ta.detect_anomaly(),
        pytest.raises(
            RuntimeError,
            match=r"made -inf at \(1,\) of shape \(2,\), by log called at .*anomaly\.py:\d+ in module Outer\.inner",
        ),
    ):
        Outer()(ta.tensor([2.0, 1.0]))


def test_backward() -> None:
    x = ta.tensor([4.0, 0.0], requires_grad=True)
    with (
        ta.detect_anomaly(),
        pytest.raises(
            RuntimeError, match=r"backward made inf at \(1,\).* the gradient for x by sqrt called at .*test_anomaly\.py"
        ),
    ):
        ta.sqrt(x).sum().backward()


def test_forward_outside_backward_inside() -> None:
    x = ta.tensor([0.0], requires_grad=True)
    y = ta.sqrt(x).sum()
    with ta.detect_anomaly(), pytest.raises(RuntimeError, match="sqrt called before detect_anomaly"):
        y.backward()


def test_only_the_first_appearance_counts() -> None:
    x = ta.tensor([np.inf, 1.0])
    with ta.detect_anomaly():
        assert (x * 2.0).tolist() == [np.inf, 2.0]
    assert ta.log(ta.tensor([0.0])).item() == -np.inf


def test_an_op_without_outputs():
    with ta.detect_anomaly():
        assert ta.unbind(ta.zeros(2, 0, requires_grad=True), dim=1) == ()
