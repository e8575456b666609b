"""Functions of neural networks, under the names of ``torch.nn.functional``: what ``@public("F")`` declares."""

import tinygrad_attn.ops  # noqa: F401  its functions are declared there
from tinygrad_attn.public import NAMESPACES

NAMESPACES["F"].tell(globals().__setitem__)
