"""Over training: the same sentence with the weights that a run kept, from before the first step to the last.

Each kept step has a forward and backward pass of its own. Of it stay the attention weights and the gradient of their
scores, the loss of every token, the norms of all parameters and of their gradients, and how saturated the softmax is:
of a row that is nearly one-hot, the Jacobian diag(α) − ααᵀ is nearly 0, and no gradient passes.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_attn.nn.module import Module

from ...console.errors import UserError
from ...console.working import worked_off
from ...runs.folder import Run
from ...runs.kept import kept_steps, read_kept
from ..checks.over_training import find_frame_identities
from ..checks.softmax import cross_entropies
from .arrays import Store
from .schema import Identity
from .sites import AttentionSite, find_sites
from .tape import norm
from .trace import Traced, copy_in_float64
from .views import Film, Frame

__all__ = ["SATURATED", "Checkpoints", "Reel", "checkpoints_of", "described_films", "film", "given_checkpoints"]

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Any]

SATURATED = 0.99
"""The largest weight from which a row counts as saturated: of the gradient at its weights, less than 1 % passes."""


@dataclass
class Checkpoints:
    """Steps with their weights, or with what keeps them from being read."""

    count: int
    steps: Iterable[tuple[int, Arrays | UserError]]


def checkpoints_of(run: Run | None) -> Checkpoints:
    """Those that a run has kept."""
    if run is None:
        return Checkpoints(0, ())
    return Checkpoints(len(kept_steps(run.directory)), read_kept(run))


def given_checkpoints(given: Any) -> Checkpoints:
    """Those of a dict of state dicts by step.

    Raises:
        UserError: it is no such dict.
    """
    whole = isinstance(given, Mapping) and all(type(step) is int and step >= 0 for step in given)
    if not whole or not all(isinstance(state, Mapping) for state in given.values()):
        raise UserError("microscope: checkpoints must be a dict of state dicts by step, as {0: …, 100: …}")
    return Checkpoints(len(given), sorted(given.items(), key=lambda each: each[0]))


@dataclass
class _Site:
    """What stays of an attention site."""

    id: str
    weights: Array
    gradient: Array | None
    facts: dict[str, list[float | None]]


@dataclass
class _Frame:
    """What stays of a pass."""

    step: int | None
    shown: bool
    loss: float
    losses: list[float]
    sites: list[_Site]
    norms: dict[str, tuple[float, float | None]]
    """By parameter its norm, and that of its gradient."""
    identities: list[Identity]


@dataclass
class Reel:
    """The frames of one run."""

    run: str
    model: str
    frames: list[_Frame] = field(default_factory=list)

    @property
    def identities(self) -> list[Identity]:
        """The checks of all frames."""
        return [each for frame in self.frames for each in frame.identities]


def film(
    run: str, model: Module, traced: Traced, trace_again: Callable[[Module], Traced], checkpoints: Checkpoints,
    changed: bool = False,
) -> Reel:  # fmt: skip
    """A pass with the weights of each checkpoint; without checkpoints no frame.

    A checkpoint that cannot be used is left out, with a warning.

    Args:
        run: the name of the run.
        model: the model as it was given.
        traced: its pass, which the other views show.
        trace_again: runs a copy of the model, in float64, over the same example.
        checkpoints: its weights at some steps.
        changed: whether ``traced`` is a pass with other weights than the model's.
    """
    reel = Reel(run, type(model).__name__)
    own = {} if changed else {name: tensor.array for name, tensor in model.state_dict().items()}
    for step, weights in worked_off(checkpoints.steps, "looking at kept checkpoints", checkpoints.count):
        shown = bool(own) and _equal(own, weights)
        again = traced if shown else _with_weights(model, step, weights, trace_again)
        if again is not None:
            reel.frames.append(_frame(step, shown, again))
    if reel.frames and not any(frame.shown for frame in reel.frames):
        reel.frames.append(_frame(None, True, traced))
    return reel


def _equal(own: Mapping[str, Array], weights: Arrays | UserError) -> bool:
    if isinstance(weights, UserError) or own.keys() != weights.keys():
        return False
    return all(np.array_equal(own[name], _array(value)) for name, value in weights.items())


def _array(value: Any) -> Array:
    return np.asarray(getattr(value, "array", value))


def _with_weights(
    model: Module, step: int, weights: Arrays | UserError, trace_again: Callable[[Module], Traced]
) -> Traced | None:
    """The pass with a checkpoint's weights; None, with a warning, if they are of no use."""
    problem = str(weights) if isinstance(weights, UserError) else ""
    if not isinstance(weights, UserError):
        same = copy_in_float64(model)
        try:
            same.load_state_dict(weights)
            wrong = [name for name, value in weights.items() if not np.isfinite(_array(value)).all()]
            problem = f"{wrong[0]} has values that are nan or infinite" if wrong else ""
        except (TypeError, ValueError) as error:
            problem = " ".join(str(error).split())
        if not problem:
            return trace_again(same)
    warnings.warn(f"the view Over training is without step {step:,}: {problem}", stacklevel=6)
    return None


def _frame(step: int | None, shown: bool, traced: Traced) -> _Frame:
    sites = find_sites(traced)
    losses = cross_entropies(traced.logits, traced.expected).tolist() if traced.expected else []
    name = "these weights" if step is None else f"step {step}"
    seen = [_Site(site.id, _weights(site), site.quantities["scores"].gradient, _facts(site)) for site in sites]
    facts = {site.id: site.facts for site in seen}
    return _Frame(
        step, shown, float(traced.loss.values[0]), losses, seen,
        {name: _norms(leaf) for name, leaf in traced.parameters().items()},
        find_frame_identities(name, traced, sites, losses, facts),
    )  # fmt: skip


def _norms(leaf: Any) -> tuple[float, float | None]:
    return norm(leaf.value), None if leaf.gradient is None else norm(leaf.gradient)


def _weights(site: AttentionSite) -> Array:
    return site.quantities["weights"].value


def _facts(site: AttentionSite) -> dict[str, list[float | None]]:
    """See `models.microscope.record.views.FrameSite`."""
    weights, scores = _weights(site), site.quantities["scores"]
    allowed = np.ones(weights.shape, bool) if site.mask is None else np.broadcast_to(site.mask, weights.shape)
    count = allowed.sum(axis=-1)
    several = count > 1
    safe = np.where(allowed & (weights > 0.0), weights, 1.0)
    mean = np.where(allowed, scores.value, 0.0).sum(axis=-1) / np.maximum(count, 1)
    squares = np.where(allowed, (scores.value - mean[..., None]) ** 2, 0.0).sum(axis=-1)
    largest = weights.max(axis=-1)
    rows = {
        "spread": np.sqrt(squares / np.maximum(count, 1)),
        "entropy": -np.sum(safe * np.log(safe), axis=-1),
        "room": np.log(np.maximum(count, 1)),
        "largest": largest,
        "saturated": (largest >= SATURATED).astype(float),
    }
    gradients = {"weights_gradient": site.quantities["weights"].gradient, "scores_gradient": scores.gradient}
    return {
        **{name: _means(each, several) for name, each in rows.items()},
        **{
            name: [None] * len(weights) if each is None else [norm(head) for head in np.where(allowed, each, 0.0)]
            for name, each in gradients.items()
        },
    }


def _means(rows: Array, several: Array) -> list[float | None]:
    """By head the mean over the queries that count."""
    return [float(each[which].mean()) if which.any() else None for each, which in zip(rows, several, strict=True)]


def described_films(reels: Sequence[Reel], store: Store) -> list[Film]:
    """The JSON of the reels that have frames; their matrices go into ``store``, the last layer's as the last."""
    return [
        {
            "run": reel.run,
            "model": reel.model,
            "saturated_at": SATURATED,
            "parameters": list(reel.frames[0].norms),
            "frames": list(_described(reel, store)),
        }
        for reel in reels
        if reel.frames
    ]


def _described(reel: Reel, store: Store) -> Iterator[Frame]:
    names = list(reel.frames[0].norms)
    matrices: dict[tuple[int, str], tuple[str, str | None]] = {}
    order = itertools.zip_longest(*(frame.sites for frame in reel.frames))
    for at, site in ((at, site) for row in order for at, site in enumerate(row) if site is not None):
        name = f"film {reel.run} {reel.frames[at].step} {site.id}".replace("  ", " ")
        gradient = None if site.gradient is None else store.put(f"{name}: dL/d scores", site.gradient, "film")
        matrices[at, site.id] = store.put(f"{name}: weights", site.weights, "film"), gradient
    for at, frame in enumerate(reel.frames):
        norms = [frame.norms.get(name, (0.0, None)) for name in names]
        sites: list[Any] = [
            {
                "site": site.id, "weights": matrices[at, site.id][0], "gradient": matrices[at, site.id][1], **site.facts
            }
            for site in frame.sites
        ]  # fmt: skip
        yield {
            "step": frame.step, "shown": frame.shown, "loss": frame.loss, "losses": frame.losses, "sites": sites,
            "norms": [value for value, _ in norms], "gradient_norms": [gradient for _, gradient in norms],
        }  # fmt: skip
