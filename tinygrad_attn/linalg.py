"""Linear algebra under the names of ``torch.linalg``: the functions declared with ``@public("linalg")``."""

import tinygrad_attn.ops  # noqa: F401  its functions are declared there
from tinygrad_attn.public import NAMESPACES

NAMESPACES["linalg"].connect(globals().__setitem__)
