"""Sentences of any script: Arabic runs from right to left, and the matrices' axes stay in the sentence's order."""

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.render import render
from views import show

ARABIC = ["صباح", "الخير", "يا", "صديقي", "العزيز"]
BOXES = "(all) => all.map((each) => each.getBoundingClientRect().left)"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    data = microscope(make("bahdanau"), SOURCE, TARGET).data
    data["source"].update(tokens=ARABIC, text=" ".join(ARABIC))
    for site in data["sites"]:
        site["keys"] = ARABIC
    for paths in data["paths"]:
        paths["tokens"] = ARABIC
    path = tmp_path_factory.mktemp("scripts") / "page.html"
    path.write_text(render(data), encoding="utf-8")
    return path


def test_an_arabic_sentence_runs_from_right_to_left(visit, file):
    page = visit(file)
    show(page, "summary")
    source, target = page.locator(".sentence").all()[:2]
    assert source.locator(".token").all_inner_texts() == ARABIC
    lefts = source.locator(".token").evaluate_all(BOXES)
    assert lefts == sorted(lefts, reverse=True)
    others = target.locator(".token").evaluate_all(BOXES)  # and the target from left to right
    assert others == sorted(others)


def test_each_symbol_is_set_apart_in_its_own_direction(visit, file):
    page = visit(file)
    for view, selector in (
        ("steps", ".row th bdi"),
        ("site", ".heatmap thead bdi"),
        ("jacobian", ".products bdi"),
        ("paths", ".runs td + th bdi"),
    ):
        show(page, view)
        found = page.locator(selector).evaluate_all(
            """(all) => all.map((each) => [each.textContent, getComputedStyle(each)])
            .map(([text, style]) => [text, style.direction, style.unicodeBidi])"""
        )
        arabic = [(direction, bidi) for text, direction, bidi in found if text in ARABIC]
        assert len(arabic) >= len(ARABIC) and set(arabic) == {("rtl", "isolate")}


def test_columns_keep_the_order_of_the_sentence(visit, file):
    page = visit(file)
    show(page, "site")
    heads = page.locator("table.heatmap").first.locator("thead th")
    assert heads.all_inner_texts() == ARABIC
    lefts = heads.evaluate_all(BOXES)
    assert lefts == sorted(lefts)
