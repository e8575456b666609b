"""Plots: they are written, and a message names every character that no font has."""

import numpy as np
import pytest

plots = pytest.importorskip("tinygrad_attn_models.evaluation.plots")
from tinygrad_attn_models.decoding.alignment import Alignment  # noqa: E402
from tinygrad_attn_models.evaluation import fonts  # noqa: E402
from tinygrad_attn_models.evaluation.report import LengthScores, Scores  # noqa: E402

HISTORY = [
    {"epoch": n, "train_loss": 2 / n, "valid_loss": 2.1 / n, "train_accuracy": 0.1 * n, "valid_accuracy": 0.1 * n,
     "valid_exact_match": 0.05 * n}
    for n in range(1, 31)
]  # fmt: skip


def alignment(source, target, layers=1, heads=1):
    generator = np.random.default_rng(0)
    weights = {
        f"layer {layer}": generator.dirichlet(np.ones(len(source)), (heads, len(target))) for layer in range(layers)
    }
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


def test_a_grid_of_layers_and_heads(tmp_path, recwarn):
    sentence = alignment("가 나", "abc", layers=2, heads=3)
    notice = plots.plot_attention([sentence, alignment("x", "y", layers=2, heads=3)], tmp_path / "grid.png")
    assert notice == ""
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_every_map_has_its_place_in_the_grid():
    sentence = alignment("wxyz", "ab", layers=2, heads=3)
    grid = plots._Grid(sentence)
    assert grid.map.shape == (2 * 3 - 1, 3 * 5 - 1)
    for layer, weights in enumerate(sentence.weights.values()):
        for head, weight in enumerate(weights):
            np.testing.assert_array_equal(grid.map[3 * layer :, 5 * head :][:2, :4], weight)
    assert np.isnan(grid.map).sum() == grid.map.size - 2 * 3 * 8


def test_a_large_picture_is_made_coarser(tmp_path, monkeypatch):
    from matplotlib.image import imread

    monkeypatch.setattr(plots, "_MOST_PIXELS", 10_000)
    plots.plot_learning_curve(HISTORY, tmp_path / "small.png")
    height, width, _ = imread(tmp_path / "small.png").shape
    assert 8_000 < height * width < 11_000


def test_a_character_that_no_font_has_is_shown_as_its_code_point(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(fonts, "_characters", lambda path: frozenset(map(ord, "␣26.")))
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

    monkeypatch.setattr(fonts.fontManager, "ttflist", [Font(name) for name in holdings])
    monkeypatch.setattr(fonts, "_characters", lambda path: frozenset(map(ord, holdings[path])))
    monkeypatch.setattr(fonts, "_PREFERRED", ("two",))
    assert fonts.find_fonts("b c") == (["two"], "")
    assert fonts.find_fonts("abcd") == (["two", "one", "three"], "")
    assert fonts.find_fonts("cz") == (["two"], "z")


def test_spaces_and_joiners_are_visible():
    assert plots._label(" ", "") == "␣"
    assert plots._label("￭,", "") == "▪,"
    assert fonts.find_fonts("␣▪")[1] == ""


@pytest.mark.parametrize(
    ("symbol", "label"),
    [
        ("\t", "U+0009"), ("\xa0", "U+00A0"), ("\u3000", "U+3000"), ("\u200b", "U+200B"), ("a\x07b", "aU+0007b"),
        ("\u0301", "◌\u0301"), ("$x$", "$x$"), (r"$\frac$", r"$\frac$"), ("_a", "_a"), ("a b", "a␣b"),
        ("x" * 100, "x" * 23 + "…"), ("", ""),
    ],
)  # fmt: skip
def test_labels(symbol, label):
    assert plots._label(symbol, "") == label


HOSTILE = ["a$x^2$b", "_name", r"$\frac$", "tab\there", "$", r"\$", "%&{}", "\x1b[31m", "길 이"]


def figure_of(monkeypatch, draw):
    """The figure that a function draws and would write."""
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    draw()
    return drawn[0]


def test_names_of_runs_are_drawn_as_they_are(tmp_path, monkeypatch, recwarn):
    scores = Scores(1, 10.0, 10.0, 0.1, 0.1, 2.0)
    rows = [LengthScores(1, 2, scores), LengthScores(3, 4, scores)]
    evaluation = type("Evaluation", (), {"split": "test", "by_source_length": rows})
    evaluations = dict.fromkeys(HOSTILE, evaluation)

    def draw():
        plots.plot_comparison(dict.fromkeys(HOSTILE, HISTORY), evaluations, tmp_path / "c.png")

    shown = [plots._printable(name) for name in HOSTILE]
    with monkeypatch.context() as patched:
        figure = figure_of(patched, draw)
    for axes in figure.axes:
        texts = axes.get_legend().get_texts()
        assert [text.get_text() for text in texts] == shown
        assert not any(text.get_parse_math() for text in texts)
    draw()
    plots.plot_bleu_by_length(evaluations, tmp_path / "b.svg")
    assert not recwarn.list
    plots.plot_attention([alignment(HOSTILE, HOSTILE)], tmp_path / "a.png")


def test_the_ending_says_the_format(tmp_path):
    starts = {
        ".png": b"\x89PNG",
        ".svg": b"<?xml",
        ".pdf": b"%PDF",
        ".jpg": b"\xff\xd8",
        "": b"\x89PNG",
        ".SVG": b"<?xml",
    }
    for ending, start in starts.items():
        path = tmp_path / f"a{ending}"
        plots.plot_attention([alignment("ab", "cd")], path)
        assert path.read_bytes().startswith(start), ending
        before = path.read_bytes()
        plots.plot_attention([alignment("ab", "cd")], path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "target", "layers", "heads"),
    [(13, 100, 1, 1), (2400, 30, 1, 1), (2400, 100, 2, 4), pytest.param(5, 3000, 1, 1, marks=pytest.mark.slow)],
)
def test_long_sentences_give_pictures_that_fit_a_screen(tmp_path, monkeypatch, source, target, layers, heads):
    symbols = [f"s{number}" for number in range(source)], [f"t{number}" for number in range(target)]

    def draw():
        plots.plot_attention([alignment(*symbols, layers, heads)], tmp_path / "a.png")

    figure = figure_of(monkeypatch, draw)
    width, height = figure.get_size_inches()
    assert width < 45
    if target == 100 and layers == 1:
        assert height < 15 and width < 15
        labels = [text.get_text() for axes in figure.axes[:-1] for text in axes.get_yticklabels()]
        assert labels == symbols[1]  # every symbol has its name, once, in order
        assert min(text.get_fontsize() for text in figure.axes[0].get_yticklabels()) >= 8


def test_a_picture_of_a_very_long_sentence_can_be_written(tmp_path):
    plots.plot_attention([alignment(["s"] * 2400, ["t"] * 30)], tmp_path / "a.png")


@pytest.mark.parametrize(("symbols", "side"), [(20_000, "the area"), (60_000, "the height")])
def test_a_picture_larger_than_any_can_be_is_written_smaller(tmp_path, symbols, side):
    """The size of the picture of so many symbols, empty: to draw them takes a minute."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns, rows = 7, symbols / 40
    figure = Figure(figsize=(columns * (plots._MARGIN + 0.24 * 2), rows / columns * (plots._MARGIN + 0.24 * 40)))
    plots._save(figure, tmp_path / "a.png")
    Image.MAX_IMAGE_PIXELS, kept = None, Image.MAX_IMAGE_PIXELS
    try:
        width, height = Image.open(tmp_path / "a.png").size
    finally:
        Image.MAX_IMAGE_PIXELS = kept
    most = width * height / plots._MOST_PIXELS if side == "the area" else height / plots._LONGEST_SIDE
    assert 0.99 < most < 1.001


def test_a_box_is_no_glyph():
    # No character is assigned to this number; matplotlib's font of last resort claims to have it all the same.
    assert fonts.find_fonts("a\u0378")[1] == "\u0378"
