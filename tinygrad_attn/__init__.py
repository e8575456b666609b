"""tinygrad_attn: an autograd engine on NumPy and numba, for studying how gradients flow through attention.

Names, arguments and results are PyTorch's; where something differs, the README's table of exceptions says so. dtypes
are NumPy's: ``tinygrad_attn.float32`` is ``numpy.float32``. A decorator at a function's definition offers it here (see
`tinygrad_attn.public`).
"""

from numpy import bool_, float32, float64, int32, int64

from tinygrad_attn import anomaly, autograd, check, creation, linalg, nn, ops, optim
from tinygrad_attn import capture as _capture
from tinygrad_attn import copying as _copying
from tinygrad_attn import display as _display
from tinygrad_attn.kernels.runtime.allocator import keep_freed_memory as _keep_freed_memory
from tinygrad_attn.kernels.runtime.threads import get_num_threads, set_num_threads
from tinygrad_attn.public import NAMESPACES as _NAMESPACES
from tinygrad_attn.tensor import Tensor
from tinygrad_attn.version import __version__

_NAMESPACES["ta"].connect(globals().__setitem__)
_keep_freed_memory()
