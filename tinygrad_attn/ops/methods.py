"""Operators and methods of `Tensor`: every function that PyTorch also offers as a method, attached here.

An import points down, so the tensor knows no ops; they come to it from above.
"""

from __future__ import annotations

from typing import Any

from tinygrad_attn.op import Op
from tinygrad_attn.ops import compare, elementwise
from tinygrad_attn.tensor import Tensor

__all__: list[str] = []


def _operator(name: str, op: Op, operator: str) -> None:
    """Make ``op`` the operator in both orders; an operand it cannot take is left to the other side."""

    call = op.__call__

    def forward(self: Tensor, other: Any) -> Any:
        return call(self, other)

    def reflected(self: Tensor, other: Any) -> Any:
        return call(other, self)

    setattr(Tensor, f"__{name}__", forward)
    setattr(Tensor, f"__r{name}__", reflected)


for _name, _op in {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.true_divide,
    "pow": elementwise.pow,
    "and": compare.logical_and,
    "or": compare.logical_or,
    "xor": compare.logical_xor,
}.items():
    _operator(_name, _op, _name)

for _name, _op in {"eq": compare.eq, "ne": compare.ne, "lt": compare.lt, "le": compare.le, "gt": compare.gt, "ge": compare.ge}.items():
    setattr(Tensor, f"__{_name}__", (lambda op: lambda self, other: op(self, other))(_op))
Tensor.__neg__ = lambda self: elementwise.neg(self)
Tensor.__invert__ = lambda self: compare.logical_not(self)
