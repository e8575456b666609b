"""The public names: each function says at its definition where it is found, and everything else is made from that."""

import subprocess
import sys

import numpy as np
import pytest
import stubs

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F
from tinygrad_attn.op import op
from tinygrad_attn.public import NAMESPACES, public

OWN_OP = '''
import numpy as np
import tinygrad_attn as ta
from tinygrad_attn.public import public
from tinygrad_attn.samples import floats

@public("ta", "F", "Tensor", "Tensor.__lshift__")
@ta.op(r"z = x^3", samples=floats())
def cube(x, power=3.0):
    """The cube."""
    return np.power(x, power)

cube.vjp("x", r"3\\,\\bar z \\odot x^2", lambda g, x: g * (3.0 * x * x), kernel=True)

x = ta.tensor([2.0], requires_grad=True)
for y in (ta.cube(x), ta.nn.functional.cube(x), x.cube()):
    assert y.item() == 8.0 and ta.grad(y, x)[0].item() == 12.0
assert x.cube.__doc__ == "The cube." and (x << 2.0).item() == 4.0
ta.check_op(cube)
'''


def test_an_op_in_a_file_of_ones_own_is_a_method_at_once(tmp_path):
    (tmp_path / "mine.py").write_text(OWN_OP, encoding="utf-8")
    subprocess.run([sys.executable, str(tmp_path / "mine.py")], check=True, timeout=300)


@pytest.fixture
def names():
    """The public names as they are, put back afterwards."""
    before = {namespace: dict(found) for namespace, found in NAMESPACES.items()}
    yield
    for namespace, found in NAMESPACES.items():
        for name in [name for name in found if name not in before[namespace]]:
            del found._found[name]
            owner = {"ta": ta, "F": F, "linalg": ta.linalg, "Tensor": ta.Tensor}[namespace]
            delattr(owner, name)


def test_a_name_that_is_taken(names):
    def exp(x):
        return x

    with pytest.raises(
        ValueError, match=r"the method of Tensor 'exp' is already defined in tinygrad_attn.ops.pointwise"
    ):
        public("Tensor")(exp)
    with pytest.raises(ValueError, match=r"'shape' cannot be the name of a method of Tensor: it has one already"):
        public("Tensor.shape")(exp)
    with pytest.raises(ValueError, match=r"'Tensors.exp' is in no namespace; there are ta, F, func, linalg, Tensor"):
        public("Tensors.exp")(exp)
    assert ta.tensor([0.0]).exp().item() == 1.0 and ta.Tensor.shape.fget is not None


def test_operators_in_both_orders_and_properties(names):
    @public("Tensor.__rshift__", "Tensor.__rrshift__")
    @op(r"z = \lfloor x / y \rfloor")
    def floor_divide_for_this_test(x, y):
        return np.floor_divide(x, y)

    public("Tensor.first")(property(lambda x: x[0]))
    x = ta.tensor([2.0, 4.0])
    assert (x >> 2).tolist() == [1.0, 2.0] and (9.0 >> x).tolist() == [4.0, 2.0] and x.first.item() == 2.0


def test_a_method_is_the_function_of_its_name():
    x = ta.tensor([[1.0, 4.0], [9.0, 16.0]])
    assert x.sqrt().tolist() == ta.sqrt(x).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert x.swapaxes(0, 1).tolist() == x.mT.tolist() == x.T.tolist() == ta.swapaxes(x, 0, 1).tolist()
    assert x.sqrt.__name__ == "sqrt" and x.sqrt.__doc__ == ta.sqrt.__doc__


def test_what_the_package_offers_is_what_is_declared():
    for namespace, owner in {"ta": ta, "F": F, "linalg": ta.linalg}.items():
        assert all(getattr(owner, name) is function for name, function in NAMESPACES[namespace].items())
    assert all(hasattr(ta.Tensor, name) for name in NAMESPACES["Tensor"])


def test_the_stubs_are_as_they_would_be_written():
    for path, content in stubs.stubs().items():
        assert path.read_text(encoding="utf-8") == content, f"{path.name}: run python tests/helpers/stubs.py"
