"""What `Tensor` gets from the floors above it, by name: operators and methods from the ops, ``backward()`` from
autograd.

An import points down, so a tensor knows no ops; `tinygrad_attn.ops.methods` and `tinygrad_attn.autograd` attach them.
The names stand here for type checkers and readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["Attached"]

Method = Callable[..., Any]


class Attached:
    """Base of `Tensor`: the declarations of everything that is attached to it."""

    __slots__ = ()

    abs: Method
    add: Method
    add_: Method
    all: Method
    amax: Method
    amin: Method
    any: Method
    argmax: Method
    argmin: Method
    argsort: Method
    atan: Method
    backward: Method
    bmm: Method
    bool: Method
    broadcast_to: Method
    chunk: Method
    clamp: Method
    clamp_: Method
    clone: Method
    contiguous: Method
    copy_: Method
    cos: Method
    cumsum: Method
    diagonal: Method
    div: Method
    div_: Method
    dot: Method
    double: Method
    eq: Method
    erf: Method
    exp: Method
    exp2: Method
    expand: Method
    expm1: Method
    fill_: Method
    flatten: Method
    flip: Method
    float: Method
    gather: Method
    ge: Method
    gt: Method
    index_add: Method
    index_add_: Method
    index_put: Method
    index_select: Method
    isfinite: Method
    isinf: Method
    isnan: Method
    le: Method
    log: Method
    log1p: Method
    log2: Method
    log_softmax: Method
    logical_and: Method
    logical_not: Method
    logical_or: Method
    logical_xor: Method
    logsumexp: Method
    long: Method
    lt: Method
    masked_fill: Method
    masked_fill_: Method
    matmul: Method
    max: Method
    maximum: Method
    mean: Method
    min: Method
    minimum: Method
    mm: Method
    movedim: Method
    mul: Method
    mul_: Method
    mv: Method
    narrow: Method
    ne: Method
    neg: Method
    outer: Method
    permute: Method
    pow: Method
    pow_: Method
    prod: Method
    reciprocal: Method
    relu: Method
    repeat: Method
    reshape: Method
    roll: Method
    rsqrt: Method
    scatter: Method
    scatter_add: Method
    scatter_add_: Method
    select: Method
    sigmoid: Method
    sign: Method
    sin: Method
    softmax: Method
    sort: Method
    split: Method
    sqrt: Method
    square: Method
    squeeze: Method
    std: Method
    sub: Method
    sub_: Method
    sum: Method
    swapaxes: Method
    take_along_dim: Method
    tan: Method
    tanh: Method
    to: Method
    topk: Method
    transpose: Method
    tril: Method
    triu: Method
    true_divide: Method
    unbind: Method
    unsqueeze: Method
    var: Method
    view: Method
    view_as: Method
    where: Method
    zero_: Method
    __add__: Method
    __radd__: Method
    __iadd__: Method
    __sub__: Method
    __rsub__: Method
    __isub__: Method
    __mul__: Method
    __rmul__: Method
    __imul__: Method
    __truediv__: Method
    __rtruediv__: Method
    __itruediv__: Method
    __pow__: Method
    __rpow__: Method
    __ipow__: Method
    __matmul__: Method
    __rmatmul__: Method
    __and__: Method
    __rand__: Method
    __or__: Method
    __ror__: Method
    __xor__: Method
    __rxor__: Method
    __lt__: Method
    __le__: Method
    __gt__: Method
    __ge__: Method
    __neg__: Method
    __invert__: Method
    __abs__: Method
    __getitem__: Method
    __setitem__: Method
    T: ClassVar[Any]
    mT: ClassVar[Any]
