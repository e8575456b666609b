"""The lessons: each runs, its claims can fail, its texts are in two languages, and README links them in order."""

import ast
import contextlib
import io
import re
import runpy
from pathlib import Path

import numba
import pytest
from tinygrad_attn_models.lessons.cells import QUESTIONS, cells_of, lessons, title_of

from tinygrad_attn.check import CheckError
from tinygrad_attn.op import _OPS

ROOT = Path(__file__).parents[3]
LESSONS = lessons()

TRAINS = {6, 8}

# A mistake for each lesson: the code, the mistake, and what then fails. (The first place in the lesson is changed.)
MISTAKES = [
    (1, "lambda g: g * y.array, lambda g: g * x.array", "lambda g: g * x.array, lambda g: g * y.array"),
    (1, "max(waiting", "min(waiting"),
    (1, "g * (1 - z * z)", "g * (1 + z * z)"),
    (1, "lambda g: g, lambda g: -g", "lambda g: g, lambda g: g"),
    (1, "        if size == 1:\n            share", "        if size == 7:\n            share"),
    (2, "p * (p_bar - (p * p_bar).sum())", "p * p_bar"),
    (2, "np.diag(p) - np.outer(p, p)", "np.diag(p) + np.outer(p, p)"),
    (2, "d**-0.5)", "d**-0.25)"),
    (3, "(1.0 - z) * n + z * h", "z * n + (1.0 - z) * h"),
    (3, "h_as_start[0][5:]", "h_as_start[0][:5]"),
    (3, 's = gru(ta.cat([y, c]), s, "decoder")', 's = gru(ta.cat([c, y]), s, "decoder")'),
    (4, "(1 - s_tilde**2)", "(1 - s_tilde)"),
    (4, "h_bar = h_bar_value + h_bar_key", "h_bar = h_bar_value"),
    (4, "(alpha * alpha_bar).sum(1, keepdims=True)", "alpha_bar.mean(1, keepdims=True)"),
    (5, "math.sqrt(q.shape[-1])", "q.shape[-1]"),
    (5, 'norm(x + feed_forward(x, name), f"{name}.norm3")', 'x + norm(feed_forward(x, name), f"{name}.norm3")'),
    (5, "np.tri(x.shape[0], dtype=bool)", "np.ones((x.shape[0],) * 2, dtype=bool)"),
    (6, "h = h + think", "h = think"),
    (6, "transpose(1, 2).reshape(B, T, D)", "reshape(B, T, D)"),
    (7, "result[i] = g[i] * (1.0 - share * share)", "result[i] = g[i] * (1.0 - share)"),
    (7, "return ta.tanh(x / c) * c", "return ta.tanh(x / c)"),
    (8, "claimed = [DIGITS + digit for digit in (5, 4, 9, 2, 1)]", "claimed = shown[::-1]"),
]


def run(number):
    """What a lesson prints, and the names that it defines."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(LESSONS[number]))
    return printed.getvalue(), names


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=pytest.mark.slow) if number in (6, 8) else number for number in LESSONS]
)
def test_it_runs(number):
    if number in TRAINS and numba.config.DISABLE_JIT:
        pytest.skip("trains: too slow without compiled kernels")
    printed, _ = run(number)
    assert len(printed.splitlines()) >= 5


@pytest.fixture(autouse=True)
def _own_ops(monkeypatch):
    """The op that a lesson defines is forgotten after it."""
    monkeypatch.setattr(_OPS, "_found", dict(_OPS._found))


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [pytest.param(*mistake, marks=pytest.mark.slow) if mistake[0] == 8 else mistake for mistake in MISTAKES],
)
def test_its_claims_can_fail(number, before, after):
    if number in TRAINS and numba.config.DISABLE_JIT:
        pytest.skip("trains: too slow without compiled kernels")
    source = LESSONS[number].read_text(encoding="utf-8")
    assert before in source, f"lesson {number} has no {before!r}"
    changed = compile(source.replace(before, after, 1), LESSONS[number].name, "exec")
    # What a lesson claims, or shapes that no longer fit; a name that is not there would be a mistake of the test's.
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises((AssertionError, ValueError, IndexError, CheckError)):
        exec(changed, {"__name__": "lesson"})


def test_every_lesson_has_its_mistakes():
    assert {number for number, *_ in MISTAKES} == set(LESSONS)


def test_they_are_counted_without_a_gap():
    assert list(LESSONS) == list(range(1, len(LESSONS) + 1))


def test_the_readme_links_them_in_order():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"^(\d+)\. \[([^\]]+)\]\((models/lessons/[^)]+)\)$", readme, re.MULTILINE)
    found = [(str(n), title_of(path), path.relative_to(ROOT).as_posix()) for n, path in LESSONS.items()]
    assert linked == [(n, title, path) for n, title, path in found]


@pytest.mark.parametrize("number", LESSONS)
def test_each_text_stands_in_both_languages(number):
    cells = list(cells_of(LESSONS[number]))
    texts = [cell for cell in cells if cell.language]
    assert [cell.language for cell in texts] == ["en", "ko"] * (len(texts) // 2)
    for english, korean in zip(texts[::2], texts[1::2], strict=True):
        assert cells.index(korean) == cells.index(english) + 1
        for count in (
            (lambda text: text.count("\n\n")),
            (lambda text: text.count("\n#")),
            (lambda text: text.count("`")),
        ):
            assert count(english.text) == count(korean.text), english.text
        asked = [QUESTIONS[cell.language] in cell.text for cell in (english, korean)]
        assert asked[0] == asked[1]
        assert re.search("[가-힣]", korean.text) and not re.search("[가-힣]", english.text.replace("한국어", ""))


@pytest.mark.parametrize("number", LESSONS)
def test_it_asks_before_it_answers(number):
    cells = list(cells_of(LESSONS[number]))
    questions = [i for i, cell in enumerate(cells) if QUESTIONS["ko"] in cell.text]
    assert len(questions) >= 4
    for i in questions:
        answer = next(cell for cell in cells[i + 1 :] if not cell.language)
        assert not answer.language and "assert" in "".join(cell.text for cell in cells[i + 1 : i + 5])


@pytest.mark.parametrize("number", LESSONS)
def test_what_it_prints_is_checked(number):
    """A cell that prints a number asserts something, there or in the next piece of code."""
    code = [cell for cell in cells_of(LESSONS[number]) if not cell.language]
    for cell, after in zip(code, [*code[1:], None], strict=True):
        shows = any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == "print" for node in ast.walk(ast.parse(cell.text))
        )
        checked = "assert" in cell.text or (after is not None and "assert" in after.text)
        assert not shows or checked, f"line {cell.line}"


def test_a_line_that_begins_no_cell(tmp_path):
    (tmp_path / "01_x.py").write_text("# %% [markdwn]\n# text\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"01_x.py, line 1: '# %% \[markdwn\]' begins no cell"):
        list(cells_of(tmp_path / "01_x.py"))
    (tmp_path / "01_x.py").write_text("# %% [markdown]\nx = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: the text below it has a line that is no comment"):
        list(cells_of(tmp_path / "01_x.py"))
