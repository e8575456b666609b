"""The form of an experiment: a claim, what is measured, and what one expects of the numbers if the claim holds.

An experiment compares `cases` (models, settings), each with some seeds. ``measure`` gives the numbers of one case and
seed, a *trial*; tables, figures and verdicts are made from them, the same way for every experiment::

    @dataclass(frozen=True)
    class Sizes:
        steps: int = 600

    def measure(trial: Trial[Sizes]) -> Measured:
        return {"loss": ..., "gradient": {1: 0.5, 2: 0.25}}

    EXPERIMENT = Experiment(
        claim=Words("...", "..."), cases={"rnn": Words("RNN", "RNN")}, measure=measure,
        quantities={"loss": Number(...), "gradient": Curve(...)},
        expected=[Expect(Words("...", "..."), lambda seed: seed["rnn"]["loss"], below=0.1)],
        full=Sizes(), quick=Sizes(steps=20), ...
    )
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = [
    "Curve", "Expect", "Experiment", "Measured", "Number", "OfSeed", "Trial", "Words", "at_last",
    "find_experiments", "load_experiment",
]  # fmt: skip

S = TypeVar("S")

Measured = Mapping[str, Any]
"""The numbers of a trial by quantity: a float, or of a `Curve` a dict from x to y."""

OfSeed = Mapping[str, Measured]
"""What was measured with one seed, by case."""


def at_last(curve: Mapping[Any, float]) -> float:
    """What a curve has at its largest x."""
    return float(curve[max(curve)])


class Words(NamedTuple):
    """A text in two languages."""

    en: str
    ko: str


@dataclass(frozen=True)
class Trial(Generic[S]):
    """One case with one seed. The package's generator has been seeded."""

    case: str
    seed: int
    sizes: S
    folder: Path
    """For files that a trial may keep, to go on after Ctrl-C."""


@dataclass(frozen=True)
class Number:
    """A quantity that is one number in each trial."""

    words: Words
    format: str = ".3g"
    log: bool = False
    """Whether the figure's scale is logarithmic."""
    drawn: bool = True


@dataclass(frozen=True)
class Curve:
    """A quantity that depends on another, such as a gradient on the distance."""

    words: Words
    over: Words
    """What it depends on."""
    format: str = ".3g"
    log: bool = False
    log_over: bool = False
    shown: int = 4
    """How many points the table has, evenly among all."""


@dataclass(frozen=True)
class Expect:
    """What should come out: a number of each seed that is above or below a bound."""

    words: Words
    """What the number is, and of what case."""
    value: Callable[[OfSeed], float]
    above: float | None = None
    below: float | None = None
    format: str = ".3g"

    def holds(self, value: float) -> bool:
        """Whether the number is within the bounds; nan never is."""
        return (self.above is None or value > self.above) and (self.below is None or value < self.below)

    def bounds(self) -> str:
        """The bounds in signs, as in "> 0.1"."""
        signs = {">": self.above, "<": self.below}
        return ", ".join(f"{sign} {bound:{self.format}}" for sign, bound in signs.items() if bound is not None)


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """One claim, and how it is put to the test.

    Attributes:
        claim: what the notes, or common opinion, say.
        method: what is done here.
        cases: what is compared, by name.
        quantities: what is measured.
        expected: what should come out if the claim holds.
        measure: the numbers of a trial.
        full, quick: the sizes of ``lab NAME`` and of ``lab NAME --quick``; a frozen dataclass.
        minutes: about how long the full size takes with all seeds, on one quiet core.
        remark: what one can learn where it came out otherwise.
    """

    claim: Words
    method: Words
    cases: Mapping[str, Words]
    quantities: Mapping[str, Number | Curve]
    expected: Sequence[Expect]
    measure: Callable[[Trial[S]], Measured]
    full: S
    quick: S
    minutes: float
    remark: Words | None = None


_FOLDER = Path(__file__).parents[1]


def find_experiments() -> dict[str, str]:
    """The experiments by name, with the first line of each file, which is not imported: that takes a second."""
    files = sorted(path for path in _FOLDER.glob("*.py") if path.stem != "__init__")
    docstrings = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in files}
    return {name: docstring.partition("\n")[0] for name, docstring in docstrings.items()}


def load_experiment(name: str) -> Experiment[Any]:
    """The experiment of a file of the folder."""
    found: Experiment[Any] = importlib.import_module(f"...{name}", __name__).EXPERIMENT
    return found
