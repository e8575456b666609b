"""Operators and methods of `Tensor`: every function that PyTorch also offers as a method, attached here.

An import points down, so the tensor knows no ops; they come to it from above. `Tensor` declares their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_attn.op import cast
from tinygrad_attn.ops import activation, inplace, matmul, shape, subscript
from tinygrad_attn.ops import comparison as compare
from tinygrad_attn.ops import cumulative as accumulate
from tinygrad_attn.ops import indexing as index
from tinygrad_attn.ops import joining as parts
from tinygrad_attn.ops import pointwise as elementwise
from tinygrad_attn.ops import rearrangement as arrange
from tinygrad_attn.ops import reduction as reduce
from tinygrad_attn.ops import sorting as sort
from tinygrad_attn.ops import variance as spread
from tinygrad_attn.ops.fused import softmax
from tinygrad_attn.tensor import Tensor

__all__ = ["FUNCTIONS", "bind_operators"]

# Functions whose first argument is the tensor, by the names they have as methods.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module, names in {
        elementwise: "abs add atan clamp cos erf exp exp2 expm1 log log1p log2 maximum minimum mul neg pow reciprocal "
        "rsqrt sigmoid sign sin sqrt square sub tan tanh true_divide",
        activation: "relu",
        compare: "eq ge gt isfinite isinf isnan le logical_and logical_not logical_or logical_xor lt ne",
        reduce: "all amax amin any logsumexp mean sum",
        accumulate: "cumsum prod",
        spread: "std var",
        sort: "argmax argmin argsort max min sort topk",
        shape: "broadcast_to clone contiguous expand flatten flip movedim permute reshape squeeze swapaxes transpose "
        "unsqueeze view view_as",
        parts: "chunk narrow select split unbind",
        arrange: "diagonal repeat roll tril triu",
        index: "gather index_add index_select masked_fill scatter scatter_add take_along_dim",
        subscript: "index_put",
        matmul: "bmm dot matmul mm mv outer",
        softmax: "log_softmax softmax",
        inplace: "add_ clamp_ copy_ div_ fill_ index_add_ masked_fill_ mul_ pow_ scatter_add_ sub_ zero_",
    }.items()
    for name in names.split()
}


def _binary(name: str, function: Callable[..., Any], reflected: bool = True) -> None:
    """Make ``function`` an operator, in both orders."""
    # An op's bound __call__ spares each use of the operator a look-up.
    call = getattr(function, "__call__", function)  # noqa: B004

    def operator(self: Tensor, other: Any) -> Any:
        return call(self, other)

    def equality(self: Tensor, other: Any) -> Any:
        # Nothing and text are never equal to a tensor; Python then compares by identity.
        return NotImplemented if other is None or isinstance(other, str) else call(self, other)

    def reflected_operator(self: Tensor, other: Any) -> Any:
        return call(other, self)

    setattr(Tensor, f"__{name}__", equality if name in ("eq", "ne") else operator)
    if reflected:
        setattr(Tensor, f"__r{name}__", reflected_operator)


def bind_operators() -> None:
    """Make the operators of `Tensor`. Who replaces ``Op.__call__`` calls this again, for they hold it."""
    for name, function in _OPERATORS.items():
        _binary(name, function)
    for name, function in _ONE_WAY_OPERATORS.items():
        _binary(name, function, reflected=False)


def _method(name: str, function: Callable[..., Any]) -> None:
    def method(self: Tensor, *arguments: Any, **options: Any) -> Any:
        return function(self, *arguments, **options)

    method.__name__, method.__doc__ = name, function.__doc__
    setattr(Tensor, name, method)


def _to(self: Tensor, dtype: Any) -> Tensor:
    """The tensor converted to ``dtype``, itself if it has it already."""
    return self if self.dtype == np.dtype(dtype) else cast(self, dtype=np.dtype(dtype))


def _where(self: Tensor, condition: Any, other: Any) -> Tensor:
    """The tensor's elements where ``condition`` holds, else those of ``other``."""
    return elementwise.where(condition, self, other)


_METHODS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    "div": elementwise.true_divide,
    "to": _to,
    "where": _where,
    "__neg__": elementwise.neg,
    "__invert__": compare.bitwise_not,
    "__abs__": elementwise.abs,
    "__setitem__": inplace.setitem,
}
_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.true_divide,
    "pow": elementwise.pow,
    "matmul": matmul.matmul,
    "and": compare.bitwise_and,
    "or": compare.bitwise_or,
    "xor": compare.bitwise_xor,
}
_ONE_WAY_OPERATORS: dict[str, Callable[..., Any]] = {
    "eq": compare.eq,
    "ne": compare.ne,
    "lt": compare.lt,
    "le": compare.le,
    "gt": compare.gt,
    "ge": compare.ge,
    "iadd": inplace.add_,
    "isub": inplace.sub_,
    "imul": inplace.mul_,
    "itruediv": inplace.div_,
    "ipow": inplace.pow_,
    "getitem": subscript.getitem,
}
for _name, _function in _METHODS.items():
    _method(_name, _function)
for _name, _dtype in {"float": np.float32, "double": np.float64, "long": np.int64, "bool": np.bool_}.items():
    _method(_name, (lambda dtype: lambda self: _to(self, dtype))(_dtype))
bind_operators()


def _matrix_transpose(self: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return shape.transpose(self, -2, -1)


def _reversed_axes(self: Tensor) -> Tensor:
    """All axes in reverse order: the transpose of a matrix."""
    return shape.permute(self, *range(self.ndim)[::-1])


setattr(Tensor, "mT", property(_matrix_transpose))  # noqa: B010  mypy knows them as declared, not as properties
setattr(Tensor, "T", property(_reversed_axes))  # noqa: B010
