"""The view of the averages over many sentences: its numbers, what it saves, and where the shown sentence stands."""

import csv
import io
import json

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from views import show, tabs

PAIRS = [(SOURCE, TARGET), ([4, 6, 5], [5, 4, 6, 7, 7]), ([8, 8, 7, 4, 5, 6, 4], [6]), ([5], [4, 4, 7])]
PARTS = ["mean", "error", "lower", "median", "upper", "own"]


@pytest.fixture(scope="module")
def found():
    return microscope(make("transformer"), SOURCE, TARGET, sentences=PAIRS)


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("sentences") / "page.html"
    found.save(path)
    return path


def curve(found, name, of="", measure=""):
    (one,) = [c for c in found.data["sentences"]["curves"] if (c["name"], c["of"], c["measure"]) == (name, of, measure)]
    return one


def number(text):
    return float(text.replace("−", "-")) if text else None


def table(page, section):
    """The numbers of a section's table, after opening it."""
    details = page.locator(f"{section} details").first
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    rows = details.locator("tbody tr")
    cells = "(all, parts) => all.map((row) => parts.map((part) => row.querySelector(`.${part}`).title))"
    return [[number(cell) for cell in row] for row in rows.evaluate_all(cells, PARTS)]


def expected(one):
    return [[one[part][k] for part in PARTS] for k in range(len(one["places"]))]


@pytest.mark.parametrize("name", ["distance", "position"])
def test_the_table_has_the_numbers_of_what_is_chosen(visit, file, found, name):
    page, section = visit(file), f"#sentences-{name}"
    show(page, "sentences")
    assert table(page, section) == expected(curve(found, name, "source", "norm"))
    page.locator(f"{section} select").nth(1).select_option("share")
    assert table(page, section) == expected(curve(found, name, "source", "share"))
    page.locator(f"{section} select").first.select_option("target")
    assert table(page, section) == expected(curve(found, name, "target", "share"))
    assert page.locator(f"{section} svg").count() == 1 and "median goes from" in page.inner_text(section)


def test_every_head_of_every_layer_has_a_row(visit, file, found):
    page = visit(file)
    show(page, "sentences")
    heads = sum(site["heads"] for site in found.data["sites"])
    rows = page.locator("#sentences-heads > .scroll tbody tr")
    assert rows.count() == heads
    site = found.data["sites"][-1]["id"]
    shown = [number(cell) for cell in rows.last.locator(".mean").evaluate_all("(all) => all.map((cell) => cell.title)")]
    assert shown == [curve(found, kind, site)["mean"][-1] for kind in ("entropy", "gradient")]


def test_what_is_saved_is_what_was_computed(visit, file, found):
    page = visit(file, accept_downloads=True)
    show(page, "sentences")
    table(page, "#sentences-distance")
    with page.expect_download() as download:
        page.locator("#sentences-distance details button").click()
    assert download.value.suggested_filename == "sentences-distance-source-norm.csv"
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    one = curve(found, "distance", "source", "norm")
    assert [int(row["place"]) for row in rows] == one["places"] and [int(row["count"]) for row in rows] == one["count"]
    assert [[number(row[part]) for part in PARTS] for row in rows] == expected(one)
    with page.expect_download() as download:
        page.locator("#save-sentences").click()
    saved = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert saved["texts"] == [list(text) for text in found.data["sentences"]["texts"]]
    for mine, other in zip(saved["curves"], found.data["sentences"]["curves"], strict=True):
        assert mine["mean"] == other["mean"] and len(mine["values"]) == len(PAIRS)
        assert sum(row[0] is not None for row in mine["values"]) == other["count"][0]


def test_it_says_how_typical_the_sentence_is(visit, file, found):
    page = visit(file, locale="en-US")
    show(page, "sentences")
    loss = curve(found, "loss")
    assert f"larger than that of {loss['below'][0] or 'only 0'} of {len(PAIRS)} others" in page.inner_text("#typical")


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(visit, file, locale, width):
    page = visit(file, locale=locale, viewport={"width": width, "height": 800})
    show(page, "sentences")
    for summary in page.locator("#panel summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_page_without_averages_has_no_such_tab(visit, tmp_path):
    path = tmp_path / "page.html"
    microscope(make("bahdanau"), SOURCE, TARGET).save(path)
    assert "sentences" not in tabs(visit(path))
