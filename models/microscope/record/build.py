"""build: runs a model on a pair of sentences or a text, checks the numbers, and makes the microscope's data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_attn import enable_grad

from ...console.errors import CommandError
from ...interface import LanguageModel, Translator
from ...runs.folder import Run
from ..checks.badge import check
from ..checks.sentences import find_sentence_identities
from ..checks.snippets import find_snippets
from .arrays import Store, without
from .described import described_site
from .drawn import Given
from .embeddings import described_embeddings
from .estimate import refuse_too_large
from .example import Example, name_of, own_translation, read, read_text, symbols_of, tokens_of
from .heads import described_heads
from .layers import described_layers
from .nudge import nudged
from .over_training import Reel, checkpoints_of, described_films, film, given_checkpoints
from .parameters import described_parameters
from .paths import find_paths
from .schema import LIMIT, SCHEMA, Data, Identity, Meta, Sentence
from .sentences import Among, Once, follow_among
from .sites import find_sites
from .spread import described_sentences
from .step import described_steps, take_step
from .tape import ops_of, tape_of
from .trace import Traced, dtype_of, in_float64, trace, trace_broken
from .uses import after_target, find_uses
from .vocabulary import described_vocabulary

__all__ = ["build", "found_in", "meta_of"]


@enable_grad()
@np.errstate(all="ignore")  # a model that has diverged is shown, not warned of
def build(
    model: LanguageModel,
    source: str | Sequence[int],
    target: str | Sequence[int] | None = None,
    *,
    run: Run | None = None,
    beside: tuple[Run, LanguageModel] | None = None,
    nudge: dict[str, Any] | None = None,
    step: dict[str, Any] | None = None,
    broken: str | None = None,
    sentences: Given | Once | None = None,
    checkpoints: Mapping[int, Mapping[str, Any]] | None = None,
    limit: int = LIMIT,
    served: dict[str, str] | None = None,
) -> Data:
    """Run the model on a pair or a text, verify the numbers, and return them as one dict that JSON can store.

    Args:
        model: any translator or language model; a copy of it runs in float64.
        source, target: texts, if there is a run with its tokenizers, or ids without <s> and </s>. A target of None
            is the model's own greedy translation. Of a model without a source the first is the text, and there is no
            target.
        run: the run that the model is from.
        beside: a second run, to compare the paths of its gradient.
        nudge: a change of one weight, see `models.microscope.record.rerun.Rerun`.
        step: a step of an optimiser before the pass, likewise.
        broken: the name of a wrong derivative of `models.microscope.checks.gallery` to compute with.
        sentences: the sentences to take averages over, see `models.microscope.record.drawn.draw`.
        checkpoints: the model's ``state_dict`` at some steps of its training; if None, those that the run has kept.
        limit: the most bytes of all arrays together.
        served: the page's connection to the live server.

    Raises:
        CommandError: a sentence that is empty or too long, a text without a run, a target or a run beside it of another
            kind than the model's, a nudge of no such weight, a broken derivative that the gallery or the model does
            not have, or one together with averages, or no sentences to take these over.
        DataError: a sentence that is too long for the model.
    """
    given, model = model, in_float64(model)
    change = None if nudge is None else nudged(model, nudge)
    if beside is not None:
        _check_alike(model, beside[1])
    if broken and sentences is not None:
        raise CommandError("averages over sentences are taken with right derivatives: leave out sentences, or broken")
    example, translation = _example(model, source, target, run)
    refuse_too_large(model, example)
    taken = None if step is None else take_step(model, _traced(model, example, None, single_tokens=False), step)
    traced = _traced(model, example, broken)
    among = None if sentences is None else follow_among(model, sentences, run, traced, example)
    reels = _reels(given, traced, example, beside, checkpoints, broken, bool(change or taken))
    meta = meta_of(traced, run)
    meta["trained_dtype"], meta["served"] = dtype_of(given), served
    meta["target_from"] = "greedy" if example.target is translation else "given"
    meta["broken"], meta["nudge"], meta["step"] = broken, change, taken
    found: Any = {"schema": SCHEMA, "meta": meta, "translation": translation}
    return found | found_in(traced, example, beside, limit, among=among, reels=reels)  # type: ignore[no-any-return]


def _reels(
    model: LanguageModel, traced: Traced, example: Example, beside: tuple[Run, LanguageModel] | None,
    checkpoints: Mapping[int, Mapping[str, Any]] | None, broken: str | None, changed: bool,
) -> list[Reel]:  # fmt: skip
    """The frames of the model, and of the one beside it, of those that have checkpoints.

    Args:
        model: as it was given.
        traced: its pass, with other weights if they were ``changed``.
        example, beside, checkpoints, broken: see `build`.
    """

    def again(example: Example, broken: str | None) -> Callable[[Any], Traced]:
        return lambda model: _traced(model, example, broken, single_tokens=False)

    kept = checkpoints_of(example.run) if checkpoints is None else given_checkpoints(checkpoints)
    reels = [film(name_of(example.run), model, traced, again(example, broken), kept, changed)]
    if beside is not None and reels[0].frames and (kept := checkpoints_of(beside[0])).count:
        other, same = _traced_beside(beside, example)
        reels.append(film(name_of(beside[0]), beside[1], other, again(same, None), kept))
    return reels


def _check_alike(model: LanguageModel, other: LanguageModel) -> None:
    if isinstance(model, Translator) != isinstance(other, Translator):
        raise CommandError(
            f"{type(model).__name__} and {type(other).__name__} cannot be shown side by side: one has a source, the "
            "other has none"
        )


def _example(
    model: LanguageModel, source: str | Sequence[int], target: str | Sequence[int] | None, run: Run | None
) -> tuple[Example, Sentence | None]:
    """What the model reads, and a translator's own translation."""
    if not isinstance(model, Translator):
        if target is not None:
            raise CommandError(f"{type(model).__name__} is a language model, which has no target; give it one text")
        return Example(None, read_text(source, model, run), run), None
    of_source = read(source, "source", run)
    translation = own_translation(model, of_source, run)
    return Example(of_source, translation if target is None else read(target, "target", run), run), translation


def found_in(
    traced: Traced,
    example: Example,
    beside: tuple[Run, LanguageModel] | None,
    limit: int,
    witnessed: Sequence[Identity] = (),
    among: Among | None = None,
    reels: Sequence[Reel] = (),
) -> dict[str, Any]:
    """The data of a traced pass, ``among`` others; ``witnessed`` as in `models.microscope.checks.badge.check`."""
    sites = find_sites(traced)
    tokens = tokens_of(traced, example)
    runs = [(traced, example)]
    if beside is not None:
        runs.append(_traced_beside(beside, example))
    paths = [find_paths(each, read, tokens_of(each, read)) for each, read in runs]
    store = Store(limit)
    described = [described_site(traced, site, store, example, tokens) for site in sites]
    uses = find_uses(traced)
    layers = [described_layers(each, find_uses(each) if each is not traced else uses, read) for each, read in runs]
    after = after_target(traced)
    parameters = described_parameters(traced, uses, after, store, example, tokens)
    embeddings = described_embeddings(traced, after, store, example, tokens)
    sentences = None if among is None else described_sentences(among, store)
    modules, lines, tape = tape_of(traced, sites)
    films = described_films(reels, store)
    witnessed = [*witnessed, *find_sentence_identities(among, sentences, traced)]
    witnessed += [each for reel in reels for each in reel.identities]
    arrays, kept, dropped = store.kept()
    return {
        "source": example.source,
        "target": example.target,
        "tokens": tokens,
        "symbols": symbols_of(range(traced.logits.shape[-1]), example.run.target if example.run else None),
        "check": check(traced, sites, uses, witnessed=witnessed),
        "sites": without(dropped, described),
        "embeddings": without(dropped, embeddings),
        "sentences": without(dropped, sentences),
        "parameters": without(dropped, parameters),
        "steps": described_steps(traced),
        "films": without(dropped, films),
        "heads": described_heads(sites),
        "vocabulary": described_vocabulary(traced, after, example),
        "layers": [each for each in layers if each is not None],
        "paths": [each for each in paths if each is not None],
        "snippets": find_snippets(site.score for site in sites),
        "ops": ops_of(traced),
        "modules": modules,
        "lines": lines,
        "tape": tape,
        "kept": kept,
        "arrays": arrays,
    }


def meta_of(traced: Traced, run: Run | None) -> Meta:
    """Facts about model and run; `build` adds the options of the call."""
    model = traced.model
    return {
        "model": type(model).__name__,
        "config": dataclasses.asdict(run.config.model) if run else {},
        "run": name_of(run),
        "seed": run.config.training.seed if run else None,
        "commit": _commit(run),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": "float64",
        "trained_dtype": "float64",
        "loss": float(traced.loss.values[0]),
        "target_from": "given",
        "broken": None,
        "nudge": None,
        "step": None,
        "nudgeable": [{"name": name, "shape": list(p.shape)} for name, p in model.named_parameters()],
        "served": None,
        "inputs": None,
        "missing": [],
    }


def _commit(run: Run | None) -> str:
    try:
        about = json.loads((run.directory / "run.json").read_text(encoding="utf-8")) if run else {}
    except (OSError, ValueError):
        return ""
    return str(about.get("versions", {}).get("commit", ""))


def _traced_beside(beside: tuple[Run, LanguageModel], example: Example) -> tuple[Traced, Example]:
    """The pass of another run over the same example."""
    run, model = beside
    if example.source is None:
        same = Example(None, read_text(example.target["text"], model, run), run)
    else:
        source, target = read(example.source["text"], "source", run), read(example.target["text"], "target", run)
        same = Example(source, target, run)
    return _traced(in_float64(model), same, None, single_tokens=False), same


def _traced(model: LanguageModel, example: Example, broken: str | None, single_tokens: bool = True) -> Traced:
    ids = None if example.source is None else example.source["ids"], example.target["ids"]
    return trace_broken(model, *ids, broken) if broken else trace(model, *ids, single_tokens)
