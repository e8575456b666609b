"""On paper: dark ink on white, and nothing left out that scrolls on a screen."""

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from views import show, tabs

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
PALE = """() => [...document.querySelectorAll('#panel *')].filter((element) => {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest('.hidden, select, [style*=background]')) return false;
  if (getComputedStyle(element).printColorAdjust === 'exact') return false; // its background is printed, too
  const [r, g, b] = getComputedStyle(element).color.match(/\\d+/g).map(Number);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 140;
}).map((element) => element.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("print") / "page.html"
    microscope(make("transformer"), SOURCE, TARGET).save(path)
    return path


def test_a_dark_page_is_printed_with_dark_ink(visit, file):
    page = visit(file, color_scheme="dark")
    for view in tabs(page):
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen", color_scheme="dark")
        show(page, view)
        page.evaluate(SETTLED)
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(PALE) == [], view
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert len(page.pdf()) > 10_000
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_what_scrolls_is_printed_whole(visit, file):
    page = visit(file)
    show(page, "check")
    page.emulate_media(media="print")
    cut = """() => [...document.querySelectorAll('#panel .scroll, #panel pre, #panel .inspector')].filter((box) =>
      box.scrollHeight > box.clientHeight + 2 && getComputedStyle(box).overflowY !== 'visible').length"""
    for view in ("check", "embeddings", "parameters"):
        page.evaluate("(hash) => { location.hash = hash; }", f"view={view}")
        page.evaluate(SETTLED)
        assert page.evaluate(cut) == 0, view
