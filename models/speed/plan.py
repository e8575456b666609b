"""What training will take: parameters, memory, operations and seconds, on this machine and on several: the command
``plan``.

Nothing is trained: a few steps are taken on a model whose weights are lost afterwards. The operations of matrix
products are exact (`models.speed.counts`), and so is the memory of weights, gradients and Adam; the peak of a step is
measured on the largest batch, its time on some (`models.speed.calibration`), and several machines are computed
(`models.speed.ranks`).
"""

from __future__ import annotations

import functools
import itertools
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import tinygrad_attn as ta

from ..data import Batch
from ..parallel.shares import shard_of
from .calibration import PROGRAM, Pace, kinds_of, time_measuring, time_step, time_steps
from .counts import Counts, Operations, Size, count_step
from .memory import peak_memory
from .ranks import LATENCY, Network, Share, on_ranks
from .subject import Subject, resized, size_of

__all__ = [
    "Beyond", "Memory", "OnRanks", "Parts", "Plan", "PlanOptions", "Way", "grouped_by_part", "make_plan", "step_on",
]  # fmt: skip

_SAMPLE = 500  # steps of an epoch that are looked at
_LATER = 3  # the epoch that stands for all but the first: a shape that comes for the fourth time has its program
_LARGE = 0.5  # a part with more than this share of all parameters is shown by its own parts

Parts = dict[str, int]
"""Numbers of parameters by the name of a part of the model."""

Cost = Callable[[Size], tuple[int, int]]
"""The operations of a step's forward and backward pass by the size of its batch."""


@dataclass(frozen=True)
class PlanOptions:
    """What to plan, and how long to measure."""

    ranks: Sequence[int] = ()
    gigabits: Sequence[float] = ()
    """10⁹ bits a second that a machine sends and receives; each is combined with each number of ranks."""
    latency: float = LATENCY
    seconds: float = 3.0
    """About how long to take steps for."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a process that trains."""

    weights: int
    gradients: int
    moments: int
    """Adam's two means."""
    activations: int
    """Kept from the forward pass of the largest batch until its backward pass."""
    step: int
    """The most that a step on the largest batch holds at once beside weights and moments."""
    process: int
    """Python, NumPy and the compiled kernels."""

    @property
    def peak(self) -> int:
        """The most that the process will hold."""
        return self.process + self.weights + self.moments + self.step

    def of_rank(self, share: float) -> int:
        """The most that the process of a rank with this share of the batch will hold.

        It has all weights, gradients and moments, and the gradients once more in the buffers that are summed.
        """
        most = max(self.step - self.gradients, 0)
        return self.process + self.weights + self.moments + 2 * self.gradients + round(share * most)


@dataclass(frozen=True)
class OnRanks:
    """A step of several machines, a rank each."""

    ranks: int
    gigabits: float
    rows: int
    """Of the batch, for each rank; the first have one more if they do not divide it."""
    step_s: float
    epoch_s: float
    speedup: float
    """Over one machine with the same examples."""
    communication: float
    """The share of the time in which sums of gradients are waited for, from 0 to 1."""
    process_bytes: int
    """The peak of a rank's process."""


@dataclass(frozen=True)
class Way:
    """Settings with which training may fit into memory."""

    settings: str
    process_bytes: int
    fits: bool


@dataclass(frozen=True)
class Beyond:
    """That training does not fit into the machine's memory, and what would."""

    machine_bytes: int
    measured_on: str
    """The settings of the smaller model that took the steps."""
    measured_parameters: int
    ways: list[Way]


@dataclass(frozen=True)
class Plan:
    """What training will take; the names are those of the command's JSON."""

    name: str
    parameters: int
    parts: Parts
    threads: int
    unit: str
    """What a row of a batch is, as in "pairs"."""
    steps: int
    """Of an epoch."""
    epochs: int
    """0 for a workload, which has none."""
    batches: int
    """Of a step, whose gradients are summed."""
    typical: Size
    """Of a batch with about as many operations as the mean."""
    largest: Size
    forward: int
    """Operations of the matrix products in the forward pass of a step, the mean of an epoch's."""
    backward: int
    memory: Memory
    first_epoch_s: float
    """Seconds of the steps of the first epoch, in which every shape is new, without the compilation of kernels."""
    epoch_s: float
    """Seconds of the steps of a later epoch, the fourth."""
    measuring_s: float
    """Seconds in which the model is measured on the validation set after an epoch."""
    latency_s: float
    same_batch: list[OnRanks] = field(default_factory=list)
    """Each rank has a share of the batch."""
    larger_batch: list[OnRanks] = field(default_factory=list)
    """Each rank has a batch as large as one machine has now."""
    beyond: Beyond | None = None
    """If training does not fit into memory: then all but parameters, weights, gradients and moments is estimated."""

    @property
    def step_s(self) -> float:
        """Seconds of a step, the mean of a later epoch."""
        return self.epoch_s / self.steps

    @property
    def training_s(self) -> float:
        """Seconds of all epochs, with what is measured after each."""
        return self.first_epoch_s + max(self.epochs - 1, 0) * self.epoch_s + self.epochs * self.measuring_s


def make_plan(subject: Subject, options: PlanOptions) -> Plan:
    """Plan the training of a subject."""
    epochs = [list(itertools.islice(subject.groups(epoch), _SAMPLE)) for epoch in range(_LATER + 1)]
    batches = [batch for groups in epochs for group in groups for batch in group]
    cost, largest, memory = _count(subject, batches)
    pace = time_steps(subject, batches, lambda size: sum(cost(size)), options.seconds)
    seconds = _seconds_of_epochs(subject, epochs, cost, pace)
    counted = [cost(size_of(batch)) for group in epochs[_LATER] for batch in group]
    forward, backward = (sum(column) // len(epochs[_LATER]) for column in zip(*counted, strict=True))
    mean = (forward + backward) * len(epochs[_LATER]) / len(counted)
    typical = min(batches, key=lambda batch: abs(sum(cost(size_of(batch))) - mean))
    plan = Plan(
        name=subject.name,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        parts=grouped_by_part({name: p.numel() for name, p in subject.model.named_parameters()}),
        threads=ta.get_num_threads(),
        unit=subject.unit,
        steps=subject.count(_LATER),
        epochs=subject.epochs,
        batches=max(map(len, epochs[_LATER])),
        typical=size_of(typical),
        largest=size_of(largest),
        forward=forward,
        backward=backward,
        memory=memory,
        first_epoch_s=seconds[0] * subject.count(0) / len(epochs[0]),
        epoch_s=seconds[_LATER] * subject.count(_LATER) / len(epochs[_LATER]),
        measuring_s=time_measuring(subject),
        latency_s=options.latency,
    )
    _plan_ranks(plan, subject, typical, sum(cost(size_of(typical))), pace, options)
    return plan


def grouped_by_part(sizes: Parts) -> Parts:
    """The parameters of a model's parts, in its order, from those by path; a part with most of them is shown by its own
    parts."""
    coarse = _by_prefix(sizes, dict.fromkeys(sizes, 1))
    large = {name for name, size in coarse.items() if size > _LARGE * sum(sizes.values())}
    return _by_prefix(sizes, {name: 2 if name.split(".")[0] in large else 1 for name in sizes})


def _by_prefix(sizes: Parts, depth: dict[str, int]) -> Parts:
    parts: Parts = {}
    for name, size in sizes.items():
        part = ".".join(name.split(".")[: depth[name]])
        parts[part] = parts.get(part, 0) + size
    return parts


# -- what is measured --------------------------------------------------------------------------------------------------


def _count(subject: Subject, batches: Sequence[Batch]) -> tuple[Cost, Batch, Memory]:
    """The operations of any batch, the batch with the most, and the memory of a step on it."""
    some = batches[0]
    _, source, target = size_of(some)

    def small(size: Size) -> Counts:
        return count_step(lambda: subject.step(resized(some, size)))

    small(Size(1, 1 if source else 0, target))
    weights, moments = _bytes(subject)
    process = peak_memory() * (1 << 20) - 2 * weights - moments  # after a step: with gradients, as many as weights
    polynomial = Operations.of(small, source, target)
    largest = max(batches, key=lambda batch: sum(polynomial(size_of(batch))))
    counts = count_step(lambda: subject.step(largest))
    memory = Memory(weights, weights, moments, counts.kept, _peak_of_step(subject, largest), max(0, round(process)))
    if polynomial(size_of(largest)) == (counts.forward, counts.backward):
        return polynomial, largest, memory

    @functools.cache
    def counted(size: Size) -> tuple[int, int]:
        """Of a model whose operations are no polynomial: one that attends to the last ten positions, say."""
        found = small(size)
        return found.forward, found.backward

    return counted, max(batches, key=lambda batch: sum(counted(size_of(batch)))), memory


def _bytes(subject: Subject) -> tuple[int, int]:
    """Of the weights, and of Adam's moments."""
    moments = [array for arrays in subject.optimizer.state.values() for array in arrays if array is not None]
    return sum(p.array.nbytes for p in subject.model.parameters()), sum(array.nbytes for array in moments)


def _peak_of_step(subject: Subject, batch: Batch) -> int:
    """The most bytes that steps on a batch allocate: the first, the second, which makes a program, and the third."""
    subject.forget()
    subject.optimizer.zero_grad()
    tracemalloc.start()
    try:
        for _ in range(3):
            subject.step(batch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        subject.forget()


def _seconds_of_epochs(
    subject: Subject, epochs: Sequence[Sequence[Sequence[Batch]]], cost: Cost, pace: Pace
) -> list[float]:
    """The seconds of the steps of each epoch."""
    sizes = [[size_of(batch) for group in groups for batch in group] for groups in epochs]
    seconds = []
    for groups, sizes_of_epoch, kinds in zip(epochs, sizes, kinds_of(sizes, subject.captured), strict=True):
        of_batches = [pace(sum(cost(size)), kind) for size, kind in zip(sizes_of_epoch, kinds, strict=True)]
        # One update for several batches.
        seconds.append(sum(of_batches) - pace.update * (len(of_batches) - len(groups)))
    return seconds


# -- several machines --------------------------------------------------------------------------------------------------


def _plan_ranks(
    plan: Plan, subject: Subject, typical: Batch, operations: int, pace: Pace, options: PlanOptions
) -> None:
    """Add a line for each number of ranks and each bandwidth; ``operations`` are those of the typical batch."""
    rows, whole = len(typical), pace(operations)
    for ranks in options.ranks:
        share = -(-rows // ranks)
        part = time_step(subject, shard_of(typical, 0, ranks), options.seconds / 4)[PROGRAM] if ranks > 1 else whole
        for gigabits in options.gigabits:
            network = Network(gigabits, options.latency)
            plan.same_batch.append(step_on(plan, pace.update, ranks, network, share, part / whole))
            plan.larger_batch.append(step_on(plan, pace.update, ranks, network, rows, 1.0))


def step_on(plan: Plan, update: float, ranks: int, network: Network, rows: int, factor: float) -> OnRanks:
    """A step of so many ranks, each with so many rows of a batch, which take ``factor`` of the time of all rows."""
    seconds = plan.step_s * factor
    # Of the last batch of a step alone: the sums begin when its gradients are added to those of the others.
    backward = max(0.0, seconds - update) * plan.backward / (plan.forward + plan.backward) / plan.batches
    found = on_ranks(Share(seconds, backward, plan.memory.gradients), ranks, network)
    whole = rows == plan.typical.rows
    steps = plan.steps / ranks if whole else plan.steps
    return OnRanks(
        ranks=ranks,
        gigabits=network.gigabits,
        rows=rows,
        step_s=found.seconds,
        epoch_s=found.seconds * steps,
        speedup=plan.epoch_s / (found.seconds * steps),
        communication=found.communication / found.seconds,
        process_bytes=plan.memory.of_rank(rows / plan.typical.rows),
    )
