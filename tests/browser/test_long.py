"""A sentence of sixty symbols stays usable: what is in the document does not grow with the square of its length."""

import numpy as np
import pytest
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record.arrays import decoded
from tinygrad_attn_models.transformer import Transformer
from views import VIEWS, show, tabs

import tinygrad_attn as ta

LENGTHS = (30, 60)
COUNT = "document.querySelectorAll('#app *').length"
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """By length the page's file and its data."""
    ta.manual_seed(0)
    model = Transformer(70, 70, d_model=8, heads=2, encoder_layers=1, decoder_layers=1, d_ff=8)
    found = {}
    for length in LENGTHS:
        path = tmp_path_factory.mktemp("long") / f"{length}.html"
        seen = microscope(model, [4 + i for i in range(length)], [5 + i for i in range(length - 1)])
        seen.save(path)
        found[length] = path, seen.data
    return found


def nodes(page, view):
    if view not in tabs(page):
        pytest.skip("this page has no such view")
    page.evaluate("() => { location.hash = 'head=0&step=0&key=0'; }")  # a corner, with no rows before it
    show(page, view)
    page.evaluate(SETTLED)
    return page.evaluate(COUNT)


@pytest.mark.parametrize("view", VIEWS)
def test_twice_the_length_makes_at_most_twice_the_document(visit, pages, view):
    short, long = (nodes(visit(pages[length][0]), view) for length in LENGTHS)
    assert short <= long <= 2 * short


def test_matrices_keep_a_part_of_their_cells_in_the_document_whatever_their_length(visit, pages):
    counts = []
    for length in LENGTHS:
        page = visit(pages[length][0])
        nodes(page, "site")
        counts.append(page.locator("table.heatmap").first.locator("td").count())
        assert page.locator("table.heatmap").first.get_attribute("aria-rowcount") == str(length + 1)
    assert counts[1] <= counts[0] < LENGTHS[0] ** 2


def test_the_keyboard_reaches_the_last_cell_and_its_number_is_right(visit, pages):
    file, data = pages[LENGTHS[1]]
    page = visit(file)
    nodes(page, "site")
    page.locator("td.on.active").click()
    for _ in range(7):
        page.keyboard.press("PageDown")
    page.keyboard.press("End")
    page.evaluate(SETTLED)
    site = data["sites"][-1]
    gradient = decoded(data["arrays"][site["tensors"]["scores"]["gradient"]])[0]
    focused = page.evaluate(
        """() => {
          const cell = document.activeElement, row = cell.parentNode;
          const [column, header] = [cell.ariaColIndex, row.cells[0].textContent];
          return { title: cell.title, column, row: row.ariaRowIndex, header };
        }"""
    )
    assert (int(focused["row"]) - 2, int(focused["column"]) - 2) == (gradient.shape[0] - 1, gradient.shape[1] - 1)
    assert np.float64(focused["title"].replace("−", "-")) == gradient[-1, -1]
    assert focused["header"] == site["queries"][-1]
    assert page.locator("#recorded").inner_text() == focused["title"]


def test_every_cell_can_be_scrolled_to(visit, pages):
    file, data = pages[LENGTHS[1]]
    page = visit(file)
    nodes(page, "site")
    value = decoded(data["arrays"][data["sites"][-1]["tensors"]["scores"]["value"]])[0]
    seen = np.full(value.shape, np.nan)
    for y in range(0, 24 * LENGTHS[1], 200):
        for x in range(0, 60 * LENGTHS[1], 300):
            page.evaluate("([x, y]) => document.querySelector('.figure .scroll').scrollTo(x, y)", [x, y])
            page.evaluate(SETTLED)
            for row, column, title in page.evaluate(
                """() => [...document.querySelector("table.heatmap").querySelectorAll("tbody td")].map((cell) =>
                [cell.parentNode.ariaRowIndex - 2, cell.ariaColIndex - 2, cell.title])"""
            ):
                seen[row, column] = title.replace("−", "-")
    np.testing.assert_array_equal(seen, value)


def test_the_tabs_way_into_a_matrix_stays_when_its_selected_cell_is_scrolled_away(visit, pages):
    page = visit(pages[LENGTHS[1]][0])
    nodes(page, "site")
    page.locator("table.heatmap td.on").first.click()
    page.evaluate("document.querySelector('.figure .scroll').scrollTo(1500, 1000)")
    page.evaluate(SETTLED)
    assert page.evaluate("document.activeElement === document.querySelector('.figure .scroll')")
    page.keyboard.press("ArrowRight")  # goes on from the selected cell, and brings it back
    page.evaluate(SETTLED)
    assert page.evaluate("document.activeElement.ariaColIndex") == "3"


def test_what_does_not_fit_is_left_out_far_from_the_loss(pages):
    _, data = pages[LENGTHS[1]]
    model = Transformer(70, 70, d_model=8, heads=2, encoder_layers=1, decoder_layers=1, d_ff=8)
    whole = data["kept"]["bytes"]
    less = microscope(model, [4 + i for i in range(60)], [5 + i for i in range(59)], limit=whole // 2).data
    last = less["sites"][-1]
    assert less["kept"]["dropped"] and all(
        last["tensors"][name][part] for name in ("scores", "weights", "Q", "K", "V") for part in ("value", "gradient")
    )
    assert [site["mask"] is None for site in less["sites"]] == [site["mask"] is None for site in data["sites"]]
