"""What a notebook shows: the page in a frame of its own, which works there."""

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from views import tabs


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A document with text before and after the output, as a notebook has it."""
    shown = microscope(make("bahdanau"), SOURCE, TARGET)._repr_html_()
    path = tmp_path_factory.mktemp("notebook") / "notebook.html"
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><p id="before">1</p>{shown}<p id="after">2</p>', encoding="utf-8"
    )
    return path


def test_all_views_work_inside_of_the_frame(visit, notebook):
    page = visit(notebook)
    frame = page.frame_locator("iframe[title=microscope]")
    for view in tabs(frame):
        frame.locator(f"#tab-{view}").click()
        frame.locator(f"#tab-{view}[aria-selected=true]").wait_for()
        assert frame.locator("#panel").inner_text().strip()
    frame.locator("#tab-site").click()
    frame.locator("table.heatmap td").nth(3).click()
    assert frame.locator("#recorded").inner_text() == frame.locator("td.on.active").get_attribute("title")


def test_links_stay_inside_of_the_frame(visit, notebook):
    page = visit(notebook)
    frame = page.frame_locator("iframe[title=microscope]")
    frame.locator("#tab-steps").click()
    frame.locator(".strip.value a.jump").first.click()
    frame.locator("#tab-site[aria-selected=true]").wait_for()
    assert "value" in frame.locator(".inspector h2 span").get_attribute("class")
    assert frame.locator("#before").count() == 0 and len(page.frames) == 2


def test_the_notebook_and_the_page_keep_apart(visit, notebook):
    page = visit(notebook)
    page.frame_locator("iframe").locator("#tab-summary").wait_for()
    assert page.locator("#before, #after").all_inner_texts() == ["1", "2"]
    sandbox = page.locator("iframe").get_attribute("sandbox").split()
    assert "allow-scripts" in sandbox and "allow-same-origin" not in sandbox
    assert page.evaluate("document.querySelector('iframe').contentDocument") is None


def test_a_figure_can_be_saved_from_the_frame(visit, notebook):
    page = visit(notebook, accept_downloads=True)
    frame = page.frame_locator("iframe")
    frame.locator("#tab-site").click()
    with page.expect_download() as download:
        frame.locator("button", has_text="SVG").first.click()
    assert download.value.suggested_filename.endswith(".svg")
