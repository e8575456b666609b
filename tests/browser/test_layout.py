"""Where things stand: matrices whole where they fit, no number cut, what belongs together in sight together."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.render import render
from views import WITHOUT_ATTENTION, tabs

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
BOXES = "[...document.querySelectorAll('.scroll:has(> .extent)')]"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("layout") / "page.html"
    microscope(make("bahdanau"), [4 + i % 5 for i in range(13)], TARGET).save(path)
    return path


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    path = tmp_path_factory.mktemp("masked") / "page.html"
    microscope(make("transformer"), SOURCE, TARGET).save(path)
    return path


def look(page, **selection):
    page.evaluate("(hash) => { location.hash = hash; }", "&".join(f"{key}={x}" for key, x in selection.items()))
    page.wait_for_selector(f"#tab-{selection['view']}[aria-selected=true]")
    page.evaluate(SETTLED)


@pytest.mark.parametrize("width", [1280, 1920])
@pytest.mark.parametrize("view", ["site", "jacobian"])
def test_all_columns_of_a_usual_sentence_are_seen_without_scrolling(visit, file, width, view):
    page = visit(file, viewport={"width": width, "height": 900})
    look(page, view=view)
    boxes = page.evaluate(
        f"{BOXES}.map((box) => [box.scrollWidth - box.clientWidth, box.querySelectorAll('thead th').length])"
    )
    assert boxes and all(hidden <= 0 and columns == 13 for hidden, columns in boxes)
    tops = page.evaluate(f"{BOXES}.slice(0, 2).map((box) => box.getBoundingClientRect().top)")
    assert view == "jacobian" or (tops[0] == tops[1]) == (width == 1920)  # side by side where there is room


def test_no_number_is_ever_cut(visit, file):
    page = visit(file, viewport={"width": 390, "height": 800})
    look(page, view="site")
    for left in (0, 30, 77, 100_000):
        page.evaluate(f"(left) => {BOXES}[0].scrollTo({{ left, behavior: 'instant' }})", left)
        page.wait_for_timeout(200)
        cut = page.evaluate(
            f"""() => {{
              const box = {BOXES}[0], end = box.getBoundingClientRect().right;
              const start = box.querySelector('tbody th').getBoundingClientRect().right;
              const row = [...box.querySelectorAll('tbody tr:first-child td')];
              const cells = row.map((cell) => cell.getBoundingClientRect());
              const seen = cells.filter(({{ left, right }}) => right > start + 1 && left < end - 1);
              return seen.filter(({{ left, right }}) => left < start - 1 || right > end + 1).length;
            }}"""
        )
        assert cut == 0, left


def test_matrices_over_the_same_keys_scroll_together(visit, file):
    page = visit(file, viewport={"width": 390, "height": 800})
    look(page, view="site")
    page.locator("table.heatmap").first.hover()
    page.mouse.wheel(200, 0)
    page.wait_for_timeout(400)
    lefts = page.evaluate(f"{BOXES}.map((box) => box.scrollLeft)")
    assert len(lefts) == 4 and lefts[0] > 0 and len(set(lefts)) == 1


def test_on_a_phone_the_tab_is_in_sight_and_the_inspector_below_its_cell(visit, file):
    page = visit(file, viewport={"width": 390, "height": 844})
    for view in ("check", "summary", "tape", "site"):
        look(page, view=view)
        left, right = page.evaluate(
            f"""() => {{
              const tab = document.getElementById('tab-{view}').getBoundingClientRect();
              const row = document.querySelector('.tabs').getBoundingClientRect();
              return [tab.left - row.left, row.right - tab.right];
            }}"""
        )
        assert left >= -1 and right >= -1, view
    for part in ("value", "gradient"):
        look(page, view="site", step=2, key=7, tensor="weights", part=part)
        distance = page.evaluate(
            """() => {
              const [inspector, cell] = ['.inspector', 'td.on.active'].map((name) => document.querySelector(name));
              return inspector.getBoundingClientRect().top - cell.getBoundingClientRect().bottom;
            }"""
        )
        assert 0 < distance < 150


def test_weights_have_a_scale_from_0_to_1_and_the_jacobian_that_of_its_row(visit, file):
    page = visit(file)
    look(page, view="site")
    scales = page.locator(".scale").evaluate_all("(all) => all.map((scale) => scale.innerText.split(/\\s+/))")
    assert [scale[0] for scale in scales[2:3]] == ["0"] and scales[2][-1] == "1.00" and scales[0][0].startswith("−")
    look(page, view="jacobian")
    cells = page.locator(".jacobian tbody td[aria-colindex]").evaluate_all("(all) => all.map((cell) => cell.title)")
    largest = np.abs([float(cell.replace("−", "-")) for cell in cells]).max()
    low, high = page.locator(".jacobian .scale").inner_text().split()
    assert float(high) == pytest.approx(largest, rel=0.1) and low == high.replace("+", "−")


def test_a_masked_cell_says_that_it_is_masked(visit, masked):
    page = visit(masked)
    for tensor, part, words in (
        ("weights", "value", "exactly 0"),
        ("scores", "gradient", "exactly 0"),
        ("scores", "value", "does not use"),
    ):
        look(page, view="site", site="decoder.layers.0.self_attn", step=0, key=2, tensor=tensor, part=part)
        said = page.locator(".masked-cell").inner_text()
        assert "masked for this query" in said and words in said
    look(page, view="site", site="decoder.layers.0.self_attn", step=2, key=0, tensor="weights", part="value")
    assert page.locator(".masked-cell").count() == 0


def test_the_step_is_told_in_words(visit, file):
    page = visit(file)
    look(page, view="site", step=2)
    told = page.locator(".stepper output").inner_text()
    assert told.startswith(f"t = 2 of 0 … {len(TARGET)}, reads")
    assert "query t = 2" in page.locator(".inspector").inner_text()


def test_what_is_broken_on_purpose_is_said_in_every_view(visit, tmp_path):
    path = tmp_path / "page.html"
    microscope(make("bahdanau"), SOURCE, TARGET, broken="softmax-without-second-term").save(path)
    page = visit(path)
    for view in tabs(page):
        look(page, view=view)
        assert "Broken on purpose" in page.locator(".alert").first.inner_text()
    look(page, view="jacobian")  # the right gradient beside the recorded, wrong one
    assert page.locator(".products th.bad").count() == 1 and page.locator(".jacobian .verdict.bad").count() == 1


def test_a_saturated_softmax_says_so_and_the_slider_leaves_it(visit, tmp_path):
    model, path = make("bahdanau"), tmp_path / "page.html"
    model.attention.energy.weight.array[:] *= 4000.0
    microscope(model, SOURCE, TARGET).save(path)
    page = visit(path)
    look(page, view="jacobian", step=0, key=0)
    assert (
        "saturated" in page.locator(".temperature").inner_text() and "saturated" in page.locator(".words").inner_text()
    )
    slider = page.locator("#temperature")
    slider.evaluate(
        "(slider) => { slider.value = slider.max; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    page.evaluate(SETTLED)
    assert "saturated" not in page.locator(".temperature").inner_text()
    alphas = page.locator("table.products tbody td:nth-of-type(1)").evaluate_all(
        "(all) => all.map((cell) => cell.title)"
    )
    assert max(map(float, alphas)) < 0.6


def test_a_model_without_attention_has_no_empty_views(visit, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render(microscope(make("seq2seq"), SOURCE, TARGET).data), encoding="utf-8")
    page = visit(path)
    assert tabs(page) == WITHOUT_ATTENTION
    assert "no attention" in page.locator("#panel").inner_text()
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.evaluate(SETTLED)
        assert len(page.locator("#panel").inner_text()) > 200
