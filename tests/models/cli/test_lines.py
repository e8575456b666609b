"""A drawn share of the bad command lines and damaged files that tests/fuzz/lines.py tries: none ends in a traceback."""

import pytest
from from_file import FUZZ, module_from

lines = module_from(FUZZ / "lines.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines") / "made"
    lines.make_runs(folder)
    return folder


def faults(seed, count, made, folder):
    return [
        (number, case.damage, case.arguments, lines.problem(outcome))
        for number, case, outcome in lines.cases(seed, count, made, folder)
        if lines.problem(outcome)
    ]


@pytest.mark.slow
def test_many_bad_lines_and_files(made, tmp_path):
    assert faults(12, 150, made, tmp_path) == []


def test_a_fault_is_seen():
    outcome = lines.Outcome(2, "", "", 0.1)
    assert lines.problem(outcome) == "no message"
    outcome.err = "error: list index out of range"
    assert lines.problem(outcome).startswith("Python's own words")
    outcome.failure = "Traceback …"
    assert lines.problem(outcome) == "Traceback …"
