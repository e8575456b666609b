"""A plan of a training that this machine's memory does not hold: what it would take, and what would fit.

Nothing of the model's size is made. Parameters are exact, and so is the memory of weights, gradients and moments. A
smaller model of the same settings takes the steps that a plan takes. From it come the rate, and the operations: those
of a few small models tell how many a parameter, an embedding's and an activation cost.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_attn import Tensor, nn
from tinygrad_attn.nn.counting import hollow

from ..data import Batch
from ..evaluation.metrics import mean_loss
from ..memory import TooLargeError, machine_memory
from ..runs.folder import Run
from ..setting import ConfigError
from ..training.estimate import kept_bytes, refuse_too_large
from ..training.trainer import goal_of
from .counts import count_step
from .memory import peak_memory
from .plan import Beyond, Memory, Plan, PlanOptions, Way, grouped_by_part, make_plan, step_on
from .ranks import Network
from .subject import ConfigSubject

__all__ = ["plan_beyond"]

_TIMED = 4_000_000  # parameters of the smaller model: a step of it takes less than a second
_SPARED = 64  # bytes of memory that there must be for each of them
_RECOMPUTED = 0.4  # of the activations is kept with training.recompute (see tests/benchmarks/bench_checkpoint.py)
_RANKS = (2, 8, 64)

Settings = dict[str, Any]


def plan_beyond(name: str, run: Run, options: PlanOptions) -> Plan:
    """Plan the training of a run that `ConfigSubject` refuses as too large."""
    small = _smaller(run)
    subject = ConfigSubject(name, small)
    plan = make_plan(subject, dataclasses.replace(options, ranks=()))
    batch = next(subject.groups(0))[0]
    # Of a batch, so many times as many operations; and a batch has so many times as many rows.
    rows = run.config.training.batch_size / small.config.training.batch_size
    factor = _operations(run, small, batch)
    model, sizes = hollow(run.build_without_check)
    memory = _memory(run, subject, sum(sizes.values()), rows)
    found = dataclasses.replace(
        plan,
        parameters=sum(sizes.values()),
        parts=grouped_by_part(sizes),
        steps=max(1, round(plan.steps / rows)),
        typical=plan.typical._replace(rows=round(plan.typical.rows * rows)),
        largest=plan.largest._replace(rows=round(plan.largest.rows * rows)),
        forward=round(plan.forward * factor * rows),
        backward=round(plan.backward * factor * rows),
        first_epoch_s=plan.first_epoch_s * factor,
        epoch_s=plan.epoch_s * factor,
        measuring_s=plan.measuring_s * factor,
        memory=memory,
        beyond=Beyond(machine_memory(), _describe(run, small), plan.parameters, []),
    )
    recomputes = not run.config.training.recompute and nn.recompute_layers(model) > 0
    found.beyond.ways.extend(_ways(found, options.ranks or _RANKS, recomputes))  # type: ignore[union-attr]
    for ranks in options.ranks:
        share = -(-found.typical.rows // ranks)
        for gigabits in options.gigabits:
            network = Network(gigabits, options.latency)
            found.same_batch.append(step_on(found, 0.0, ranks, network, share, share / found.typical.rows))
            found.larger_batch.append(step_on(found, 0.0, ranks, network, found.typical.rows, 1.0))
    return found


# -- the smaller model -------------------------------------------------------------------------------------------------


def _smaller(run: Run) -> Run:
    """The run with settings of the model, and if need be of its batches, halved until steps of it can be taken.

    Raises:
        TooLargeError: no setting of the model makes it small enough.
    """
    found, size = run, sum(hollow(run.build_without_check)[1].values())
    while size > min(_TIMED, machine_memory() // _SPARED):
        sizes = [(sum(hollow(other.build_without_check)[1].values()), other) for other in _halved(found)]
        # Fewer layers rather than narrower ones, whose rate is another.
        smaller = [each for each in sizes if each[0] <= 0.75 * size]
        least, smallest = max(
            smaller or sizes, key=lambda each: each[0] * (1 if smaller else -1), default=(size, found)
        )
        if least >= size:
            break
        found, size = smallest, least
    text = run.config.data.load()
    while True:
        try:
            refuse_too_large(found, goal_of(found, text).batches)
        except TooLargeError:
            if found.config.training.batch_size < 2:
                raise
            found = _with(found, training={"batch_size": found.config.training.batch_size // 2})
        else:
            return found


def _halved(run: Run) -> Iterator[Run]:
    """The run with each setting of its model halved that may be, and that does not say how long a text may be."""
    settings = run.config.model
    limits = settings.longest_source(), settings.longest_target()
    for name, kind in settings.types().items():
        value = getattr(settings, name)
        if kind is not int or value < 2:
            continue
        try:
            other = _with(run, model={name: value // 2})
        except ConfigError:  # as of a width that heads do not divide any more
            continue
        if (other.config.model.longest_source(), other.config.model.longest_target()) == limits:
            yield other


def _doubled(small: Run, run: Run) -> Iterator[Run]:
    """The smaller run with each setting doubled that the other one has larger."""
    for name, kind in small.config.model.types().items():
        value = getattr(small.config.model, name)
        if kind is int and value < getattr(run.config.model, name):
            with contextlib.suppress(ConfigError):
                yield _with(small, model={name: 2 * value})


def _with(run: Run, **sections: Settings) -> Run:
    """The run with other settings in some sections."""
    changed = {name: dataclasses.replace(getattr(run.config, name), **settings) for name, settings in sections.items()}
    return Run("", dataclasses.replace(run.config, **changed), run.source, run.target)


def _describe(run: Run, small: Run) -> str:
    """What the smaller run has otherwise."""
    pairs = [
        (section, field.name)
        for section in ("model", "training")
        for field in getattr(run.config, section).fields()
        if getattr(getattr(run.config, section), field.name) != getattr(getattr(small.config, section), field.name)
    ]
    return " ".join(f"{section}.{name}={getattr(getattr(small.config, section), name)}" for section, name in pairs)


# -- operations --------------------------------------------------------------------------------------------------------


def _operations(run: Run, small: Run, batch: Batch) -> float:
    """How many times as many operations the model takes for a batch as the smaller one.

    They are a sum of what multiplies: the elements of each part's matrices, of embeddings (which multiply where the
    output layer is one of them) and of activations (which meet each other in attention). Small models tell the factors.
    """
    models = [small, *_halved(small), *_doubled(small, run)]
    found = [_features(each) for each in (*models, run)]
    names = sorted({name for features in found for name in features})
    table = np.array([[features.get(name, 0.0) for name in names] for features in found])
    scale = np.maximum(table[:-1].max(axis=0), 1.0)
    counted = np.array([_count(each, batch) for each in models], dtype=np.float64)
    relative = table[:-1] / scale / counted[:, None]
    factors = np.linalg.lstsq(relative, np.ones(len(models)), rcond=1e-8)[0] / scale
    return max(1.0, float(table[-1] @ factors) / counted[0])


def _features(run: Run) -> dict[str, float]:
    """What multiplies in a model, by the parts that it has whatever its settings."""
    model, sizes = hollow(run.build_without_check)
    embeddings = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Embedding)}
    found = {"activations": float(run.config.model.activations())}
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            words = [word for word in name.split(".")[:-1] if not word.isdecimal()]
            part = "embeddings" if name in embeddings else ".".join(words[:2])
            found[part] = found.get(part, 0.0) + sizes[name]
    return found


def _count(run: Run, batch: Batch) -> int:
    """The operations of a step on a batch."""
    model = run.build()
    tensors = [Tensor(array) for array in (*batch.given, batch.target_in, batch.target_out)]
    found = count_step(lambda: mean_loss(model(*tensors[:-1]), tensors[-1], 0.0).backward())
    return found.forward + found.backward


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory(run: Run, subject: ConfigSubject, parameters: int, rows: float) -> Memory:
    """What the settings tell; activations are about."""
    weights = 4 * parameters
    of_layers, of_logits = (round(size * rows) for size in kept_bytes(run, subject.train_batches))
    kept = of_logits + round(of_layers * (_RECOMPUTED if run.config.training.recompute else 1.0))
    small = sum(parameter.array.nbytes for parameter in subject.model.parameters())
    process = max(0, round(peak_memory() * (1 << 20)) - 4 * small)
    return Memory(weights, weights, 2 * weights, kept, weights + kept, process)


def _ways(plan: Plan, ranks: Sequence[int], recomputes: bool) -> Iterator[Way]:
    """Settings that need less memory, with what a process takes then."""
    memory, most = plan.memory, machine_memory()
    row = memory.activations // max(1, plan.largest.rows)
    factor = _RECOMPUTED if recomputes else 1.0
    words = ["training.recompute=true"] if recomputes else []
    fixed = memory.process + memory.weights + memory.gradients
    if recomputes:
        yield Way(words[0], size := fixed + memory.moments + round(factor * memory.activations), size <= most)
    if plan.largest.rows > 1:
        steps = f"training.gradient_accumulation_steps={plan.largest.rows}"
        yield Way(
            " ".join([*words, "training.batch_size of one row,", steps]),
            size := fixed + memory.moments + round(factor * row),
            size <= most,
        )
    for number in ranks:
        share = round(factor * row * -(-plan.largest.rows // number))
        size = fixed + memory.gradients + memory.moments // number + share
        yield Way(" ".join([*words, f"training.divided_moments=true on {number} machines"]), size, size <= most)
