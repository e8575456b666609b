"""Carries out an experiment: measures what is missing, keeps each trial at once, then judges, prints and draws."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tinygrad_attn as ta
from tinygrad_attn.atomic import atomic_path

from ...console.counts import clock, counted
from ...console.program import command_line
from ...console.tables import plain_table, print_table
from ...console.working import is_quiet, working
from .experiment import Experiment, Trial
from .figures import THEMES, draw, figure_name
from .page import LANGUAGES, write_page
from .results import FILE, Results, describe_mixed
from .tables import tables
from .verdict import VERDICTS, judge, verdict

__all__ = ["carry_out"]


def carry_out(name: str, experiment: Experiment[Any], folder: Path, seeds: Sequence[int], quick: bool) -> Results:
    """Measure with each seed what has not been measured yet, then print, and write figures, table and page.

    After Ctrl-C the same happens with what has been measured, and a later call goes on from there.

    Args:
        name: of the experiment, and of its folder in ``folder``.
        experiment: itself.
        folder: for all experiments.
        seeds: at least one.
        quick: take the quick sizes.

    Raises:
        UserError: the folder holds other results.
        KeyboardInterrupt: as it came, when all has been written.
    """
    results = Results(name, experiment, folder / name, experiment.quick if quick else experiment.full)
    try:
        _measure(results, seeds)
    except KeyboardInterrupt:
        if results.measured:
            _publish(results, folder)
            words = [name, *(["--quick"] if quick else []), "--out", str(folder)]
            print(
                f"Interrupted; what was measured is kept. The rest is measured by:\n    {command_line('lab', *words)}"
            )
        raise
    _publish(results, folder)
    return results


def _measure(results: Results, seeds: Sequence[int]) -> None:
    """Make the missing trials, and tell of each."""
    missing = results.missing(seeds)
    experiment = results.experiment
    with working(f"measuring {results.name}, trial", len(missing)) as advance:
        for number, (seed, case) in enumerate(missing):
            ta.manual_seed(seed)
            began = time.perf_counter()
            measured = experiment.measure(Trial(case, seed, results.sizes, results.folder))
            results.add(seed, case, measured, time.perf_counter() - began)
            advance(1)
            if not is_quiet():
                left = _time_left(results, missing[number + 1 :])
                took = clock(results.seconds[seed][case])
                print(f"{results.name}: {experiment.cases[case].en}, seed {seed}, took {took}; {left}", flush=True)


def _time_left(results: Results, trials: Sequence[tuple[int, str]]) -> str:
    """About how long the trials will take: as long as their cases have taken, or else as the others."""
    if not trials:
        return "all measured"
    known: dict[str, list[float]] = {}
    for cases in results.seconds.values():
        for case, seconds in cases.items():
            known.setdefault(case, []).append(seconds)
    every = [seconds for of_case in known.values() for seconds in of_case]
    left = sum(sum(of := known.get(case, every)) / len(of) for _, case in trials)
    return f"{counted(len(trials), 'trial')} left, about {clock(left)}"


def _publish(results: Results, folder: Path) -> None:
    """Print the outcome, and write the table, the figures, and the page of all experiments."""
    own = results.folder
    found = tables(results, "en")
    blocks = [f"{table.title}\n{plain_table(table.headers, table.rows)}".lstrip("\n") for table in found]
    files = {"table.txt": "\n\n".join(blocks) + "\n"}
    for language in LANGUAGES:
        for theme in THEMES:
            files[figure_name(language, theme)] = draw(results, language, theme)
    for name, text in files.items():
        with atomic_path(own / name) as path:
            path.write_text(text, encoding="utf-8")
    page = write_page(folder)
    print(f"{results.experiment.claim.en}")
    print(f"Seeds {', '.join(map(str, sorted(results.measured)))}; in brackets what they range over.")
    for table in found:
        if table.title:
            print(f"{table.title}:")
        print_table(table.headers, table.rows)
    if mixed := results.mixed():
        print(
            f"Note: these numbers come from different versions: {describe_mixed(mixed)}; remove {own / FILE} to "
            "measure all anew"
        )
    judged = judge(results)
    for each in judged:
        expect, seeds = each.expect, len(each.found.values)
        outcome = f"expected {expect.bounds()}, found {each.found.text(expect.format)}"
        print(f"{expect.words.en}: {outcome}: in {each.held} of {counted(seeds, 'seed')}")
    print(f"The claim {VERDICTS[verdict(judged)].en}. In {own}: {', '.join(files)}; all experiments: {page}")
