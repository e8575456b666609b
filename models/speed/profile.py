"""The time of a training step, op by op: the command ``profile``."""

from __future__ import annotations

import difflib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinygrad_attn.kernels.runtime.ahead import first_run

from ..console.errors import UserError
from ..console.progress import PlainProgress
from ..console.tables import plain_table
from ..data import train_tokenizers
from ..runs.config import CONFIGS, Config, ConfigError, find_config, load_config
from ..runs.folder import Run
from ..training.trainer import Trainer
from .bench import Step, TrainingStep
from .memory import peak_memory
from .stopwatch import BACKWARD, FORWARD, Entry, Key, Stopwatch, watched
from .workloads import WORKLOADS

__all__ = [
    "ELSE", "Profile", "ProfileError", "Row", "describe_profile", "find_config_of", "find_step", "matmul_peak",
    "profile",
]  # fmt: skip

ELSE = "Python and everything else"
WARM_UP = 2


class ProfileError(UserError):
    """No workload or config has that name, or the settings do not apply to it."""


# -- the profile -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of the table; calls and times are means over the steps."""

    name: str
    phase: str
    shapes: str
    calls: float
    ms: float
    share: float
    """The share of the step's time, from 0 to 1."""
    gflops: float | None
    """10⁹ operations of matmuls per second; None for an op without matmuls."""
    peak_share: float | None
    """That rate as a share of the machine's."""


@dataclass(frozen=True)
class Profile:
    """The profile of some training steps."""

    name: str
    steps: int
    step_ms: float
    """Milliseconds of a step (mean): the sum of all rows."""
    plain_step_ms: float
    """Milliseconds of the fastest of as many steps without the profiler."""
    peak_gflops: float
    """The machine's rate: see `matmul_peak`."""
    peak_rss_mb: float
    """The most memory that the process has held, in MiB."""
    rows: list[Row]
    """The rows, the largest share first."""


def profile(
    name: str,
    step: Callable[[], object],
    steps: int,
    *,
    by_shape: bool = False,
    report: Callable[[str], object] = lambda line: None,
) -> Profile:
    """Profile training steps.

    Args:
        name: the name of the workload or config, for the report.
        step: a function that takes one step.
        steps: how many to profile; before them come `WARM_UP` steps, and as many steps without the profiler.
        by_shape: use a separate row for each combination of operand shapes of an op.
        report: called with a line about the next phase.
    """
    report(f"{name}: {WARM_UP} steps to warm up; the first compiles the kernels that are not cached")
    first_run(step)
    for _ in range(WARM_UP - 1):
        step()
    report(f"{name}: {steps} plain steps")
    plain = min(_seconds(step) for _ in range(steps))
    report(f"{name}: {steps} profiled steps")
    watch, total = Stopwatch(by_shape), 0.0
    with watched(watch):
        for _ in range(steps):
            total += _seconds(step)
            watch.calls.clear()
    memory = peak_memory()
    report("The machine's rate of matmul")
    peak = matmul_peak()
    rest = total - sum(entry.seconds for entry in watch.entries.values())
    entries = {**watch.entries, Key(ELSE): Entry(steps, rest)}
    rows = [_row(key, entry, steps, total, peak) for key, entry in entries.items()]
    rows.sort(key=lambda row: -row.ms)
    return Profile(name, steps, total / steps * 1e3, plain * 1e3, peak / 1e9, memory, rows)


def matmul_peak() -> float:
    """The machine's rate of matmul, in operations a second: NumPy's BLAS on float32 matrices of 2048², all cores."""
    size = 2048
    matrix = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    out = np.empty_like(matrix)
    return 2 * size**3 / min(_seconds(lambda: np.matmul(matrix, matrix, out=out)) for _ in range(8))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _row(key: Key, entry: Entry, steps: int, total: float, peak: float) -> Row:
    rate = entry.flops / entry.seconds if entry.flops else None
    return Row(
        name=key.name,
        phase=key.phase,
        shapes=key.shapes,
        calls=entry.calls / steps,
        ms=entry.seconds / steps * 1e3,
        share=entry.seconds / total,
        gflops=rate and rate / 1e9,
        peak_share=rate and rate / peak,
    )


# -- the table -------------------------------------------------------------------------------------------------------


def describe_profile(found: Profile) -> str:
    """The table as text, with an explanation of its numbers."""
    by_shape = any(row.shapes for row in found.rows)
    headers = ["op", "phase", *(["operands"] if by_shape else []), "calls", "ms", "share", "GFLOP/s", "of peak"]
    rows = [_cells(row, by_shape) for row in found.rows]
    ms, share = f"{found.step_ms:.2f}", "100.0 %"
    rows.append(["total", "", *([""] if by_shape else []), "", ms, share, "", ""])
    forward, backward = (sum(row.share for row in found.rows if row.phase == phase) for phase in (FORWARD, BACKWARD))
    return "\n".join(
        [
            f"{found.name}: a training step, the mean of {found.steps}",
            "",
            plain_table(headers, rows),
            "",
            f"Forward {forward:.1%} of the step, backward {backward:.1%}. Peak memory {found.peak_rss_mb:,.0f} MiB.",
            f"Without the profiler the fastest of {found.steps} steps took {found.plain_step_ms:.2f} ms.",
            f"GFLOP/s counts matmuls only; the peak is {found.peak_gflops:.0f}, NumPy's best on 2048×2048.",
        ]
    )


def _cells(row: Row, by_shape: bool) -> list[str]:
    return [
        row.name,
        row.phase,
        *([row.shapes] if by_shape else []),
        f"{round(row.calls, 1):g}" if row.phase else "",
        f"{row.ms:.2f}",
        f"{100 * row.share:.1f} %",
        "" if row.gflops is None else f"{row.gflops:.1f}",
        "" if row.peak_share is None else f"{100 * row.peak_share:.0f} %",
    ]


# -- what is profiled ------------------------------------------------------------------------------------------------


def find_step(name: str, overrides: Sequence[str] = ()) -> Step:
    """A function that takes a training step of a workload or config, by its name.

    Args:
        name: one of `models.speed.workloads.WORKLOADS`, of the package's configs, or a TOML file.
        overrides: of the config, as ``"section.key=value"``.

    Raises:
        ProfileError: unknown name (the message suggests a similar one), or overrides given for a workload.
        ConfigError, DataError, TrainingError: the config has a mistake, or its data cannot be read.
    """
    config = find_config_of(name, overrides)
    return TrainingStep(name) if config is None else _ConfigStep(config)


def find_config_of(name: str, overrides: Sequence[str] = ()) -> Config | None:
    """The config of this name, None for a workload; see `find_step`.

    Raises:
        ProfileError, ConfigError: as `find_step`.
    """
    if name in WORKLOADS:
        if overrides:
            raise ProfileError(f"{name} is a workload on random text; leave out --data, --source, --target and --set")
        return None
    try:
        path = find_config(name)
    except ConfigError:
        known = [*WORKLOADS, *sorted(path.stem for path in CONFIGS.glob("*.toml"))]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}; or name a TOML file"
        raise ProfileError(f"there is no workload or config {name!r}; {hint}") from None
    return load_config(path, overrides)


class _ConfigStep:
    """A step of `models.training.trainer`, for a run that is not written to disk; every call takes the next batch."""

    def __init__(self, config: Config) -> None:
        text = config.data.load()
        self._trainer = Trainer(Run("", config, *train_tokenizers(text, config.data)), text, PlainProgress())
        self.model = self._trainer.model
        self.model.train()
        self._batches = itertools.chain.from_iterable(map(self._trainer.groups, itertools.count()))
        self._steps = self._tokens = 0

    @property
    def target_tokens(self) -> float:
        """See `Step`."""
        return self._tokens / self._steps

    def __call__(self) -> float:
        """See `Step`."""
        batches = next(self._batches)
        self._steps += 1
        self._tokens += sum(batch.target_tokens for batch in batches)
        return self._trainer.step(*batches)[0]
