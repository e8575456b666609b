"""tinygrad_attn: an autograd engine on NumPy and numba, for studying how gradients flow through attention.

Names, arguments and results are PyTorch's; where something differs, the README's table of exceptions says so. dtypes
are NumPy's: ``tinygrad_attn.float32`` is ``numpy.float32``. A decorator at a function's definition offers it here (see
`tinygrad_attn.public`).
"""

from numpy import (
    bool_,
    e,
    finfo,
    float32,
    float64,
    iinfo,
    inf,
    int8,
    int16,
    int32,
    int64,
    nan,
    newaxis,
    pi,
    uint8,
    uint16,
    uint32,
    uint64,
)
from numpy import bool_ as bool
from numpy import float32 as float
from numpy import float64 as double
from numpy import int16 as short
from numpy import int32 as int
from numpy import int64 as long

from tinygrad_attn import anomaly, autograd, check, creation, func, linalg, nn, ops, optim, random_tensors
from tinygrad_attn import capture as _capture
from tinygrad_attn import checkpoint as _checkpoint
from tinygrad_attn import copying as _copying
from tinygrad_attn import display as _display
from tinygrad_attn.kernels.runtime.allocator import keep_freed_memory as _keep_freed_memory
from tinygrad_attn.kernels.runtime.threads import get_num_threads, set_num_threads
from tinygrad_attn.public import NAMESPACES as _NAMESPACES
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.version import __version__

_NAMESPACES["ta"].connect(globals().__setitem__)
_keep_freed_memory()
