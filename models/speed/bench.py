"""Time and memory of the training step of a workload or config: the command ``bench``.

A workload's step is: forward with teacher forcing, mean cross entropy, backward, clipping of the gradients' global norm
to 1, and Adam with a learning rate of 1e-4, always on the same batch. As in training, forward and backward run as a
program from the second step on (see `tinygrad_attn.capture`). A config's step is that of training.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import tinygrad_attn as ta
from tinygrad_attn import nn, random
from tinygrad_attn.kernels.runtime.ahead import first_run
from tinygrad_attn.optim import Adam

from .memory import peak_memory
from .workloads import batch_loss, find_workload

__all__ = ["Measurement", "Step", "TrainingStep", "measure", "measure_steps", "print_measurement"]

CLIP_NORM, LEARNING_RATE = 1.0, 1e-4
FEWEST_STEPS, MOST_STEPS = 5, 200


@dataclass(frozen=True)
class Measurement:
    """The results for one workload or config; the names are those of the JSON line that compares libraries."""

    who: str
    workload: str
    params: int
    """The number of parameters."""
    first_step_s: float
    """Seconds of the first step, with the compilation of kernels."""
    step_ms: float
    """Milliseconds of a step, the median of those after the second."""
    step_ms_min: float
    tokens_per_s: float
    """Target tokens per second, at the median."""
    peak_rss_mb: float
    """The most memory that the process has held, in MiB."""
    loss_first: float
    loss_last: float


class Step(Protocol):
    """A function that takes a training step, and what is measured beside its time."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    @property
    def target_tokens(self) -> float:
        """The number of target tokens in a batch: their mean if batches differ."""

    def __call__(self) -> float:
        """Take one step; returns the loss before it."""


class TrainingStep:
    """The training step of a workload; every call trains on the same batch."""

    def __init__(self, name: str) -> None:
        random.manual_seed(0)
        self.workload = find_workload(name)
        self.model = self.workload.make()
        self.batch = self.workload.batch()
        self.target_tokens = self.workload.target_tokens
        self.optimizer = Adam(self.model.parameters(), LEARNING_RATE)
        kind = type(self.batch)
        self._loss = ta.capture(lambda *tensors: batch_loss(self.model, kind(*tensors)))

    @property
    def programs(self) -> dict[Any, Any]:
        """By the shapes of a batch, the program that its step runs as; see `tinygrad_attn.capture.Captured`."""
        return self._loss.programs

    def __call__(self) -> float:
        """Take one step; returns the loss before it."""
        self.optimizer.zero_grad()
        loss = self._loss(*self.batch)
        self.optimizer.step(clip_norm=CLIP_NORM)
        return float(loss.item())


def measure(name: str, step: Step, seconds: float) -> Measurement:
    """Time a training step.

    Args:
        name: of the workload or config, for the report.
        step: see `models.speed.profile.find_step`.
        seconds: how long to measure; at least 5 steps are taken, and at most 200.
    """
    first_s, times, losses = measure_steps(step, seconds)
    median = statistics.median_high(times)
    return Measurement(
        who="tinygrad_attn",
        workload=name,
        params=sum(parameter.array.size for parameter in step.model.parameters()),
        first_step_s=round(first_s, 2),
        step_ms=median * 1e3,
        step_ms_min=min(times) * 1e3,
        tokens_per_s=step.target_tokens / median,
        peak_rss_mb=peak_memory(),
        loss_first=losses[0],
        loss_last=losses[-1],
    )


def measure_steps(step: Callable[[], float], seconds: float) -> tuple[float, list[float], list[float]]:
    """Call ``step`` for about ``seconds``, but 5 times at least and 200 times at most, after two calls to warm up.

    Returns:
        The seconds of the first call, those of each call after the second, and the results of all calls.
    """
    first_s, first = _timed(lambda: first_run(step))
    losses, times = [first, step()], list[float]()
    while len(times) < FEWEST_STEPS or (sum(times) < seconds and len(times) < MOST_STEPS):
        passed, loss = _timed(step)
        times.append(passed)
        losses.append(loss)
    return first_s, times, losses


def _timed(step: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    result = step()
    return time.perf_counter() - start, result


def print_measurement(found: Measurement, threads: int) -> None:
    """Print a measurement as readable lines."""
    print(f"{found.workload}: {found.params:,} parameters, {threads} thread{'s' if threads > 1 else ''}")
    print(f"step         {found.step_ms:.2f} ms (median), {found.step_ms_min:.2f} ms (fastest)")
    print(f"tokens       {found.tokens_per_s:,.0f} target tokens a second")
    print(f"first step   {found.first_step_s:.2f} s, with compilation where the cache has no kernel yet")
    print(f"peak memory  {found.peak_rss_mb:,.0f} MiB")
    print(f"loss         {found.loss_first:.4f} at first, {found.loss_last:.4f} at last")
