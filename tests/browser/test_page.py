"""The microscope's page in a real browser: offline, from a file, with the keyboard alone, and with NumPy's numbers.

Needs Playwright and a Chromium of the system; skipped where either is missing.
"""

from itertools import pairwise

import numpy as np
import pytest
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.bundle import VIEWS as FOLDER
from tinygrad_attn_models.microscope.page.render import render
from tinygrad_attn_models.microscope.record.arrays import decoded
from views import show, tabs

import tinygrad_attn as ta

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the browser extra is not installed")

SOURCE, TARGET = [4, 6, 5, 7], [5, 4, 6]
HOSTILE = ["</script><script>alert(1)</script>", "<s>", "안녕", "مرحبا"]
OWN = """
import { html } from "page/core.js";
import { data } from "page/data.js";
import { translator } from "page/i18n.js";

export const order = 55;
export const View = () => html`<p id="own">${t("hello", { name: data.get().source.tokens[2] })}</p>`;
export const words = { "en": { "title": "Greeting", "hello": "Hello, {name}" }, "ko": { "title": "인사" } };

const t = translator(words);
"""


@pytest.fixture(scope="module")
def data():
    ta.manual_seed(3)
    model = Bahdanau(9, 8, 5, 6)
    state = model.state_dict()
    kept = {0: {name: 2.0 * tensor.array for name, tensor in state.items()}, 10: state}
    found = microscope(model, SOURCE, TARGET, checkpoints=kept).data
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


@pytest.fixture(params=["light", "dark"])
def page(request, visit, file):
    page = visit(file, color_scheme=request.param)
    page.wait_for_selector("[role=tab]")
    return page


def test_the_keyboard_alone_walks_through_all_views(page):
    views = tabs(page)
    for number, view in enumerate(views, start=1):
        page.keyboard.press(str(number % 10) if number <= 10 else f"Shift+Digit{number % 10}")
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        assert f"view={view}" in page.url or view == views[0]
        assert page.locator("#panel").inner_text().strip()
    page.keyboard.press("Home")
    page.wait_for_selector(f"#tab-{views[0]}[aria-selected=true]")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"#tab-{views[1]}[aria-selected=true]")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [1280, 420])
def test_axe_finds_no_fault_of_weight(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for view in tabs(page):
        show(page, view)
        found = axe.Axe().run(page).response["violations"]
        assert [(view, fault["id"]) for fault in found if fault["impact"] != "minor"] == []
    page.keyboard.press("?")
    assert [
        fault["id"] for fault in axe.Axe().run(page, "dialog").response["violations"] if fault["impact"] != "minor"
    ] == []


def test_headings_go_down_one_level_at_a_time(page):
    for view in tabs(page):
        show(page, view)
        levels = [
            int(heading.evaluate("(heading) => heading.tagName")[1])
            for heading in page.locator("h1, main :is(h1, h2, h3, h4, h5, h6)").all()
        ]
        assert levels[0] == 1 and all(below <= above + 1 for above, below in pairwise(levels))


def test_text_of_the_user_is_text(page):
    assert HOSTILE[0] in page.locator("#panel").inner_text()
    assert page.locator("script").count() == 5  # the data, the formulas, the strings, the modules, and their start
    show(page, "site")
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
    show(page, "check")
    page.locator("#panel select").nth(1).select_option(tensor)
    page.locator("#panel select").nth(2).select_option(part)
    for field, index in ((0, row), (1, column)):
        page.locator("#panel input[type=number]").nth(field).fill(str(index))
        page.locator("#panel input[type=number]").nth(field).press("Tab")
    shown = page.locator("#checked").inner_text().replace("−", "-")
    assert np.float64(shown) == array[0, row, column]


def test_a_view_from_a_file_of_ones_own(visit, data, tmp_path):
    (tmp_path / "own.js").write_text(OWN, encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(render(data, views=(FOLDER, tmp_path)), encoding="utf-8")
    page = visit(path)
    page.get_by_role("tab", name="Greeting").click()
    assert page.locator("#own").inner_text() == f"Hello, {HOSTILE[2]}"
    views = tabs(page)
    assert views.index("site") < views.index("own") < views.index("jacobian")
    page.keyboard.press(str(views.index("own") + 1))
    page.wait_for_selector("#tab-own[aria-selected=true]")
    page.get_by_role("button", name="한국어").click()
    assert page.locator("#tab-own").inner_text().endswith("인사")
