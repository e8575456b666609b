"""The primitive ops, one family a file, under PyTorch's names, each with its derivative.

All files of this folder are imported; their functions declare their public names themselves (see
`tinygrad_attn.public`).
"""

from importlib import import_module
from pkgutil import walk_packages

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
