"""Records of every step in ``steps.csv``: loss, learning rate and the gradient's norm, as data."""

from __future__ import annotations

import errno
from pathlib import Path

from ..runs.folder import STEPS, Run

__all__ = ["StepRecords"]

_COLUMNS = "step,epoch,loss,learning_rate,gradient_norm,tokens\n"


class StepRecords:
    """The lines of ``steps.csv``, written before each checkpoint; a continuation drops those that come after it.

    Args:
        run: whose folder has the file.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._lines: list[str] = []

    def add(self, step: int, epoch: int, loss: float, rate: float, norm: float, tokens: int) -> None:
        """Note a step, counted from 1 as its epoch is; ``norm`` is that of the gradient before clipping."""
        self._lines.append(f"{step},{epoch},{loss!r},{rate!r},{norm!r},{tokens}\n")

    def write(self) -> None:
        """Append the steps noted since the last call.

        Raises:
            RunError: the run folder was renamed or removed.
            OSError: the file cannot be written.
        """
        if not self.run.writes:
            self._lines.clear()
            return
        path = self.run.to_write(STEPS)
        try:
            new = not path.exists()
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write((_COLUMNS if new else "") + "".join(self._lines))
        except OSError as error:
            reason = "disk full" if error.errno == errno.ENOSPC else error.strerror
            raise OSError(error.errno, reason, str(path)) from error
        self._lines.clear()

    def resume(self, steps: int) -> None:
        """Drop the lines after the first ``steps`` steps, and one that a kill has cut off."""
        path: Path = self.run.directory / STEPS
        if not (self.run.writes and path.exists()):
            return
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        whole = {_step(line): line for line in lines[1:] if line.endswith("\n")}  # a process that died may repeat some
        kept = [line for step, line in whole.items() if step <= steps]
        content = _COLUMNS + "".join(kept)
        if content != "".join(lines):
            self.run.write_text(STEPS, content)


def _step(line: str) -> float:
    number = line.partition(",")[0]
    return int(number) if number.isdecimal() else float("inf")
