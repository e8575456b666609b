"""Results: what an experiment has measured, with its seeds, sizes and versions, kept as JSON and used again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from tinygrad_attn.atomic import atomic_path

from ...console.errors import UserError
from ...runs.jsons import checked_json, read_json
from ...runs.versions import versions
from .experiment import Curve, Experiment, Measured, OfSeed

__all__ = ["FILE", "Results", "Spread", "describe_mixed"]

FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class Spread:
    """The numbers of some seeds: their mean, the least and the largest."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean; nan if there are none."""
        return fmean(self.values) if self.values else math.nan

    @property
    def least(self) -> float:
        return min(self.values, default=math.nan)

    @property
    def most(self) -> float:
        return max(self.values, default=math.nan)

    def text(self, format: str) -> str:
        """The mean, and what the seeds range over, as in "0.5 (0.4–0.6)"."""
        if not self.values:
            return "–"
        mean, least, most = (f"{value:{format}}" for value in (self.mean, self.least, self.most))
        return mean if least == most else f"{mean} ({least}–{most})"


class Results:
    """What has been measured of an experiment, in a folder.

    Attributes:
        measured: by seed, then by case.
        quick: whether these are the quick sizes.
        seconds: how long each trial took, in the same way.
        made_with: the versions that each trial was measured with, in the same way.

    Args:
        name: of the experiment.
        experiment: itself.
        folder: of ``results.json``; what it holds is used again.
        sizes: with which the experiment is carried out.

    Raises:
        UserError: the file holds another experiment or other sizes, or is damaged.
    """

    def __init__(self, name: str, experiment: Experiment[Any], folder: Path, sizes: Any) -> None:
        self.name, self.experiment, self.folder, self.sizes = name, experiment, folder, sizes
        self.quick = sizes == experiment.quick
        self.measured: dict[int, dict[str, Measured]] = {}
        self.seconds: dict[int, dict[str, float]] = {}
        self.made_with: dict[int, dict[str, dict[str, str]]] = {}
        self._versions = versions()
        if (folder / FILE).exists():
            self._read(folder / FILE)

    @classmethod
    def kept(cls, name: str, experiment: Experiment[Any], folder: Path) -> Self:
        """The results of a folder, of whatever sizes.

        Raises:
            UserError: as for the class.
        """
        path = folder / FILE
        try:
            stored = read_json(path)["sizes"]
            sizes = type(experiment.full)(
                **{name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it to measure anew") from error
        return cls(name, experiment, folder, sizes)

    def _read(self, path: Path) -> None:
        try:
            values = read_json(path)
            same = values["experiment"] == self.name and values["sizes"] == _plain(self.sizes)
            if same:
                self.measured = {
                    int(seed): {case: self._restored(cases[case]) for case in self.experiment.cases if case in cases}
                    for seed, cases in values["measured"].items()
                }
                self.seconds = {int(seed): dict(cases) for seed, cases in values["seconds"].items()}
                self.made_with = _made_with(values)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it to measure anew") from error
        if not same:
            raise UserError(
                f"{path} holds results of other sizes or of another experiment; remove it to measure anew, or name "
                "another folder with --out"
            )

    def _restored(self, trial: Mapping[str, Any]) -> Measured:
        """A trial as `models.lab.form.experiment.Measured`, without quantities that are no more."""
        return {
            key: {x: _float(y) for x, y in trial[key]} if isinstance(quantity, Curve) else _float(trial[key])
            for key, quantity in self.experiment.quantities.items()
        }

    def add(self, seed: int, case: str, trial: Measured, seconds: float) -> None:
        """Keep the numbers of a trial, on disk too."""
        self.measured.setdefault(seed, {})[case] = self._restored(_stored(trial))  # as who reads the file finds it
        self.seconds.setdefault(seed, {})[case] = seconds
        self.made_with.setdefault(seed, {})[case] = self._versions
        self.save()

    def save(self) -> None:
        """Write ``results.json``."""
        known = self.versions()
        values = {
            "experiment": self.name,
            "sizes": _plain(self.sizes),
            "versions": known,
            "made_with": {
                str(seed): {case: known.index(each) for case, each in cases.items()}
                for seed, cases in self.made_with.items()
            },
            "measured": {
                str(seed): {case: _stored(trial) for case, trial in cases.items()}
                for seed, cases in self.measured.items()
            },
            "seconds": {str(seed): cases for seed, cases in self.seconds.items()},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / FILE) as path:
            path.write_text(checked_json(values), encoding="utf-8")

    def versions(self) -> list[dict[str, str]]:
        """The different versions that trials were measured with."""
        every = [each for cases in self.made_with.values() for each in cases.values()]
        return [each for number, each in enumerate(every) if each not in every[:number]]

    def mixed(self) -> dict[str, list[str]]:
        """Where versions differ between trials, whose numbers are put together nevertheless: by name, all of them."""
        known = self.versions()
        names = dict.fromkeys(name for each in known for name in each)
        values = {name: list(dict.fromkeys(each.get(name, "") or "unknown" for each in known)) for name in names}
        return {name: found for name, found in values.items() if len(found) > 1}

    def missing(self, seeds: Sequence[int]) -> list[tuple[int, str]]:
        """The trials that are still to be made: all cases of one seed after the other."""
        return [
            (seed, case) for seed in seeds for case in self.experiment.cases if case not in self.measured.get(seed, {})
        ]

    def complete(self) -> dict[int, OfSeed]:
        """The seeds with which all cases have been measured."""
        cases = self.experiment.cases
        return {seed: found for seed, found in sorted(self.measured.items()) if all(case in found for case in cases)}

    def number(self, case: str, key: str) -> Spread:
        """A number of one case, over the seeds."""
        return Spread(tuple(found[case][key] for _, found in sorted(self.measured.items()) if case in found))

    def curve(self, case: str, key: str) -> dict[float, Spread]:
        """A curve of one case, over the seeds."""
        curves = [found[case][key] for _, found in sorted(self.measured.items()) if case in found]
        positions = sorted({x for curve in curves for x in curve})
        return {x: Spread(tuple(curve[x] for curve in curves if x in curve)) for x in positions}


def describe_mixed(mixed: Mapping[str, Sequence[str]]) -> str:
    """What `Results.mixed` has found, as in "numpy 2.3 and 2.4"."""
    return "; ".join(f"{name} {' and '.join(values)}" for name, values in mixed.items())


def _made_with(values: Mapping[str, Any]) -> dict[int, dict[str, dict[str, str]]]:
    """The versions of each trial in a file; older files have those of the first for all."""
    known = values["versions"]
    numbers = values.get("made_with") or {seed: dict.fromkeys(cases, 0) for seed, cases in values["measured"].items()}
    known = [known] if isinstance(known, dict) else known
    return {int(seed): {case: dict(known[number]) for case, number in cases.items()} for seed, cases in numbers.items()}


def _plain(sizes: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back."""
    return {
        name: list(value) if isinstance(value, (tuple, range)) else value
        for name, value in dataclasses.asdict(sizes).items()
    }


def _stored(trial: Measured) -> dict[str, Any]:
    """Curves as pairs, since JSON's names are strings; null where there is no finite number."""
    return {
        key: [[x, _finite(y)] for x, y in value.items()] if isinstance(value, Mapping) else _finite(value)
        for key, value in trial.items()
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
