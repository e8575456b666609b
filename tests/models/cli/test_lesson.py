"""The command lesson: lists, runs and writes lessons."""

import json

import pytest
from commands import refused
from tinygrad_attn_models.cli import lesson
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.lessons.cells import cells_of, lessons


def test_it_lists_the_lessons_in_both_languages(capsys):
    assert main(["lesson"]) == 0
    assert capsys.readouterr().out.startswith("1  An autograd engine in 100 lines\n2  Softmax")
    assert main(["lesson", "--language", "ko"]) == 0
    assert capsys.readouterr().out.startswith("1  100줄로 만드는 자동 미분 엔진\n")


def test_it_runs_a_lesson(capsys):
    assert main(["lesson", "2", "--language", "ko"]) == 0
    printed = capsys.readouterr().out
    assert "# 2. 소프트맥스와 야코비 행렬" in printed and "Softmax stands" not in printed
    code = printed.index("    print(p.round(4)")
    assert code < printed.index("[0.6439 0.2369 0.0871 0.0321]") < printed.index("**질문.**")


def test_in_a_terminal_it_waits_after_each_question(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)})())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", asked.append)
    assert main(["lesson", "2"]) == 0
    assert len(asked) == capsys.readouterr().out.count("**Question.**") > 5


def test_a_notebook_does_what_the_file_does(tmp_path, capsys):
    path = tmp_path / "softmax.ipynb"
    assert main(["lesson", "2", "--notebook", str(path), "--language", "ko"]) == 0
    assert str(path) in capsys.readouterr().out
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    texts = ["".join(cell["source"]) for cell in notebook["cells"]]
    expected = [cell for cell in cells_of(lessons()[2]) if cell.language in ("", "ko")]
    assert texts == [cell.text for cell in expected]
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds == ["markdown" if cell.language else "code" for cell in expected]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(kinds)
    exec("\n".join(text for text, kind in zip(texts, kinds, strict=True) if kind == "code"), {})


def test_what_cannot_be(capsys, tmp_path, monkeypatch):
    refused(capsys, ["lesson", "99"], "there is no lesson 99", "1 to")
    refused(capsys, ["lesson", "--notebook", "x.ipynb"], "needs the number of a lesson")
    broken = tmp_path / "01_broken.py"
    broken.write_text("# %%\nx = 1\n\n# %%\nassert x == 2, 'no'\n", encoding="utf-8")
    monkeypatch.setattr(lesson, "lessons", lambda: {1: broken})
    refused(capsys, ["lesson", "1"], "01_broken.py: a claim of the cell from line 5 on fails: no")


@pytest.mark.parametrize("number", lessons())
def test_every_lesson_is_a_notebook(number, tmp_path):
    assert main(["lesson", str(number), "--notebook", str(tmp_path / "x.ipynb")]) == 0


def test_ctrl_d_at_a_question_reads_on_without_asking(monkeypatch, capsys):
    from tinygrad_attn_models.cli import lesson

    def ended(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert not lesson._waits() and capsys.readouterr().out == "\n"
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    assert lesson._waits()
