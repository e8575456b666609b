"""The opening picture: the prediction with the largest loss, its lines, its words, and numbers when one points."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make, matrix
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from views import show

import tinygrad_attn as ta

WIDEST = 16
WIDTHS = "(all) => all.map((path) => [path.getAttribute('class'), parseFloat(path.style.strokeWidth)])"
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
NAMES = ["bahdanau", "luong concat local-p feeding", "luong general local-m", "transformer", "gpt"]


def look_at(name):
    if name == "gpt":
        ta.manual_seed(3)
        return microscope(GPT(9, layers=2, heads=2, d_model=8, context=10).eval(), [4, 6, 5, 7, 6, 5, 8])
    return microscope(make(name), SOURCE, TARGET)


@pytest.fixture(scope="module", params=NAMES)
def found(request):
    return look_at(request.param).data


@pytest.fixture
def page(visit, found, tmp_path):
    from tinygrad_attn_models.microscope.page.render import render

    (tmp_path / "page.html").write_text(render(found), encoding="utf-8")
    return visit(tmp_path / "page.html", reduced_motion="reduce")


def opening(data):
    """The site, head, step and key that the page should open with."""
    site, step = data["sites"][-1], int(np.argmax([token["loss"] for token in data["tokens"]]))
    sizes = np.abs(matrix(data, site, "scores", "gradient")[:, step])
    head, key = np.unravel_index(sizes.argmax(), sizes.shape)
    return site, int(head), step, int(key)


def number(text):
    return float(text.replace("−", "-").replace("∞", "inf"))


def test_it_opens_with_the_largest_loss_and_says_so(page, found):
    _, _, step, key = opening(found)
    token = found["tokens"][step]
    assert page.locator("#tab-picture[aria-selected=true]").count() == 1
    said = page.inner_text("#says")
    assert f"“{token['expected']}”" in said and "No loss is larger" in said
    assert "but" in said or token["predicted"][0][0] == token["expected"]
    assert page.locator(".readers [aria-checked=true]").get_attribute("aria-label").startswith(f"Step {step}:")
    assert f"key {key}:" in page.locator(".seen [aria-checked=true]").get_attribute("aria-label")


def test_lines_are_as_wide_as_their_numbers_and_show_the_sign(page, found):
    site, head, step, _ = opening(found)
    alpha = matrix(found, site, "weights", "value")[head, step]
    whole = matrix(found, site, "scores", "gradient")
    gradient, limit = whole[head, step], np.abs(whole).max()
    for kind, expected in (("looks", alpha), ("pulls", gradient / limit)):
        drawn = page.locator(f".lines.{kind} path").evaluate_all(WIDTHS)
        sizes = np.sort(np.abs(expected[WIDEST * np.abs(expected) >= 0.2]))
        assert len(drawn) == len(sizes)
        np.testing.assert_allclose([width for _, width in drawn], np.maximum(0.6, WIDEST * sizes), rtol=1e-4)
        away = sum("away" in name for name, _ in drawn)
        assert away == (sum(expected * WIDEST >= 0.2) if kind == "pulls" else 0)
    assert (
        "orange" in page.inner_text("#says")
        or (gradient > 0).all()
        or not gradient.any()
        or "Only" in page.inner_text("#says")
    )


def test_pointing_shows_the_numbers_and_so_does_the_keyboard(page, found):
    site, head, step, _ = opening(found)
    names = {"α": ("weights", "value"), "e": ("scores", "value"), "∂L/∂α": ("weights", "gradient"),
             "∂L/∂e": ("scores", "gradient")}  # fmt: skip
    assert page.locator(".readout .number").count() == 0  # nothing is pointed at
    mask = matrix(found, {"tensors": {"mask": {"value": site["mask"]}}}, "mask", "value")
    for j, key in enumerate(page.locator(".seen button").all()):
        key.hover()
        if mask is not None and not mask[min(head, len(mask) - 1), step, j]:
            assert "masked" in page.inner_text(".readout")
            continue
        shown = {
            cell.get_attribute("data-name"): number(cell.get_attribute("title"))
            for cell in page.locator(".readout dd").all()
        }
        assert shown == {label: matrix(found, site, *where)[head, step, j] for label, where in names.items()}
    page.mouse.move(0, 0)
    page.locator(".seen [aria-checked=true]").focus()
    page.keyboard.press("Home")
    page.evaluate(SETTLED)
    page.wait_for_url("**key=0&**")
    assert page.locator(".seen button").first.evaluate("(each) => each === document.activeElement")
    page.locator(".readers [aria-checked=true]").focus()
    page.keyboard.press("End")
    page.evaluate(SETTLED)
    last = len(found["tokens"]) - 1
    page.wait_for_url(f"**step={last}&**")
    assert number(page.locator(".readout [data-name=loss]").get_attribute("title")) == found["tokens"][last]["loss"]


def test_other_layers_and_heads(visit, tmp_path):
    look_at("transformer").save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    for site in ("encoder.layers.0.self_attn", "decoder.layers.1.self_attn"):
        page.locator(".controls select").select_option(site)
        page.locator(".head").nth(2).click()
        page.evaluate(SETTLED)
        page.wait_for_url(f"**site={site}&**head=2&**")
        assert "looks most at" in page.inner_text("#says")
        assert page.locator(".expected-symbol").count() == (0 if "encoder" in site else len(TARGET) + 1)


def test_a_long_text_is_dense_names_symbols_with_those_before_and_has_its_step_in_sight(visit, tmp_path):
    ta.manual_seed(3)
    microscope(GPT(9, layers=1, heads=2, d_model=8, context=90).eval(), [4 + i * i % 5 for i in range(80)]).save(
        tmp_path / "page.html"
    )
    page = visit(tmp_path / "page.html")
    assert page.locator(".picture.dense").count() == 1 and "looks most at “" in page.inner_text("#says")
    page.evaluate("() => { location.hash = 'step=70'; }")
    page.evaluate(SETTLED)
    top, bottom, box_top, box_bottom = page.evaluate(
        """() => [".readers [aria-checked=true]", ".picture-box"].map((name) => document.querySelector(name))
        .map((each) => each.getBoundingClientRect()).flatMap(({ top, bottom }) => [top, bottom])"""
    )
    assert box_top <= top and bottom <= box_bottom and box_bottom - box_top < 600


def test_a_model_without_attention_says_so(visit, tmp_path):
    microscope(make("seq2seq"), SOURCE, TARGET).save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    assert "has no attention" in page.inner_text("#says") and page.locator(".lines.norms path").count() == len(SOURCE)


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
@pytest.mark.parametrize("width", [195, 390, 1280, 1920])  # 195: 390 at 200 %
def test_it_fits_and_shows_no_key(visit, tmp_path, locale, width):
    look_at("transformer").save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html", locale=locale, viewport={"width": width, "height": 900})
    for view in ("picture", "tour"):
        show(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= max(width, 320), view
        assert not [text for text in page.inner_text("#panel").split() if text.startswith(("says.", "stop.", "head."))]
