"""From a model and a pair of sentences to the microscope's data."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_attn.record import Call, Leaf, Output, gradient_state

from ...console.errors import CommandError
from ...data import END, START, Tokenizer
from ...interface import Translator
from ...runs.folder import Run
from ..checks.attention import softmax
from ..checks.badge import check
from ..checks.snippets import SNIPPETS
from .arrays import Store, without
from .formulas import cell_formulas, step_formulas
from .paths import find_paths
from .schema import LIMIT, SCHEMA, Data, Paths, Sentence, Site, SiteTensor, State, Step, TapeOp, Token
from .sites import Place, Quantity, find_places
from .trace import Traced, greedy_translation, in_float64, trace, trace_broken

__all__ = ["LONGEST", "build"]

Array = np.ndarray[Any, Any]

LONGEST = 200
"""The most symbols of a source or a target."""
_ROOT = str(Path(__file__).parents[3]) + os.sep
_PREDICTED = 5
_AXES = {
    "Q": ["head", "query", "channel"],
    "K": ["head", "key", "channel"],
    "V": ["head", "key", "channel"],
    "logits": ["head", "query", "symbol"],
    **{name: ["head", "query", "key"] for name in ("scores", "weights", "gaussian", "mixed")},
    **{name: ["head", "query", "channel"] for name in ("context", "joined", "attentional")},
}


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
    """Run the model on a pair, verify what comes out, and put it all into one dict that JSON can hold.

    Args:
        model: any translator; it is copied, and computes in float64.
        source, target: texts, if there is a run with its tokenizers, or ids without <s> and </s>. A target of None
            is the model's own greedy translation.
        run: where the model comes from.
        beside: a second run, for the paths that the gradient takes in it.
        nudge: a change of one weight, see `models.microscope.record.schema.Rerun`.
        broken: the name of a wrong derivative of `models.microscope.checks.gallery` to compute with.
        limit: the most bytes of all arrays together.
        served: what the page needs to talk to the live server.

    Raises:
        CommandError: a sentence that is empty or too long, a text without a run, a nudge of no such weight, or a broken
            derivative that the gallery or the model does not have.
        DataError: a sentence that is too long for the model.
    """
    model = in_float64(model)
    if nudge is not None:
        nudge = _nudged(model, nudge)
    source_ids = _ids(source, "source", run, run.source if run else None)
    longest = run.config.decoding.max_length if run else LONGEST
    translation = greedy_translation(model, source_ids, min(longest, LONGEST))
    target_ids = translation if target is None else _ids(target, "target", run, run.target if run else None)
    traced = trace_broken(model, source_ids, target_ids, broken) if broken else trace(model, source_ids, target_ids)
    places = find_places(traced)
    source_sentence = _sentence(source_ids, run.source if run else None)
    target_sentence = _sentence(target_ids, run.target if run else None)
    paths = [find_paths(traced, places, _name(run), source_sentence["tokens"])]
    if beside is not None:
        paths.append(_paths_beside(beside, source_sentence["text"], target_sentence["text"]))
    store = Store(limit)
    tokens = _tokens(traced, run.target if run else None)
    sites = [_site(traced, place, store, source_sentence["tokens"], tokens) for place in places]
    modules, lines, tape = _tape(traced, places)
    verified = check(traced, places)
    arrays, kept, dropped = store.kept()
    return {
        "schema": SCHEMA,  # type: ignore[typeddict-item]
        "meta": {
            "model": type(model).__name__,
            "config": dataclasses.asdict(run.config.model) if run else {},
            "run": _name(run),
            "seed": run.config.training.seed if run else None,
            "commit": _commit(run),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "dtype": "float64",
            "loss": float(traced.loss.values[0]),
            "target_from": "greedy" if target is None else "given",
            "broken": broken,
            "nudge": nudge,
            "nudgeable": [{"name": name, "shape": list(p.shape)} for name, p in model.named_parameters()],
            "served": served,
        },
        "source": source_sentence,
        "target": target_sentence,
        "translation": _sentence(translation, run.target if run else None),
        "tokens": tokens,
        "check": verified,
        "sites": without(dropped, sites),
        "paths": paths,
        "ops": _ops(traced),
        "modules": modules,
        "lines": lines,
        "tape": tape,
        "snippets": SNIPPETS,
        "kept": kept,
        "arrays": arrays,
    }


# -- sentences ---------------------------------------------------------------------------------------------------------


def _ids(sentence: str | Sequence[int], which: str, run: Run | None, tokenizer: Tokenizer | None) -> list[int]:
    if isinstance(sentence, str):
        if tokenizer is None:
            raise CommandError(f"the {which} is a text, but there is no run with a tokenizer; give ids")
        ids = tokenizer.encode(sentence.strip())
    else:
        ids = [int(number) for number in sentence]
    if not ids and which == "source":
        raise CommandError("the source is empty; give at least one symbol")
    if len(ids) > LONGEST:
        raise CommandError(f"the {which} has {len(ids)} symbols, the microscope takes at most {LONGEST}")
    if run is not None:
        run.refuse_too_long(*(([ids], []) if which == "source" else ([], [ids])))
    return ids


def _sentence(ids: Sequence[int], tokenizer: Tokenizer | None) -> Sentence:
    tokens = [str(number) for number in ids] if tokenizer is None else list(tokenizer.symbols_of(ids))
    text = " ".join(tokens) if tokenizer is None else tokenizer.decode(ids)
    return {"text": text, "tokens": tokens, "ids": list(ids)}


def _tokens(traced: Traced, tokenizer: Tokenizer | None) -> list[Token]:
    probabilities = softmax(traced.logits)

    def symbols(ids: Sequence[int]) -> list[str]:
        return [str(number) for number in ids] if tokenizer is None else list(tokenizer.symbols_of(ids))

    expected = [*traced.target, END]
    read, follow = symbols([START, *traced.target]), symbols(expected)
    tokens: list[Token] = []
    for step, row in enumerate(probabilities):
        best = [int(i) for i in np.argsort(-row, kind="stable")[:_PREDICTED]]
        logits = traced.logits[step]
        highest = logits.max()
        loss = highest + np.log(np.exp(logits - highest).sum()) - logits[expected[step]]
        tokens.append(
            {
                "read": read[step],
                "expected": follow[step],
                "loss": float(loss),
                "probability": float(row[expected[step]]),
                "predicted": [(symbol, float(row[i])) for symbol, i in zip(symbols(best), best, strict=True)],
            }
        )
    return tokens


def _name(run: Run | None) -> str:
    return run.directory.resolve().name if run else ""


def _commit(run: Run | None) -> str:
    try:
        about = json.loads((run.directory / "run.json").read_text(encoding="utf-8")) if run else {}
    except (OSError, ValueError):
        return ""
    return str(about.get("versions", {}).get("commit", ""))


def _nudged(model: Translator, nudge: dict[str, Any]) -> dict[str, Any]:
    """Change one weight, and say from what to what."""
    parameters = dict(model.named_parameters())
    name, index, by = nudge.get("parameter"), nudge.get("index"), nudge.get("by")
    if name not in parameters:
        raise CommandError(f"the model has no parameter {name!r}; its parameters are {', '.join(parameters)}")
    array = parameters[name].array
    fits = (
        isinstance(index, (list, tuple))
        and len(index) == array.ndim
        and all(type(i) is int and 0 <= i < n for i, n in zip(index, array.shape, strict=True))
    )
    if not fits:
        raise CommandError(f"index {index!r} is no place in {name}, whose shape is {list(array.shape)}")
    if isinstance(by, bool) or not isinstance(by, (int, float)) or not np.isfinite(by):
        raise CommandError(f"a weight is nudged by a finite number, got {by!r}")
    place = tuple(index)  # type: ignore[arg-type]
    before = float(array[place])
    array[place] += by
    return {
        "parameter": name, "index": list(place), "by": float(by), "before": before, "after": float(array[place])
    }  # fmt: skip


def _paths_beside(beside: tuple[Run, Translator], source: str, target: str) -> Paths:
    run, model = beside
    source_ids = _ids(source, "source", run, run.source)
    target_ids = _ids(target, "target", run, run.target)
    traced = trace(in_float64(model), source_ids, target_ids)
    return find_paths(traced, find_places(traced), _name(run), list(run.source.symbols_of(source_ids)))


# -- places of attention -----------------------------------------------------------------------------------------------


def _site(traced: Traced, place: Place, store: Store, source: Sequence[str], tokens: Sequence[Token]) -> Site:
    model = type(traced.model).__name__
    read = [token["read"] for token in tokens]
    labels = {"self": (source, source), "causal": (read, read), "cross": (read, source)}[place.role]
    formulas = cell_formulas(place.score, "mixed" in place.quantities)
    tensors = {}
    for name, quantity in place.quantities.items():
        priority = "logits" if name == "logits" else "site" if name not in ("joined", "attentional") else "decoder"
        tensors[name] = _tensor(
            f"{place.id}: {name}", quantity, _AXES[name], formulas.get(name, ("", "")), store, priority
        )
    steps: list[Step] = []
    for key, tensor, reads, latex, backward in step_formulas(place.score, "mixed" in place.quantities, model):
        steps.append(
            {
                "key": key,
                "latex": latex,
                "backward_latex": backward,
                "tensor": tensor if tensor in tensors else None,
                "reads": reads,
                "calls": [call.index for call in place.steps.get(key, [])],
            }
        )
    layer = [part for part in place.id.split(".") if part.isdecimal()]
    return {
        "id": place.id,
        "role": place.role,
        "score": place.score,  # type: ignore[typeddict-item]
        "module": place.module,
        "layer": int(layer[0]) if layer else None,
        "heads": len(place.quantities["weights"].value),
        "scale": place.scale,
        "queries": list(labels[0]),
        "keys": list(labels[1]),
        "tensors": tensors,
        "mask": None if place.mask is None else store.put(f"{place.id}: mask", place.mask, "site"),
        "weights": {
            name: store.put(f"{place.id}: {name}", array, "weight") for name, array in place.parameters.items()
        },
        "steps": steps,
    }


def _tensor(
    name: str, quantity: Quantity, axes: list[str], formulas: tuple[str, str], store: Store, priority: str
) -> SiteTensor:
    value, gradient = quantity.value, quantity.gradient
    return {
        "axes": axes,
        "shape": list(value.shape),
        "value": store.put(name, value, priority),
        "gradient": None if gradient is None else store.put(f"dL/d {name}", gradient, priority),
        "state": gradient_state(gradient),
        "norm": _norm(value),
        "gradient_norm": None if gradient is None else _norm(gradient),
        "latex": formulas[0],
        "gradient_latex": formulas[1],
        "calls": [call.index for call in quantity.calls()],
    }


# -- the tape ----------------------------------------------------------------------------------------------------------


def _tape(traced: Traced, places: Sequence[Place]) -> tuple[list[str], list[str], list[TapeOp]]:
    """The modules, the source lines, and a row for each op of the forward pass."""
    names: dict[int, str] = {id(leaf): name for name, leaf in traced.parameters().items()}
    belongs: dict[int, tuple[str, str]] = {}
    for place in places:
        for name, quantity in place.quantities.items():
            for part in quantity.parts:
                if not part.operand:
                    belongs.setdefault(part.call.index, (place.id, name))
                elif name in ("scores", "gaussian", "mixed") and isinstance(part.source, Output):
                    belongs.setdefault(part.source.call.index, (place.id, name))
    modules: dict[str, int] = {}
    lines: dict[str, int] = {}
    tape: list[TapeOp] = []
    for call in traced.calls:
        value = call.values[0]
        floating = value.dtype.kind == "f"
        row: TapeOp = {
            "op": traced.name(call.op),
            "module": modules.setdefault(call.module, len(modules)),
            "step": call.step,
            "line": lines.setdefault(call.line.removeprefix(_ROOT), len(lines)),
            "shape": list(value.shape),
            "dtype": value.dtype.name,
            "norm": _norm(*call.values) if floating else None,
            "gradient_norm": _gradient_norm(call),
            "state": _state(call),
            "inputs": [_input(source, names) for source in call.inputs],
            "edges": [
                _norm(call.contributions[position]) if position in call.contributions else None
                for position in range(len(call.inputs))
            ],
        }
        if call.index in belongs:
            row["site"], row["tensor"] = belongs[call.index]
        tape.append(row)
    return list(modules), [_short(line) for line in lines], tape


def _short(line: str) -> str:
    """Without the folders that are somebody's own."""
    return line if not os.path.isabs(line) else os.path.basename(line)


def _input(source: Output | Leaf | None, names: dict[int, str]) -> int | str | None:
    if isinstance(source, Output):
        return source.call.index
    return None if source is None else names.get(id(source))


def _norm(*arrays: Array) -> float:
    """The Euclidean norm of all their numbers."""
    return float(np.sqrt(np.sum([np.sum(array * array) for array in arrays])))


def _gradient_norm(call: Call) -> float | None:
    arrived = [gradient for gradient in call.gradients if gradient is not None]
    return _norm(*arrived) if arrived else None


def _state(call: Call) -> State:
    """Of all outputs together: the op has a gradient if one of them has."""
    states = {gradient_state(gradient) for gradient in call.gradients}
    return next(state for state in ("nan", "value", "zero", "none") if state in states)  # type: ignore[return-value]


def _ops(traced: Traced) -> dict[str, dict[str, Any]]:
    found = {
        traced.name(op): {"latex": op.formula, "vjp": dict(derivatives)}
        for op, derivatives in traced.derivatives.items()
    }
    return dict(sorted(found.items()))
