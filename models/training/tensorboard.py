"""The figures of each epoch for TensorBoard, written by tensorboardX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..console.errors import UserError

__all__ = ["FOLDER", "require", "write_epoch"]

FOLDER = "tensorboard"
"""The folder in a run's folder, to be named with ``tensorboard --logdir``."""


def require() -> None:
    """Raise `UserError` if tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(
            'training.tensorboard needs a package that is not installed; pip install "tinygrad-attn[tensorboard]"'
        ) from error


def write_epoch(run: Path, row: Mapping[str, Any]) -> None:
    """Write a line of ``log.csv`` as scalars at its step: ``valid/loss`` for ``valid_loss``, and so on.

    Each epoch has a file of its own, so a process that is killed leaves the other epochs' whole.
    """
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(run / FOLDER), filename_suffix=f".epoch-{row['epoch']}") as writer:
        for column, value in row.items():
            part, _, figure = column.partition("_")
            name = f"{part}/{figure}" if part in ("train", "valid") else f"time/{column}"
            if column not in ("epoch", "step"):
                writer.add_scalar(name, value, row["step"])
