"""The microscope's page in a real browser: offline, from a file, with the keyboard alone, and with NumPy's numbers.

Needs Playwright and a Chromium of the system; skipped where either is missing.
"""

import shutil

import numpy as np
import pytest

import tinygrad_attn as ta
from models.bahdanau import Bahdanau
from models.microscope import microscope
from models.microscope.arrays import decoded
from models.microscope.page import render

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser extra is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the browser extra is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

VIEWS = ("summary", "steps", "site", "jacobian", "paths", "tape", "check")
SOURCE, TARGET = [4, 6, 5, 7], [5, 4, 6]
HOSTILE = ["</script><script>alert(1)</script>", "<s>", "안녕", "مرحبا"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def data():
    ta.manual_seed(3)
    found = microscope(Bahdanau(9, 8, 5, 6), SOURCE, TARGET).data
    found["source"]["tokens"] = HOSTILE
    found["source"]["text"] = " ".join(HOSTILE)
    for site in found["sites"]:
        site["keys"] = HOSTILE
    return found


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(params=["light", "dark"])
def page(request, browser, file):
    """The page, open; at the end no request has left and nothing was complained of."""
    context = browser.new_context(offline=True, color_scheme=request.param, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints, requests = [], []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("[role=tab]")
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()


def test_the_keyboard_alone_walks_through_all_views(page):
    for number, view in enumerate(VIEWS, start=1):
        page.keyboard.press(str(number))
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        assert f"view={view}" in page.url or view == "summary"
        assert page.locator("#panel").inner_text().strip()
    page.keyboard.press("Home")
    page.wait_for_selector("#tab-summary[aria-selected=true]")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#tab-steps[aria-selected=true]")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")


def test_axe_finds_no_serious_fault(page):
    for number in range(1, len(VIEWS) + 1):
        page.keyboard.press(str(number))
        found = axe.Axe().run(page).response["violations"]
        assert [(number, fault["id"]) for fault in found if fault["impact"] in ("serious", "critical")] == []


def test_text_of_the_user_is_text(page):
    assert HOSTILE[0] in page.locator("#panel").inner_text()
    assert page.locator("script").count() == 4  # the data, the formulas, the strings, and the page's own
    page.keyboard.press("3")
    assert HOSTILE[0] in page.locator("#panel").inner_text()


def test_english_and_korean(page):
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_role("button", name="한국어").click()
    assert page.locator("html").get_attribute("lang") == "ko"
    korean = page.locator("#tab-summary").inner_text()
    page.get_by_role("button", name="English").click()
    assert page.locator("#tab-summary").inner_text() != korean


@pytest.mark.parametrize("tensor", ["scores", "weights", "context", "Q", "K", "V"])
@pytest.mark.parametrize("part", ["value", "gradient"])
def test_the_numbers_are_numpys(page, data, tensor, part):
    (site,) = data["sites"]
    array = decoded(data["arrays"][site["tensors"][tensor][part]])
    row, column = array.shape[1] - 1, array.shape[2] - 1
    page.keyboard.press("7")
    page.locator("#panel select").nth(1).select_option(tensor)
    page.locator("#panel select").nth(2).select_option(part)
    for field, index in ((0, row), (1, column)):
        page.locator("#panel input[type=number]").nth(field).fill(str(index))
        page.locator("#panel input[type=number]").nth(field).press("Tab")
    shown = page.locator("#checked").inner_text().replace("−", "-")
    assert np.float64(shown) == array[0, row, column]
