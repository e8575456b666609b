"""build: runs a model on a pair of sentences, checks the numbers, and makes the microscope's data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...interface import Translator
from ...runs.folder import Run
from ..checks.badge import check
from ..checks.snippets import find_snippets
from .arrays import Store, without
from .described import described_site
from .estimate import refuse_too_large
from .nudge import nudged
from .pair import LONGEST, Pair, read, sentence, symbols_of, tokens_of
from .paths import find_paths
from .schema import LIMIT, SCHEMA, Data, Meta, Paths
from .sites import find_sites
from .tape import ops_of, tape_of
from .trace import Traced, dtype_of, greedy_translation, in_float64, trace, trace_broken

__all__ = ["build"]


@np.errstate(all="ignore")  # a model that has diverged is shown, not warned of
def build(
    model: Translator,
    source: str | Sequence[int],
    target: str | Sequence[int] | None = None,
    *,
    run: Run | None = None,
    beside: tuple[Run, Translator] | None = None,
    nudge: dict[str, Any] | None = None,
    broken: str | None = None,
    limit: int = LIMIT,
    served: dict[str, str] | None = None,
) -> Data:
    """Run the model on a pair, verify the numbers, and return them as one dict that JSON can store.

    Args:
        model: any translator; a copy of it runs in float64.
        source, target: texts, if there is a run with its tokenizers, or ids without <s> and </s>. A target of None
            is the model's own greedy translation.
        run: the run that the model is from.
        beside: a second run, to compare the paths of its gradient.
        nudge: a change of one weight, see `models.microscope.record.schema.Rerun`.
        broken: the name of a wrong derivative of `models.microscope.checks.gallery` to compute with.
        limit: the most bytes of all arrays together.
        served: the page's connection to the live server.

    Raises:
        CommandError: a sentence that is empty or too long, a text without a run, a nudge of no such weight, or a broken
            derivative that the gallery or the model does not have.
        DataError: a sentence that is too long for the model.
    """
    trained_dtype = dtype_of(model)
    model = in_float64(model)
    change = None if nudge is None else nudged(model, nudge)
    of_source = read(source, "source", run)
    longest = min(run.config.decoding.max_length, LONGEST) if run else LONGEST
    translation = sentence(greedy_translation(model, of_source["ids"], longest), run.target if run else None)
    pair = Pair(of_source, translation if target is None else read(target, "target", run), run)
    refuse_too_large(model, pair)
    traced = _traced(model, pair, broken)
    meta = _meta(traced, run)
    meta["trained_dtype"] = trained_dtype
    meta["target_from"] = "greedy" if target is None else "given"
    meta["broken"], meta["nudge"], meta["served"] = broken, change, served
    found: Any = {
        "schema": SCHEMA,
        "meta": meta,
        "translation": translation,
        **_found(traced, pair, beside, limit),
    }
    return found


def _found(traced: Traced, pair: Pair, beside: tuple[Run, Translator] | None, limit: int) -> dict[str, Any]:
    """The data of a traced pass."""
    source, target = pair.source, pair.target
    sites = find_sites(traced)
    tokens = tokens_of(traced, pair)
    paths = [find_paths(traced, _name(pair.run), source["tokens"], tokens)]
    if beside is not None:
        paths.append(_paths_beside(beside, source["text"], target["text"]))
    store = Store(limit)
    described = [described_site(traced, site, store, source["tokens"], tokens) for site in sites]
    modules, lines, tape = tape_of(traced, sites)
    arrays, kept, dropped = store.kept()
    return {
        "source": source,
        "target": target,
        "tokens": tokens,
        "symbols": symbols_of(range(traced.logits.shape[-1]), pair.run.target if pair.run else None),
        "check": check(traced, sites),
        "sites": without(dropped, described),
        "paths": [each for each in paths if each is not None],
        "snippets": find_snippets(site.score for site in sites),
        "ops": ops_of(traced),
        "modules": modules,
        "lines": lines,
        "tape": tape,
        "kept": kept,
        "arrays": arrays,
    }


def _meta(traced: Traced, run: Run | None) -> Meta:
    """Facts about model and run; `build` adds the options of the call."""
    model = traced.model
    return {
        "model": type(model).__name__,
        "config": dataclasses.asdict(run.config.model) if run else {},
        "run": _name(run),
        "seed": run.config.training.seed if run else None,
        "commit": _commit(run),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": "float64",
        "trained_dtype": "float64",
        "loss": float(traced.loss.values[0]),
        "target_from": "given",
        "broken": None,
        "nudge": None,
        "nudgeable": [{"name": name, "shape": list(p.shape)} for name, p in model.named_parameters()],
        "served": None,
    }


def _name(run: Run | None) -> str:
    return run.directory.resolve().name if run else ""


def _commit(run: Run | None) -> str:
    try:
        about = json.loads((run.directory / "run.json").read_text(encoding="utf-8")) if run else {}
    except (OSError, ValueError):
        return ""
    return str(about.get("versions", {}).get("commit", ""))


def _paths_beside(beside: tuple[Run, Translator], source: str, target: str) -> Paths | None:
    run, model = beside
    pair = Pair(read(source, "source", run), read(target, "target", run), run)
    traced = _traced(in_float64(model), pair, None)
    return find_paths(traced, _name(run), pair.source["tokens"], tokens_of(traced, pair))


def _traced(model: Translator, pair: Pair, broken: str | None) -> Traced:
    ids = pair.source["ids"], pair.target["ids"]
    return trace_broken(model, *ids, broken) if broken else trace(model, *ids)
