from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
from against_torch import assert_equal_to_torch  # noqa: E402

import tinygrad_attn  # noqa: E402
from tinygrad_attn.tensor import Tensor  # noqa: E402

# Each is called with PyTorch or with this package, and operands of the shapes behind it.
CASES = {
    "reshape": (lambda p, x: p.reshape(x, (3, -1)), (2, 3, 2)),
    "reshape to 0-d": (lambda p, x: p.reshape(x, ()), (1, 1)),
    "reshape empty": (lambda p, x: x.reshape(-1, 2), (0, 2)),
    "reshape a transposed": (lambda p, x: x.transpose(0, 1).reshape(-1), (2, 3)),
    "view": (lambda p, x: x.view(3, -1), (2, 3)),
    "view splits an axis of a transposed": (lambda p, x: x.transpose(0, 1).view(3, 2, 1), (2, 3)),
    "flatten": (lambda p, x: p.flatten(x, 1, -1), (2, 3, 2)),
    "flatten 0-d": (lambda p, x: x.flatten(), ()),
    "transpose": (lambda p, x: p.transpose(x, -1, 0), (2, 3, 2)),
    "transpose 0-d": (lambda p, x: x.transpose(0, -1), ()),
    "swapaxes": (lambda p, x: x.swapaxes(0, 1), (2, 3)),
    "permute": (lambda p, x: x.permute(2, 0, -2), (2, 3, 4)),
    "permute a tuple": (lambda p, x: p.permute(x, (1, 0)), (2, 3)),
    "movedim": (lambda p, x: p.movedim(x, (0, 1), (2, 0)), (2, 3, 4)),
    "expand": (lambda p, x: x.expand(4, -1, 3), (2, 1)),
    "expand a tuple": (lambda p, x: x.expand((2, 2)), ()),
    "broadcast_to": (lambda p, x: p.broadcast_to(x, (2, 3)), (3,)),
    "squeeze": (lambda p, x: x.squeeze(), (1, 3, 1)),
    "squeeze dim": (lambda p, x: p.squeeze(x, -1), (1, 3, 1)),
    "squeeze a larger axis": (lambda p, x: x.squeeze(1), (1, 3, 1)),
    "squeeze dims": (lambda p, x: x.squeeze((0, 1)), (1, 3, 1)),
    "squeeze no dims": (lambda p, x: x.squeeze(()), (1, 3)),
    "squeeze 0-d": (lambda p, x: x.squeeze(0), ()),
    "unsqueeze": (lambda p, x: p.unsqueeze(x, -1), (2, 3)),
    "unsqueeze 0-d": (lambda p, x: x.unsqueeze(0), ()),
    "flip": (lambda p, x: x.flip(0, -1), (2, 3)),
    "flip a list": (lambda p, x: p.flip(x, [1]), (2, 3)),
    "flip nothing": (lambda p, x: p.flip(x, []), (2, 3)),
    "clone": (lambda p, x: x.clone(), (2, 3)),
    "contiguous": (lambda p, x: x.transpose(0, 1).contiguous(), (2, 3)),
    "cat": (lambda p, x, y: p.cat([x, y, x], 1), (2, 3), (2, 1)),
    "cat by a negative dim": (lambda p, x, y: p.cat((x, y), dim=-2), (2, 3), (0, 3)),
    "stack": (lambda p, x, y: p.stack([x, y], -1), (2, 3), (2, 3)),
    "stack 0-d": (lambda p, x, y: p.stack((x, y)), (), ()),
    "split": (lambda p, x: p.split(x, 2, 1)[-1], (2, 5)),
    "split sizes": (lambda p, x: x.split([1, 0, 4], dim=-1)[2], (2, 5)),
    "split empty": (lambda p, x: x.split(2)[0], (0, 2)),
    "chunk": (lambda p, x: p.chunk(x, 3, 1)[1], (2, 5)),
    "chunk more than there is": (lambda p, x: p.cat(x.chunk(9, 1), 0), (2, 5)),
    "unbind": (lambda p, x: x.unbind(1)[2] * x.unbind(1)[0], (2, 3)),
    "narrow": (lambda p, x: p.narrow(x, 1, -2, 2), (2, 5)),
    "narrow to nothing": (lambda p, x: x.narrow(1, 5, 0), (2, 5)),
    "repeat": (lambda p, x: x.repeat(2, 1, 3), (2, 3)),
    "repeat none": (lambda p, x: x.repeat(0, 1), (2, 3)),
    "repeat 0-d": (lambda p, x: x.repeat(2), ()),
    "roll": (lambda p, x: p.roll(x, 4), (2, 3)),
    "roll dims": (lambda p, x: x.roll((1, -2), (0, 1)), (2, 3)),
    "tril": (lambda p, x: p.tril(x, -1), (3, 4)),
    "tril batched": (lambda p, x: x.tril(), (2, 3, 3)),
    "triu": (lambda p, x: p.triu(x, 1), (3, 4)),
    "diagonal": (lambda p, x: p.diagonal(x), (2, 3)),
    "diagonal of a pair of axes": (lambda p, x: x.diagonal(1, -1, 0), (3, 2, 4)),
    "diagonal outside": (lambda p, x: x.diagonal(5), (2, 3)),
    "pad": (lambda p, x: p.nn.functional.pad(x, (1, 2, 0, 3)), (2, 3)),
    "pad with a value": (lambda p, x: p.nn.functional.pad(x, (1, 1), value=2.5), (3,)),
    "pad and crop": (lambda p, x: p.nn.functional.pad(x, (-1, 2, 1, -2)), (3, 4)),
    "pad nothing": (lambda p, x: p.nn.functional.pad(x, ()), (3,)),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_derivatives(name):
    function, *shapes = CASES[name]
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    assert_equal_to_torch(lambda *x: function(tinygrad_attn, *x), lambda *x: function(torch, *x), arrays)


CUTS = {
    "split": lambda x: x.split(2, 1),
    "split sizes": lambda x: x.split([3, 2], 1),
    "chunk": lambda x: x.chunk(2, -1),
    "chunk into more": lambda x: x.chunk(4, 1),
    "unbind": lambda x: x.unbind(),
}


@pytest.mark.parametrize("name", CUTS)
def test_cuts_have_as_many_parts_of_the_same_shapes(name):
    x = np.arange(10.0).reshape(2, 5)
    found, expected = CUTS[name](Tensor(x)), CUTS[name](torch.tensor(x))
    assert isinstance(found, tuple)
    assert [part.shape for part in found] == [tuple(part.shape) for part in expected]
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part.array, other.numpy())


REFUSED = {
    "reshape": lambda p, x: x.reshape(4),
    "view": lambda p, x: x.transpose(0, 1).view(6),
    "permute": lambda p, x: x.permute(0),
    "expand": lambda p, x: x.expand(-1, 2, 3),
    "expand to fewer axes": lambda p, x: x.expand(3),
    "cat": lambda p, x: p.cat([x, x[0]]),
    "stack": lambda p, x: p.stack([x, x[:1]]),
    "split": lambda p, x: x.split([1, 1], 1),
    "unbind": lambda p, x: x[0, 0].unbind(),
    "narrow": lambda p, x: x.narrow(1, 2, 2),
    "repeat": lambda p, x: x.repeat(2),
    "roll": lambda p, x: x.roll((1, 2), 0),
    "tril": lambda p, x: x[0].tril(),
    "diagonal": lambda p, x: x.diagonal(0, 1, -1),
    "flatten": lambda p, x: x.flatten(1, 0),
    "pad": lambda p, x: p.nn.functional.pad(x, (-2, -2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse(name):
    x = np.zeros((2, 3))
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        REFUSED[name](torch, torch.tensor(x))
    with pytest.raises((RuntimeError, IndexError, ValueError), match=r"^\w+: "):
        REFUSED[name](tinygrad_attn, Tensor(x))
