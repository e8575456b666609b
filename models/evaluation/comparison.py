"""A table and a picture that compare several runs: the command ``compare``."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..console.counts import clock
from ..console.tables import print_table
from ..console.working import is_quiet
from ..data.task import SYMBOL_SETTINGS
from ..runs.folder import LAST, Run, RunError
from ..runs.jsons import read_json
from .report import Evaluation, describe_decoding

__all__ = ["Compared", "compare", "read_runs"]


@dataclass(frozen=True)
class Compared:
    """The results of a run, from the files in its folder."""

    name: str
    evaluation: Evaluation
    history: list[dict[str, float]]
    """The epochs of ``log.csv``; empty if there is none."""
    seconds: float | None
    """Of training; None if it is not recorded."""


def read_runs(directories: Sequence[str | os.PathLike[str]], split: str) -> list[Compared]:
    """The runs in these folders, with the evaluation of each on a split of its data.

    Raises:
        RunError: a folder is missing or named twice, or its run is not evaluated yet, or of a language model; or a file
            is damaged.
    """
    paths = [Path(directory) for directory in directories]
    twice = [path for number, path in enumerate(paths) if path in paths[:number]]
    if twice:
        raise RunError(f"{twice[0]} is named twice")
    return [
        Compared(name, Evaluation.load(path, split), _history(path), _seconds(path))
        for name, path in zip(_names(paths), paths, strict=True)
    ]


def compare(runs: Sequence[Compared], picture: Path) -> None:
    """Print a table of the runs, and draw their learning curves and BLEU by length.

    Args:
        runs: at least one, all measured on the same split.
        picture: the file to write; its ending says the format.
    """
    from .plots import plot_comparison

    print_table(
        ["run", "model", "parameters", "BLEU", "chrF", "exact match", "perplexity*", "decoding", "seed", "training"],
        [_cells(run) for run in runs],
    )
    print("* teacher-forced, per symbol of the target tokenizer")
    for remark in () if is_quiet() else _remarks([run.evaluation for run in runs]):
        print(f"Note: {remark}")
    histories = {run.name: run.history for run in runs if run.history}
    plot_comparison(histories, {run.name: run.evaluation for run in runs}, picture)
    print(f"Learning curves and BLEU by length: {picture}")


def _cells(run: Compared) -> list[str]:
    scores = run.evaluation.scores
    return [
        run.name,
        run.evaluation.model,
        f"{run.evaluation.parameters:,}",
        f"{scores.bleu:.2f}",
        f"{scores.chrf:.2f}",
        f"{100 * scores.exact_match:.2f} %",
        f"{scores.perplexity_teacher_forced:.3f}",
        describe_decoding(run.evaluation.decoding),
        str(run.evaluation.seed),
        "–" if run.seconds is None else clock(run.seconds),
    ]


def _remarks(evaluations: Sequence[Evaluation]) -> list[str]:
    """Notes on figures in one column that cannot be compared; empty if all can."""
    remarks = []
    for metric, signatures in (
        ("BLEU", {evaluation.bleu_signature for evaluation in evaluations}),
        ("chrF", {evaluation.chrf_signature for evaluation in evaluations}),
    ):
        if len(signatures) > 1:
            remarks.append(f"{metric} is not computed alike: {' and '.join(sorted(signatures))}")
    if _differ([evaluation.text for evaluation in evaluations], [_text(evaluation) for evaluation in evaluations]):
        remarks.append("the runs were not measured on the same text")
    if _differ([evaluation.trained_on for evaluation in evaluations], []):
        remarks.append("the runs were not trained on the same text")
    tokenizers = {json.dumps(_tokenizer(evaluation), sort_keys=True) for evaluation in evaluations}
    if len(tokenizers) > 1:
        remarks.append("the tokenizers differ, so the perplexities cannot be compared")
    return remarks


def _differ(fingerprints: Sequence[str], settings: Sequence[dict[str, Any]]) -> bool:
    """Whether fingerprints of text differ; if not all are known, whether the settings that lead to the text do."""
    if all(fingerprints):
        return len(set(fingerprints)) > 1
    return len({json.dumps(one, sort_keys=True) for one in settings}) > 1


def _text(evaluation: Evaluation) -> dict[str, Any]:
    data = evaluation.config.data
    return {field.name: getattr(data, field.name) for field in data.fields() if not field.metadata["affects"]}


def _tokenizer(evaluation: Evaluation) -> dict[str, Any]:
    data = evaluation.config.to_dict()["data"]
    return {key: data[key] for key in SYMBOL_SETTINGS}


def _names(paths: Sequence[Path]) -> list[str]:
    """The names of the folders if they are distinct, else the paths."""
    names = [Path(os.path.realpath(path)).name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _history(directory: Path) -> list[dict[str, float]]:
    path = directory / "log.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = [{"epoch": int(row["epoch"]), "valid_loss": float(row["valid_loss"])} for row in rows]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{path} is damaged: it is no log of training with epoch and valid_loss") from error
    for row, kept in zip(found, _kept_history(directory), strict=False):  # one may have an epoch more
        if any(row[name] != kept.get(name) for name in row):
            raise RunError(f"{path} is damaged: epoch {kept.get('epoch')} is another in {LAST}; remove the file")
    return found


def _kept_history(directory: Path) -> list[dict[str, Any]]:
    """The same, from the last checkpoint, which has a checksum; empty if it cannot be read."""
    try:
        return list(Run.open(directory, LAST)[2]["history"])
    except (RunError, KeyError, TypeError):
        return []


def _seconds(directory: Path) -> float | None:
    path = directory / "run.json"
    try:
        return float(read_json(path)["results"]["training_seconds"])
    except (FileNotFoundError, KeyError):
        return None  # training has not finished
    except (TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged: it is no description of a run") from error
