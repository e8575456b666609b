"""tinygrad_attn: an autograd engine on NumPy and numba, for studying how gradients flow through attention.

Names, arguments and results are PyTorch's; where something differs, the README's table of exceptions says so. dtypes
are NumPy's: ``tinygrad_attn.float32`` is ``numpy.float32``.
"""

from numpy import bool_, float32, float64, int32, int64

from tinygrad_attn import linalg, nn, optim
from tinygrad_attn.anomaly import detect_anomaly
from tinygrad_attn.autograd import backward, grad
from tinygrad_attn.check import CheckError, OpReport, check_op, gradcheck, gradgradcheck
from tinygrad_attn.creation import (
    arange,
    empty,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    zeros,
    zeros_like,
)
from tinygrad_attn.kernels.runtime.allocator import keep_freed_memory as _keep_freed_memory
from tinygrad_attn.kernels.runtime.jit import get_num_threads, set_num_threads
from tinygrad_attn.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled, unfused
from tinygrad_attn.op import op, registered_ops
from tinygrad_attn.ops.activation import relu
from tinygrad_attn.ops.comparison import (
    eq,
    ge,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
)
from tinygrad_attn.ops.cumulative import cumsum, prod
from tinygrad_attn.ops.einsum import einsum
from tinygrad_attn.ops.fused.softmax import log_softmax, softmax
from tinygrad_attn.ops.indexing import (
    gather,
    index_add,
    index_select,
    masked_fill,
    scatter,
    scatter_add,
    take_along_dim,
)
from tinygrad_attn.ops.joining import cat, chunk, narrow, select, split, stack, unbind
from tinygrad_attn.ops.matmul import bmm, dot, matmul, mm, mv, outer
from tinygrad_attn.ops.methods import FUNCTIONS as _METHODS
from tinygrad_attn.ops.pointwise import (
    abs,
    add,
    atan,
    clamp,
    cos,
    erf,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    reciprocal,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    sub,
    tan,
    tanh,
    true_divide,
    where,
)
from tinygrad_attn.ops.rearrangement import diagonal, repeat, roll, tril, triu
from tinygrad_attn.ops.reduction import all, amax, amin, any, logsumexp, mean, sum
from tinygrad_attn.ops.shape import (
    broadcast_to,
    clone,
    expand,
    flatten,
    flip,
    movedim,
    permute,
    reshape,
    squeeze,
    swapaxes,
    transpose,
    unsqueeze,
)
from tinygrad_attn.ops.sorting import argmax, argmin, argsort, max, min, sort, topk
from tinygrad_attn.ops.subscript import index_put
from tinygrad_attn.ops.variance import std, var, var_mean
from tinygrad_attn.random import manual_seed
from tinygrad_attn.tensor import Tensor, tensor
from tinygrad_attn.version import __version__

_keep_freed_memory()
