"""The checkpoints that a run keeps for the microscope's view "Over training": the weights of a few of its steps.

They are those of step 0, before training, of 1, 3, 10, 30, 100, … and of the last one. A model changes most at its
start, so the steps are spread by factors; and they do not depend on how many there will be, so that runs of different
lengths have the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..interface import LanguageModel
from .folder import Run, RunError

__all__ = ["at_step", "file_of", "is_kept", "kept_steps", "read_kept", "steps_to_keep"]

Arrays = dict[str, np.ndarray[Any, Any]]

_FILE = re.compile(r"step-(0|[1-9][0-9]*)\.safetensors")


def is_kept(step: int) -> bool:
    """Whether the weights after this many steps are kept wherever training ends."""
    return step == 0 or str(step).rstrip("0") in ("1", "3")


def steps_to_keep(last: int) -> list[int]:
    """The steps whose weights are kept by training that ends with the step ``last``."""
    spread = (factor * 10**power for power in range(len(str(last))) for factor in (1, 3))
    return sorted({0, *(step for step in spread if step < last), last})


def file_of(step: int) -> str:
    """The name of the file of a step's weights."""
    return f"step-{step}.safetensors"


def kept_steps(directory: Path) -> list[int]:
    """The steps whose weights are in a run folder, the first first."""
    if not directory.is_dir():
        return []
    found = (_FILE.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in found if match)


def at_step(run: Run, step: int) -> LanguageModel:
    """The model of a run with the weights of a kept step, ready for use.

    Raises:
        RunError: the run has not kept that step, or its file is damaged.
    """
    steps = kept_steps(run.directory)
    if step not in steps:
        kept = f"it has {', '.join(map(str, steps))}" if steps else "training.keep_checkpoints keeps some"
        raise RunError(f"{run.directory} has not kept the weights of step {step}; {kept}")
    model = run.build()
    run.restore(model, Run.open(run.directory, file_of(step))[1])
    return model.eval()


def read_kept(run: Run) -> Iterator[tuple[int, Arrays | RunError]]:
    """Each kept step with its weights, or with what is wrong with its file."""
    for step in kept_steps(run.directory):
        try:
            yield step, Run.open(run.directory, file_of(step))[1]
        except RunError as error:
            yield step, error
