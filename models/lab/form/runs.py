"""The runs of experiments: trained once, continued if stopped, then loaded from their folders."""

from __future__ import annotations

import json
from pathlib import Path

from ...console.progress import Progress
from ...data import train_tokenizers
from ...interface import Translator
from ...runs.clock import CLOCK
from ...runs.config import Config
from ...runs.continued import refuse_edited
from ...runs.folder import LAST, Run, RunError
from ...training.trainer import Trainer

__all__ = ["trained"]


def trained(config: Config, folder: Path, progress: Progress) -> tuple[Run, Translator, float]:
    """The run of a config in a folder, its best model, and the seconds that training took.

    The run is trained if it is not trained yet. After Ctrl-C a later call continues from there.

    Raises:
        RunError: the folder holds something else, such as a run with other settings.
        KeyboardInterrupt: training was stopped.
    """
    text = config.data.load()
    if (folder / LAST).exists():
        run, arrays, position = Run.open(folder, LAST)
        refuse_edited(run)
        if run.config != config:
            raise RunError(f"{folder} holds a run with other settings; remove it, or name another folder with --out")
        trainer = Trainer(run, text, progress)
        trainer.resume(arrays, position)
    else:
        run = Run(folder, config, *train_tokenizers(text, config.data))
        trainer = Trainer(run, text, progress)
        run.create()
    if not trainer.finished:
        progress.print(f"{folder.name}: {trainer.summary()}")
        if not trainer.train():
            progress.print(trainer.stopped_message())
            raise KeyboardInterrupt
    seconds = json.loads((folder / CLOCK).read_text(encoding="utf-8"))["total"]
    run, model = Run.load(folder)
    assert isinstance(model, Translator)
    return run, model, seconds
