"""backward to the inputs that are given, and to no others."""

import pytest

import tinygrad_attn as ta


@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_to_the_inputs_given(create_graph):
    x, w, unused = (ta.tensor([2.0], requires_grad=True) for _ in range(3))
    y = x * w
    y.backward(inputs=[x, x, unused], create_graph=create_graph)
    assert x.grad.tolist() == [2.0] and w.grad is None and unused.grad is None
    y = x * w
    (y * y).backward(inputs=y, retain_graph=True)
    assert y.grad.tolist() == [8.0] and w.grad is None
    (y * 1.0).backward(inputs=x)
    assert x.grad.tolist() == [4.0]


def test_inputs_that_cannot_be():
    x = ta.tensor([2.0], requires_grad=True)
    for inputs, error, message in (
        ([], ValueError, "backward: there are no inputs"),
        ([ta.ones(1)], RuntimeError, r"backward: input 0 of shape \(1,\) does not require a gradient"),
        (["x"], TypeError, "backward: input 0 must be a tensor, got str"),
        (1, TypeError, "backward: input 0 must be a tensor, got int"),
    ):
        with pytest.raises(error, match=message):
            (x * x).backward(inputs=inputs)
    with pytest.raises(TypeError, match="backward: output 0 must be a tensor, got float"):
        ta.backward(1.0)
    with pytest.raises(TypeError, match="grad: input 0 must be a tensor, got NoneType"):
        ta.grad((x * x).sum(), None)


def test_a_number_as_a_gradient():
    x = ta.tensor(2.0, requires_grad=True)
    (x * x).backward(0.5)
    assert x.grad.item() == 2.0
    with pytest.raises(TypeError, match="backward: the gradient: expected numbers"):
        (x * x).backward("a")
