"""Every view for every reader: a screen reader, the keyboard alone, 200 % zoom, no motion, quick steps."""

from pathlib import Path

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from views import show, tabs

import tinygrad_attn as ta

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the browser extra is not installed")

PAGE = Path(__file__).parents[2] / ".pages" / "dates-bahdanau.html"
TEXT = [4, 6, 5, 7, 6, 5, 8]
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
ZOOMED = {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2}
"""A window of 1280 × 900 at 200 %."""


def gpt():
    ta.manual_seed(3)
    return GPT(9, layers=2, heads=2, d_model=8, context=10).eval()


def kept(model):
    """The weights of a step of training, twice as large, for the view Over training."""
    return {0: {name: 2.0 * tensor.array for name, tensor in model.state_dict().items()}}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    found = {
        "transformer": microscope(make("transformer"), SOURCE, TARGET, sentences=[(SOURCE, TARGET), ([4, 6], [5])]),
        "gpt": microscope(gpt(), TEXT, sentences=[TEXT, TEXT[:4]], checkpoints=kept(gpt())),
        "luong": microscope(make("luong general global"), SOURCE, TARGET),
    }
    folder = tmp_path_factory.mktemp("access")
    for name, page in found.items():
        page.save(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in found}


LOOKS = [
    ("transformer", "light", "ko-KR"),
    ("gpt", "dark", "en-US"),
    pytest.param("transformer", "dark", "en-US", marks=pytest.mark.slow),
    pytest.param("luong", "light", "ko-KR", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "theme", "locale"), LOOKS)
def test_axe_finds_no_moderate_fault(visit, files, name, theme, locale):
    page = visit(files[name], color_scheme=theme, locale=locale)
    for view in tabs(page):
        show(page, view)
        found = axe.Axe().run(page).response["violations"]
        faults = [(view, fault["id"], fault["nodes"][0]["html"]) for fault in found if fault["impact"] != "minor"]
        assert faults == []


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_the_page_in_the_repository_fits_on_a_phone(visit, locale):
    page = visit(PAGE, locale=locale, viewport={"width": 390, "height": 844})
    views = tabs(page)
    assert {"sentences", "over_training"} <= set(views)
    for view in views:
        show(page, view)
        page.evaluate(SETTLED)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, view


CUT = """() => [...document.querySelectorAll('#panel *')].filter((element) => {
  if (!element.clientWidth || !element.innerText?.trim()) return false;
  if (element.closest('.hidden, svg, math, .tape, .heatmap')) return false;
  const style = getComputedStyle(element);
  const over = (scroll, client, how) => scroll > client + 2 && ['hidden', 'clip'].includes(how);
  return over(element.scrollWidth, element.clientWidth, style.overflowX) && style.textOverflow !== 'ellipsis';
}).map((element) => element.className)"""


@pytest.mark.parametrize("name", ["transformer", "gpt"])
def test_every_text_can_be_read_at_twice_its_size(visit, files, name):
    page = visit(files[name], **ZOOMED)
    for view in tabs(page):
        show(page, view)
        page.evaluate("for (const box of document.querySelectorAll('#panel details')) box.open = true")
        page.evaluate(SETTLED)
        assert page.evaluate("document.documentElement.scrollWidth") == 640, view
        assert page.evaluate(CUT) == [], view


def test_no_fact_is_broken_within_a_number_on_a_phone(visit, files):
    page = visit(files["transformer"], viewport={"width": 390, "height": 844})
    for view in tabs(page):
        show(page, view)
        broken = page.locator("#panel .facts dd").evaluate_all(
            """(all) => all.filter((fact) => /^[-−+]?[0-9.e−]+$/.test(fact.innerText.trim())).filter((fact) => {
              const range = document.createRange();
              range.selectNodeContents(fact);
              return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1;
            }).map((fact) => fact.innerText)"""
        )
        assert broken == [], view


REACHED = """() => {
  const inside = [...document.querySelectorAll('#panel *')].filter((element) => {
    if (element.disabled || !element.checkVisibility({ visibilityProperty: true })) return false;
    if (element.matches('input[type=radio]') && !element.checked) return false; // arrow keys choose the others
    return element.tabIndex >= 0 && element.matches('a[href], button, input, select, summary, [tabindex]');
  });
  return inside.filter((element) => !element.wasReached).map((element) => element.outerHTML.slice(0, 90));
}"""


@pytest.mark.parametrize("name", ["luong", "gpt"])
def test_tab_reaches_every_control_of_every_view(visit, files, name):
    page = visit(files[name])
    page.evaluate("() => addEventListener('focusin', ({ target }) => { target.wasReached = true; })")
    for view in tabs(page):
        show(page, view)
        page.evaluate(SETTLED)
        for _ in range(400):
            page.keyboard.press("Tab")
            if page.evaluate("!document.activeElement.closest('#panel')") and page.evaluate(REACHED) == []:
                break
        assert page.evaluate(REACHED) == [], view


def test_every_view_has_a_key(visit, files):
    page = visit(files["transformer"])
    views = tabs(page)
    assert len(views) > 10
    for number, view in reversed(list(enumerate(views, 1))):
        key = page.locator(f"#tab-{view}").get_attribute("aria-keyshortcuts")
        assert key == (str(number % 10) if number <= 10 else f"Shift+{number % 10}")
        page.keyboard.press(key.replace("+", "+Digit"))
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
    page.keyboard.press("?")
    keys = page.locator("dialog .keys dt").first.inner_text()
    assert keys.split() == ["1", "…", f"⇧{len(views) % 10}"]


def test_who_wants_no_motion_gets_none(visit, files):
    page = visit(files["transformer"], reduced_motion="reduce")
    for view in tabs(page):
        show(page, view)
        page.keyboard.press("]")
        moving = """() => [...document.querySelectorAll('*')].filter((element) => {
          const style = getComputedStyle(element);
          const moves = !/^(0s(, )?)+$/.test(style.transitionDuration) && style.transitionProperty !== 'none';
          return moves || style.scrollBehavior === 'smooth' || style.animationName !== 'none';
        }).map((element) => element.className).concat(document.getAnimations().map(String))"""
        assert page.evaluate(moving) == [], view


@pytest.mark.parametrize("view", ["steps", "jacobian", "site", "picture", "vocabulary"])
def test_a_step_changes_texts_and_makes_few_elements(visit, files, view):
    page = visit(files["luong"])
    show(page, view)
    page.evaluate("(hash) => { location.hash = hash; }", f"view={view}&step=1")
    page.evaluate(SETTLED)
    made = page.evaluate(
        """async () => {
          let made = 0;
          const watch = new MutationObserver((changes) => {
            const added = changes.flatMap(({ addedNodes }) => [...addedNodes]).filter((node) => node.nodeType === 1);
            for (const node of added) made += 1 + node.querySelectorAll('*').length;
          });
          watch.observe(document.getElementById('panel'), { childList: true, subtree: true });
          document.body.dispatchEvent(new KeyboardEvent('keydown', { key: ']', bubbles: true }));
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
          return made;
        }"""
    )
    assert "t = 2" in page.inner_text("#panel").replace("\xa0", " ")
    assert made <= 30
