"""Differential operators under the names of ``torch.func``: the functions declared with ``@public("func")``."""

import tinygrad_attn.differential
import tinygrad_attn.nn.functional_call
import tinygrad_attn.vmap  # noqa: F401  their functions are declared there
from tinygrad_attn.public import NAMESPACES

NAMESPACES["func"].connect(globals().__setitem__)
