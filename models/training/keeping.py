"""Keeping: writes the weights of a few steps of training, if ``training.keep_checkpoints`` asks for it."""

from __future__ import annotations

from ..console.counts import counted
from ..console.progress import Progress
from ..interface import LanguageModel
from ..memory import readable
from ..runs.folder import Run
from ..runs.kept import file_of, is_kept, kept_steps, steps_to_keep

__all__ = ["Keeping"]


class Keeping:
    """Keeps checkpoints of a model in its run's folder (see `models.runs.kept`).

    A file is written before the checkpoint that training continues from moves on to its step, so that a run that is
    killed at any moment has the same files in the end as one that is not.

    Args:
        run: its folder and settings.
        model: the model that is trained.
    """

    def __init__(self, run: Run, model: LanguageModel) -> None:
        self.run = run
        self.model = model
        self.wanted = run.config.training.keep_checkpoints

    def begin(self, step: int, steps: int, progress: Progress) -> None:
        """Training begins, or goes on, after ``step`` of ``steps``: drop what an interrupted process wrote beyond."""
        for beyond in kept_steps(self.run.directory):
            if beyond > step:
                self.run.remove(file_of(beyond))
        if self.wanted and step < steps:
            progress.print(self._describe(steps))
        self.after(step)

    def after(self, step: int, ended: bool = False) -> None:
        """Write the weights after this many steps, if they are to be kept; those of the last step are."""
        if self.wanted and (ended or is_kept(step)) and step not in kept_steps(self.run.directory):
            self.run.save(file_of(step), self.model.state_dict(), {"step": step})

    def _describe(self, steps: int) -> str:
        """Which steps are kept, and the room that they take."""
        kept = steps_to_keep(steps)
        size = sum(tensor.array.nbytes for tensor in self.model.state_dict().values())
        listed = ", ".join(f"{step:,}" for step in kept)
        return (
            f"keeps the weights of steps {listed} for the microscope: {counted(len(kept), 'file')} of "
            f"{readable(size)}, {readable(size * len(kept))} of disk together"
        )
