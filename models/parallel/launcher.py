"""What the launcher, such as mpirun, tells a process about its rank, before MPI itself is there."""

from __future__ import annotations

import os
import sys
from typing import TextIO

__all__ = ["is_open_mpi", "launched_rank", "launched_size", "silence_others"]

# Open MPI; MPICH, Intel MPI and Microsoft's; MVAPICH; Slurm's srun, whichever MPI it starts.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")


def launched_size() -> int:
    """How many processes were started together; 1 without a launcher."""
    return _number(_SIZES, 1)


def launched_rank() -> int:
    """Which of them this is."""
    return _number(_RANKS, 0)


def is_open_mpi() -> bool:
    """Whether the launcher is Open MPI's.

    When a process has died it asks the others to end, some time before it ends them; other launchers end all at once.
    And it does not tell the first process that standard input has ended.
    """
    return _SIZES[0] in os.environ


def silence_others() -> TextIO:
    """Let rank 0 alone print; the stream for errors, as it was."""
    errors = sys.stderr
    if launched_rank():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, open to the end
    return errors


def _number(names: tuple[str, ...], default: int) -> int:
    given = next(filter(None, map(os.environ.get, names)), "")
    return int(given) if given.isdecimal() else default
