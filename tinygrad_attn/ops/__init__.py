"""The primitives, one family a file, named in PyTorch's words: forward and derivative side by side.

A file of this folder is found by standing here; what its functions are called elsewhere they say themselves
(see `tinygrad_attn.public`).
"""

from importlib import import_module
from pkgutil import walk_packages

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)
