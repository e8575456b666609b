"""The primitive ops, one family a file, under PyTorch's names, each with its derivative.

All files of this folder are imported; their functions declare their public names themselves (see
`tinygrad_attn.public`).
"""

from importlib import import_module
from pathlib import Path

_FOLDER = Path(__file__).parent

for _path in sorted(_FOLDER.rglob("*.py")):
    if _path.stem != "__init__":
        import_module(".".join((__name__, *_path.relative_to(_FOLDER).with_suffix("").parts)))
