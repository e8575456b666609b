"""On a screen as narrow as a telephone's no view is wider than the screen, and no formula is cut off for good."""

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from views import show, tabs

WIDTH = 420


@pytest.fixture(scope="module", params=["bahdanau", "luong concat local-p feeding", "transformer"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("narrow") / "page.html"
    microscope(make(request.param), SOURCE, TARGET).save(path)
    return path


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_nothing_is_wider_than_the_screen(visit, file, locale):
    page = visit(file, locale=locale, viewport={"width": WIDTH, "height": 800})
    for view in tabs(page):
        show(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") == WIDTH, view


def test_formulas_that_do_not_fit_can_be_scrolled_and_show_it(visit, file):
    page = visit(file, viewport={"width": WIDTH, "height": 800})
    show(page, "steps")
    page.wait_for_selector(".step .formula-block")
    for block in page.locator(".step .formula-block").all():
        found = block.evaluate(
            """(block) => {
              const style = getComputedStyle(block), card = block.closest(".step");
              return {
                cut: block.scrollWidth > block.clientWidth, overflow: style.overflowX,
                shadows: style.backgroundImage.split("linear-gradient").length - 1,
                card: card.scrollWidth <= card.clientWidth,
              };
            }"""
        )
        assert found["card"]
        assert not found["cut"] or (found["overflow"] == "auto" and found["shadows"] == 4)


def test_the_cards_stand_below_each_other(visit, file):
    page = visit(file, viewport={"width": WIDTH, "height": 800})
    show(page, "steps")
    page.wait_for_selector(".strip.value .step")
    lefts = page.evaluate("[...document.querySelectorAll('.step')].map((card) => card.getBoundingClientRect().left)")
    assert len(lefts) in (12, 14) and len(set(lefts)) == 1
