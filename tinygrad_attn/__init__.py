"""tinygrad_attn: an autograd engine on NumPy and numba, for studying how gradients flow through attention."""

from tinygrad_attn.ops import methods as _methods  # attaches the operators  # noqa: F401
