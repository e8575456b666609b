"""Observers: what the engine tells them, in which order, and that one who listens to nothing changes nothing."""

import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import Observer, observe, span
from tinygrad_attn.optim import SGD


class Listener(Observer):
    """Writes down what it is told."""

    def __init__(self):
        self.heard = []

    def called(self, op, operands, options):
        self.heard.append(f"called {op.name}")

    def forward(self, op, operands, options, outputs):
        self.heard.append(f"forward {op.name}")

    def arrived(self, node, gradient):
        self.heard.append(f"arrived {node.op.name}")

    def pulled_back(self, node):
        self.heard.append(f"pulled back {node.op.name}")

    def backward(self, node, position, gradient):
        self.heard.append(f"backward {node.op.name} {position}")

    def entered(self, span):
        self.heard.append(f"entered {span}")

    def left(self, span):
        self.heard.append(f"left {span}")


def train():
    weight = nn.Parameter(ta.tensor([2.0, 3.0]).array)
    optimizer = SGD([weight], lr=0.5)
    (weight * weight).sum().backward()
    optimizer.step()
    return weight.tolist()


def test_an_observer_is_called_in_the_order_of_a_step():
    listener = Listener()
    with observe(listener):
        train()
    assert listener.heard == [
        "called mul", "forward mul", "called sum", "forward sum",
        "entered backward", "arrived sum", "pulled back sum", "backward sum 0",
        "arrived mul", "pulled back mul", "backward mul 0", "backward mul 1", "left backward",
        "entered optimizer step", "left optimizer step",
    ]  # fmt: skip
    ta.tensor([1.0]).exp()
    assert listener.heard[-1] == "left optimizer step"


def test_an_observer_need_not_listen():
    with observe(Observer()):
        assert train() == [0.0, 0.0]


def test_a_span_ends_by_an_error_too():
    @span("work")
    def work():
        raise ValueError("no")

    listener = Listener()
    with pytest.raises(ValueError, match="no"), observe(listener):
        work()
    assert listener.heard == ["entered work", "left work"]


def test_equations_run_inside_unfused_and_the_op_elsewhere():
    @ta.fused_by(lambda x, scale: ("op", x, scale))
    def equations(x, scale):
        """What it computes."""
        return "equations", x, scale

    assert equations(1, scale=2) == ("op", 1, 2)
    with ta.unfused():
        assert equations(1, scale=2) == ("equations", 1, 2)
    assert equations(1, scale=2) == ("op", 1, 2)
    assert equations.__doc__ == "What it computes."
