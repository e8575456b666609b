"""The attention models: data, training, decoding, evaluation, microscope and command line.

Built on ``tinygrad_attn``, which does not import this package. It is installed as ``tinygrad_attn_models``, because a
package named ``models`` would hide a user's own. In a checkout Python finds this folder as ``models`` too; that name is
an alias of ``tinygrad_attn_models``, so that no class exists twice.

::

    model = load("runs/dates-bahdanau")
    model.translate(["22 November 2026"])
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trained import TrainedModel

__all__ = ["__version__", "load"]

if __name__ == "models":
    _spec = importlib.util.spec_from_file_location(
        "tinygrad_attn_models", __file__, submodule_search_locations=__path__
    )
    assert _spec is not None and _spec.loader is not None
    sys.modules["models"] = sys.modules["tinygrad_attn_models"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["models"])


def load(directory: str | os.PathLike[str]) -> TrainedModel:
    """The best model of a run folder, ready to translate: see `tinygrad_attn_models.trained.TrainedModel`.

    ``load("demo:dates-bahdanau")`` is one that ships with the package.

    Raises:
        RunError: no such folder, or a checkpoint that is missing or damaged.
        CommandError: no such demo.
    """
    from .trained import TrainedModel

    return TrainedModel.load(directory)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # imported at the first use, so that --help stays fast
        from .version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
