"""What ships: each demo's settings, and the sentence that its page opens with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..console.errors import CommandError
from ..console.suggest import nearest
from ..setting import Value, short

__all__ = ["DEMOS", "PREFIX", "Demo", "find_demo", "folder_of", "is_demo"]

PREFIX = "demo:"
"""What stands before a demo's name where a run folder is expected."""


@dataclass(frozen=True)
class Demo:
    """A trained run, and a sentence that it reads wrongly, so that its gradients are large enough to read."""

    name: str
    about: str
    """What it is, in a few words."""
    settings: Mapping[str, Value]
    """Those that differ from the defaults, by ``"section.key"``."""
    source: str
    """The sentence; of a language model the text."""
    target: str | None = None
    frames: tuple[int, ...] = ()
    """The kept steps that ship with it, for the view Over training."""

    @property
    def folder(self) -> Path:
        """The run folder in the package."""
        return Path(__file__).parent / self.name


_DEMOS = [
    Demo(
        name="dates-bahdanau",
        about="a GRU with Bahdanau's attention reads dates",
        settings={"data.kind": "dates", "model.name": "bahdanau", "training.keep_checkpoints": True},
        source="이천칠십이년 시월 십구일",
        target="2072-10-19",
        frames=(0, 100, 300),
    ),
    Demo(
        name="dates-transformer",
        about="a Transformer of two layers reads the same dates",
        settings={
            "data.kind": "dates",
            "model.name": "transformer",
            "model.d_model": 64,
            "model.heads": 4,
            "model.encoder_layers": 2,
            "model.decoder_layers": 2,
            "model.d_ff": 128,
            "training.epochs": 10,
            "training.learning_rate": 0.002,
            "training.schedule": "cosine",
            "training.warmup": 200,
            "training.beta2": 0.98,
        },
        source="30th Apr 99",
        target="1999-04-30",
    ),
    Demo(
        name="stories-gpt",
        about="a GPT of two blocks goes on with stories",
        settings={
            "data.kind": "stories",
            "data.epoch_windows": 2400,
            "model.name": "gpt",
            "model.layers": 2,
            "model.heads": 4,
            "model.d_model": 96,
            "model.context": 96,
            "training.epochs": 10,
            "training.batch_size": 12,
            "training.learning_rate": 0.003,
            "training.schedule": "cosine",
            "training.warmup": 100,
            "training.beta2": 0.99,
        },
        source="Leo is taller than Mina, and Mina is taller than Tom. So Leo is taller than Tom.",
    ),
]

DEMOS = {demo.name: demo for demo in _DEMOS}
"""By name, the one that opens without a name first."""


def find_demo(name: str) -> Demo:
    """The demo of this name.

    Raises:
        CommandError: there is none; the message lists them.
    """
    if name in DEMOS:
        return DEMOS[name]
    near = nearest(name, DEMOS)
    hint = f"; did you mean {near[0]}?" if near else ""
    listed = ", ".join(f"{demo.name} ({demo.about})" for demo in DEMOS.values())
    raise CommandError(f"there is no demo {short(name)}{hint}; the demos are {listed}")


def folder_of(run: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The folder of a run, which may be given as ``demo:NAME``.

    Raises:
        CommandError: there is no such demo.
    """
    if not isinstance(run, str | os.PathLike):
        raise TypeError(f"expected the path of a run folder, got {type(run).__name__} {short(run)}")
    name = os.fspath(run)
    return find_demo(name.removeprefix(PREFIX)).folder if name.startswith(PREFIX) else run


def is_demo(folder: Path) -> bool:
    """Whether a run folder is that of a demo."""
    return any(folder.resolve() == demo.folder.resolve() for demo in DEMOS.values())
