"""What is done with trained runs: translate, evaluate, compare and microscope, from their parsed arguments on.

Each returns the exit code, and raises `CommandError`, `DataError` or `ConfigError` for what cannot be done.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..console.errors import CHECK_FAILED, CommandError
from ..console.sentences import SentenceProgress
from ..data import load_text
from ..decoding.lines import draw_attention, lines_of, lines_of_standard_input, print_translations
from ..evaluation.bleu import BleuSettings
from ..evaluation.comparison import compare as compare_runs
from ..evaluation.comparison import read_runs
from ..evaluation.report import EVALUATION, evaluate_run, print_evaluation
from ..interface import Translator
from ..runs.config import DecodingConfig
from ..runs.folder import Run, RunError

__all__ = ["compare", "evaluate", "microscope", "translate"]


def translate(arguments: argparse.Namespace) -> int:
    """Translate texts, a file's lines, or standard input."""
    if arguments.texts and arguments.file:
        raise CommandError("give texts or --file, not both")
    run, model = _load(arguments.run)
    settings = _decoding(arguments, run.config.decoding)
    if (arguments.n_best or 1) > settings.beam:
        if arguments.beam:
            raise CommandError(f"--n-best {arguments.n_best} needs a beam as wide; raise --beam {arguments.beam}")
        settings = dataclasses.replace(settings, beam=arguments.n_best)
    # Somebody who types wants an answer to each line.
    typed = not arguments.texts and not arguments.file and sys.stdin.isatty()
    lines: Sequence[str] | Iterator[str]
    if arguments.texts:
        lines = arguments.texts
    elif arguments.file:
        lines = list(lines_of(Path(arguments.file)))
    else:
        lines = lines_of_standard_input()
    translated = print_translations(run, model, lines, settings, arguments.n_best, at_once=typed)
    if arguments.attention:
        notice = draw_attention(run, model, translated, Path(arguments.attention))
        if notice:
            print(f"note: {notice}", file=sys.stderr)
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure a run, keep the figures and the picture of BLEU by length in its folder, and print them."""
    from ..evaluation.plots import plot_bleu_by_length  # brings matplotlib, which translate does without

    run, model = _load(arguments.run)
    settings = _decoding(arguments, run.config.decoding)
    given = {"tokenizer": arguments.bleu_tokenizer, "lowercase": arguments.bleu_lowercase}
    bleu_settings = dataclasses.replace(BleuSettings.fitting(run.config.data), **_not_none(given))
    pairs = getattr(load_text(run.config.data), arguments.split)
    with SentenceProgress(len(pairs)) as progress:
        evaluation = evaluate_run(run, model, arguments.split, pairs, settings, bleu_settings, progress.advance)
    evaluation.save(run.directory)
    plot_bleu_by_length({evaluation.model: evaluation}, run.directory / f"bleu_by_length_{arguments.split}.png")
    if arguments.json:
        print(json.dumps(dataclasses.asdict(evaluation), ensure_ascii=False, indent=2))
    else:
        print_evaluation(evaluation)
        print(f"In {run.directory}: {EVALUATION}, bleu_by_length_{arguments.split}.png")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """One table and one picture of several evaluated runs."""
    try:
        compare_runs(read_runs(arguments.runs, arguments.split), Path(arguments.out))
    except RunError as error:
        raise CommandError(str(error)) from error
    return 0


def microscope(arguments: argparse.Namespace) -> int:
    """Look at the forward and backward pass over one pair of sentences: as a page, as JSON, or in the terminal.

    A red badge is a failed check, unless --broken asked for it.
    """
    from ..microscope import microscope as look
    from ..microscope.checks.badge import describe_worst
    from ..microscope.checks.gallery import GALLERY
    from ..microscope.page.terminal import print_microscope

    run, model = _load(arguments.run)
    if arguments.serve:
        return _serve(arguments, run, model)
    beside = _load(arguments.beside) if arguments.beside else None
    found = look(model, arguments.source, arguments.target, run=run, beside=beside, broken=arguments.broken)
    if arguments.view == "term":
        print_microscope(found.data)
    check = found.data["check"]
    if arguments.out or arguments.view == "page":
        path = arguments.out or "microscope.html"
        found.save(path)
        numbers = check["compared"] + check["recomputed"]
        verdict = f"{numbers:,} numbers checked out" if check["ok"] else f"{check['failing']:,} checks fail"
        print(f"{path}: {found.data['source']['text']} → {found.data['target']['text']}; {verdict}")
    if arguments.broken:
        if check["ok"]:
            name, shows = arguments.broken, GALLERY[arguments.broken].shows
            print(f"note: the badge is green although {name} was at work, which shows {shows}", file=sys.stderr)
        return 0
    if not check["ok"]:
        print(f"error: {check['failing']:,} checks fail, the worst: {describe_worst(check)}", file=sys.stderr)
        return CHECK_FAILED
    return 0


def _serve(arguments: argparse.Namespace, run: Run, model: Translator) -> int:
    """The live microscope, until Ctrl-C."""
    others = {"--out": arguments.out, "--beside": arguments.beside, "--broken": arguments.broken}
    given = [name for name, value in others.items() if value]
    if given or arguments.view != "page":
        raise CommandError(f"--serve shows the page of one run; leave out {' and '.join(given) or '--view'}")
    from ..microscope.page.serve import MicroscopeServer

    with MicroscopeServer(run, model, {"source": arguments.source, "target": arguments.target}) as server:
        print(f"The microscope is at {server.address}; Ctrl-C ends it", flush=True)
        server.serve_forever()
    return 0


def _load(folder: str) -> tuple[Run, Translator]:
    """The run in a folder, and its best model."""
    try:
        return Run.load(folder)
    except RunError as error:
        raise CommandError(str(error)) from error


def _decoding(arguments: argparse.Namespace, settings: DecodingConfig) -> DecodingConfig:
    """A run's settings, changed by --beam and --length-penalty."""
    given = {"beam": arguments.beam, "length_penalty": arguments.length_penalty}
    return dataclasses.replace(settings, **_not_none(given))


def _not_none(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
