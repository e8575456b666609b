"""Figures saved as SVG and PNG are valid files that hold what the page shows."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make, matrix
from tinygrad_attn_models.microscope import microscope

image = pytest.importorskip("PIL.Image", reason="the models extra, whose matplotlib brings Pillow, is not installed")

TOKENS = ["</text><script>", "السلام", "아름다운 단어", "Donaudampfschifffahrt", "&amp;"]
SVG = "{http://www.w3.org/2000/svg}"
SCALE = 60  # rectangles that draw the colour scale
HEADS = {"transformer": 1, "bahdanau": 0}


@pytest.fixture(scope="module", params=["bahdanau", "transformer"])
def seen(request, tmp_path_factory):
    data = microscope(make(request.param), SOURCE, TARGET).data
    for site in data["sites"]:
        if site["role"] != "causal":
            site["keys"] = TOKENS
    for paths in data["paths"]:
        paths["tokens"] = TOKENS
    path = tmp_path_factory.mktemp("figures") / "page.html"
    from tinygrad_attn_models.microscope.page.render import render

    path.write_text(render(data), encoding="utf-8")
    return path, data, HEADS[request.param]


def save(page, name, kind, folder):
    """The file that the button of a figure gives."""
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save {name} as {kind}", exact=True).click()
    assert download.value.suggested_filename == f"{name}.{kind.lower()}"
    download.value.save_as(folder / download.value.suggested_filename)
    return folder / download.value.suggested_filename


def look(visit, file, view, theme="light", **selection):
    page = visit(file, color_scheme=theme, locale="en-US", accept_downloads=True)
    address = "&".join(f"{key}={value}" for key, value in {"view": view, **selection}.items())
    page.evaluate("(hash) => { location.hash = hash; }", address)
    page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
    return page


def texts(tree):
    return [text.text for text in tree.iter(f"{SVG}text")]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("tensor", "part"), [("scores", "value"), ("weights", "gradient")])
def test_a_matrix_as_svg(visit, seen, theme, tensor, part, tmp_path):
    file, data, head = seen
    site = data["sites"][-1]
    page = look(visit, file, "site", theme, head=head)
    figure = f"{site['id']}-{'d' if part == 'gradient' else ''}{tensor}-head{head}"
    tree = ElementTree.parse(save(page, figure, "SVG", tmp_path)).getroot()
    assert tree.tag == f"{SVG}svg" and {node.tag for node in tree.iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "rect", "text")
    }
    numbers = matrix(data, site, tensor, part)[head]
    labels = texts(tree)[1:]
    assert labels[: len(TOKENS)] == TOKENS  # nothing is lost or taken for markup
    cells = [
        text.text for text in tree.iter(f"{SVG}text") if text.get("text-anchor") == "middle" and "fill" in text.attrib
    ]
    shown = np.array([float(cell.replace("−", "-")) for cell in cells]).reshape(numbers.shape)
    assert (abs(shown - numbers) <= 0.5000001 * 10.0 ** np.floor(np.log10(abs(numbers) + (numbers == 0)))).all()
    rectangles = list(tree.iter(f"{SVG}rect"))
    assert len(rectangles) == 1 + numbers.size + SCALE
    assert all(
        re.fullmatch("#[0-9a-f]{6}", rectangle.get("fill")) for rectangle in rectangles
    )  # any program reads these
    width, height = float(tree.get("width")), float(tree.get("height"))
    for rectangle in rectangles:
        x, y = float(rectangle.get("x", 0)), float(rectangle.get("y", 0))
        assert (
            0 <= x <= x + float(rectangle.get("width")) <= width
            and 0 <= y <= y + float(rectangle.get("height")) <= height
        )


def test_a_matrix_as_png_has_the_svgs_colours(visit, seen, tmp_path):
    file, data, head = seen
    page = look(visit, file, "site", head=head)
    figure = f"{data['sites'][-1]['id']}-weights-head{head}"
    tree = ElementTree.parse(save(page, figure, "SVG", tmp_path)).getroot()
    with image.open(save(page, figure, "PNG", tmp_path)) as picture:
        assert picture.format == "PNG" and picture.size == (2 * int(tree.get("width")), 2 * int(tree.get("height")))
        pixels = np.asarray(picture.convert("RGB"))
    for rectangle in tree.iter(f"{SVG}rect"):
        if rectangle.get("width") == "47":  # a cell; its corner is free of its number
            x, y = (2 * round(float(rectangle.get(side))) + 3 for side in ("x", "y"))
            assert "#" + "".join(f"{part:02x}" for part in pixels[y, x]) == rectangle.get("fill")


def test_masked_cells_are_hatched(visit, tmp_path):
    data = microscope(make("transformer"), SOURCE, TARGET)
    file = tmp_path / "page.html"
    data.save(file)
    site = next(site for site in data.data["sites"] if site["role"] == "causal")
    page = look(visit, file, "site", site=site["id"])
    tree = ElementTree.parse(save(page, f"{site['id']}-scores-head0", "SVG", tmp_path)).getroot()
    size = len(TARGET) + 1
    hatched = [rectangle for rectangle in tree.iter(f"{SVG}rect") if rectangle.get("fill") == "url(#masked)"]
    assert len(hatched) == size * (size - 1) // 2 and tree.find(f".//{SVG}pattern[@id='masked']") is not None


def test_the_paths_as_svg(visit, seen, tmp_path):
    file, data, _ = seen
    (paths,) = data["paths"]
    tree = ElementTree.parse(save(look(visit, file, "paths"), f"paths-{paths['model']}", "SVG", tmp_path)).getroot()
    words = texts(tree)
    assert words[0] == tree.get("aria-label") and paths["model"] in words[0]
    assert [word for word in words if word in [token[:14] for token in TOKENS]] == [token[:14] for token in TOKENS]
    marks = {"circle": "value", "rect": "start"}
    for tag, series in marks.items():
        found = [mark for group in tree.iter(f"{SVG}g") for mark in group.iter(f"{SVG}{tag}")]
        sizes = paths["ways"].get(series)  # a Transformer's decoder starts with nothing of the encoder's
        assert len(found) == (0 if sizes is None else 1 + sum(size > 0 for size in sizes))  # one in the legend


def test_a_transformers_layers_symbol_by_symbol(visit, tmp_path):
    """One table for each stack; every symbol's norm past each sublayer and through it, as recorded."""
    data = microscope(make("transformer"), SOURCE, TARGET)
    data.save(tmp_path / "page.html")
    page = look(visit, tmp_path / "page.html", "paths")
    for stack in ("encoder", "decoder"):
        layers = [layer for layer in data.data["paths"][0]["layers"] if f".{stack}." in layer["module"]]
        rows = page.evaluate(
            "(stack) => [...document.querySelector(`[aria-label$=': ${stack}']`).querySelectorAll('tbody tr')]"
            ".map((row) => [...row.querySelectorAll('td.number')].map((cell) => Number(cell.title.replace('−', '-'))))",
            stack,
        )
        expected = [layer[branch] for layer in layers for branch in ("skip", "branch")]
        assert len(rows) == len(layers[0]["tokens"]) and layers
        np.testing.assert_allclose(rows, np.transpose(expected), rtol=1e-12)
