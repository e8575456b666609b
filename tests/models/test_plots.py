"""Pictures: they are written, and no character is ever a box without a word about it."""

import numpy as np
import pytest

plots = pytest.importorskip("models.plots")
from models.alignment import Alignment  # noqa: E402

HISTORY = [
    {"epoch": n, "train_loss": 2 / n, "valid_loss": 2.1 / n, "train_accuracy": 0.1 * n, "valid_accuracy": 0.1 * n,
     "valid_exact_match": 0.05 * n}
    for n in range(1, 31)
]  # fmt: skip


def alignment(source, target):
    weights = np.random.default_rng(0).dirichlet(np.ones(len(source)), len(target))
    return Alignment(weights, list(source), list(target))


def test_the_learning_curve(tmp_path):
    for length in (1, 30):
        plots.plot_learning_curve(HISTORY[:length], tmp_path / f"{length}.png")
        assert (tmp_path / f"{length}.png").read_bytes().startswith(b"\x89PNG")


def test_attention_of_several_sentences(tmp_path, recwarn):
    path = tmp_path / "attention.png"
    notice = plots.plot_attention([alignment("22 Nov '26", ["2", "$x_1$", "</s>"]), alignment("1/2", "abc")], path)
    assert notice == ""
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_a_character_that_no_font_has_is_shown_as_its_code_point(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(plots, "_characters", lambda path: frozenset(map(ord, "␣26.")))
    notice = plots.plot_attention([alignment("26년", "26.")], tmp_path / "attention.png")
    assert "no installed font has 년 (HANGUL)" in notice
    assert "pip install koreanize-matplotlib" in notice
    assert plots._label("년", "년") == "U+B144"
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_fonts_are_added_until_all_characters_are_there(monkeypatch):
    holdings = {"one": "ab", "two": "bc", "three": "d"}

    class Font:
        style, weight = "normal", 400

        def __init__(self, name):
            self.name = self.fname = name

    monkeypatch.setattr(plots.fontManager, "ttflist", [Font(name) for name in holdings])
    monkeypatch.setattr(plots, "_characters", lambda path: frozenset(map(ord, holdings[path])))
    monkeypatch.setattr(plots, "_PREFERRED", ("two",))
    assert plots.find_fonts("b c") == (["two"], "")
    assert plots.find_fonts("abcd") == (["two", "one", "three"], "")
    assert plots.find_fonts("cz") == (["two"], "z")


def test_spaces_and_joiners_are_visible():
    assert plots._label(" ", "") == "␣"
    assert plots._label("￭,", "") == "▪,"
    assert plots.find_fonts("␣▪")[1] == ""


def test_a_box_is_no_glyph():
    # No character is assigned to this number; matplotlib's font of last resort claims to have it all the same.
    assert plots.find_fonts("a\u0378")[1] == "\u0378"
