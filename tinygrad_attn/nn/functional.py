"""Functions under the names of ``torch.nn.functional``: those declared with ``@public("F")``."""

import tinygrad_attn.ops  # noqa: F401  its functions are declared there
from tinygrad_attn.public import NAMESPACES

NAMESPACES["F"].connect(globals().__setitem__)
