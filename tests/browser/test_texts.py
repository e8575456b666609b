"""The page over a text of a language model: every view has something to show, and nothing speaks of a source."""

import pytest
from silent import Silent
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.render import render
from views import show, tabs

import tinygrad_attn as ta

TEXT = [4, 6, 5, 7, 6, 5, 8]


@pytest.fixture(scope="module")
def found():
    ta.manual_seed(3)
    return microscope(GPT(9, layers=2, heads=2, d_model=8, context=10).eval(), TEXT)


@pytest.fixture(scope="module")
def file(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "page.html"
    found.save(path)
    return path


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_view_is_there_and_fits(visit, file, locale, width):
    page = visit(file, locale=locale, viewport={"width": width, "height": 800})
    for view in tabs(page):
        show(page, view)
        assert len(page.inner_text("#panel")) > 100, view
        assert page.evaluate("document.documentElement.scrollWidth") == width, view


def test_the_summary_is_of_a_text(visit, file, found):
    page = visit(file)
    show(page, "summary")
    assert page.inner_text(".pair-line").split() == found.data["target"]["text"].split()
    terms = page.locator(".pair-list dt").all_inner_texts()
    assert terms == ["Text", "Loss"] and "no source" in page.inner_text("#panel")
    rows = page.locator("table tbody tr td.loss").all()
    assert [float(cell.get_attribute("title")) for cell in rows] == [token["loss"] for token in found.data["tokens"]]


def test_every_layer_and_head_can_be_chosen(visit, file, found):
    page = visit(file)
    show(page, "site")
    options = page.locator(".controls option").all_inner_texts()
    assert [option.split("(")[-1].rstrip(") \n") for option in options] == [site["id"] for site in found.data["sites"]]
    assert all("causal self-attention" in option for option in options)
    assert page.locator(".heads input").count() == 2


def test_the_paths_are_those_of_the_blocks(visit, file, found):
    page = visit(file)
    show(page, "paths")
    assert "no encoder" in page.inner_text("#panel .note") and page.locator("#panel svg").count() == 0
    rows = page.locator("table").first.locator("tbody tr")
    assert rows.count() == len(found.data["paths"][0]["layers"]) == 4


def test_a_live_page_asks_for_one_text(visit, found, tmp_path):
    meta = {**found.data["meta"], "served": {"token": "x"}}
    path = tmp_path / "live.html"
    path.write_text(render({**found.data, "meta": meta}), encoding="utf-8")
    page = visit(path)
    show(page, "summary")
    assert page.locator("form.live .wide").all_inner_texts() == ["Text"]
    assert page.input_value("form.live .wide input") == found.data["target"]["text"]


def test_a_model_without_attention_has_no_empty_views(visit, tmp_path):
    path = tmp_path / "silent.html"
    microscope(Silent(), TEXT).save(path)
    page = visit(path)
    assert [tab.get_attribute("id") for tab in page.locator("[role=tab]").all()] == [
        "tab-picture",
        "tab-tour",
        "tab-summary",
        "tab-tape",
        "tab-check",
        "tab-parameters",
        "tab-embeddings",
        "tab-step",
    ]
    assert "announces no attention" in page.inner_text("#panel") and "decoder" not in page.inner_text("#panel")
