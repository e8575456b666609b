"""The view Over training: the slider, the play button and the keyboard show each frame's own numbers."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.render import render
from tinygrad_attn_models.microscope.record.arrays import decoded

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SITE, HEAD = "decoder.layers.1.multihead_attn", 2
PACE = 1100
STEPS = [0, 10, 30]


@pytest.fixture(scope="module")
def data():
    """Three frames, and a run beside with two."""
    model, rng = make("transformer"), np.random.default_rng(1)
    state = {name: tensor.array.copy() for name, tensor in model.state_dict().items()}
    states = {
        step: {name: (x * rng.uniform(0.5, 2.0, x.shape)).astype(x.dtype) for name, x in state.items()}
        for step in STEPS[:2]
    }
    found = microscope(model, SOURCE, TARGET, checkpoints={**states, 30: state}).data
    (film,) = found["films"]
    return {**found, "films": [film, {**film, "run": "other", "frames": film["frames"][:2]}]}


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "page.html"
    path.write_text(render(data), encoding="utf-8")
    return path


@pytest.fixture
def opened(visit, file):
    def go(**settings):
        page = visit(file, **settings)
        page.evaluate("(hash) => { location.hash = hash; }", f"view=over_training&site={SITE}&head={HEAD}&step=1&key=2")
        page.wait_for_selector("#tab-over_training[aria-selected=true]")
        page.evaluate(SETTLED)
        return page

    return go


def number(text):
    return float(text.replace("−", "-"))


def shown(page, selector):
    """The numbers of a matrix."""
    rows = page.locator(f"{selector} table.heatmap tbody tr")
    cells = rows.evaluate_all("(all) => all.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.title))")
    return np.array([[number(cell) for cell in row] for row in cells])


def frame_at(page):
    return int(page.locator("#frame").input_value())


def test_the_slider_shows_each_frames_numbers(opened, data):
    page = opened()
    frames = data["films"][0]["frames"]
    for at, frame in enumerate(frames):
        page.locator("#frame").fill(str(at))
        page.evaluate(SETTLED)
        assert f"step {frame['step']}" in page.locator(".film-controls output").inner_text()
        assert number(page.locator(".reel-0 h2 .loss").get_attribute("title")) == frame["loss"]
        own = next(site for site in frame["sites"] if site["site"] == SITE)
        for which, part in enumerate(("weights", "gradient")):
            matrix = shown(page, f".reel-0 .side-by-side .site-heatmap >> nth={which} >>")
            np.testing.assert_array_equal(matrix, decoded(data["arrays"][own[part]])[HEAD])
        other = data["films"][1]["frames"][min(at, 1)]  # the last one at or before this step
        assert number(page.locator(".reel-1 h2 .loss").get_attribute("title")) == other["loss"]
    assert "weights of the other views" in page.locator(".film-controls output").inner_text()


def test_the_tables_have_all_frames(opened, data):
    page, (film, _) = opened(), data["films"]
    np.testing.assert_array_equal(shown(page, ".reel-0 .film-losses"), [frame["losses"] for frame in film["frames"]])
    for row, frame in zip(page.locator("table.film-facts-0 tbody tr").all(), film["frames"], strict=True):
        own = next(site for site in frame["sites"] if site["site"] == SITE)
        for name in ("spread", "entropy", "largest", "saturated", "weights_gradient", "scores_gradient"):
            assert number(row.locator(f"td.{name}").get_attribute("title")) == own[name][HEAD]
        passes = own["scores_gradient"][HEAD] / own["weights_gradient"][HEAD]
        assert number(row.locator("td.passes").get_attribute("title")) == passes
    by_layer = shown(page, ".reel-0 .film-norms")
    layers = page.locator(".reel-0 .film-norms tbody th").all_inner_texts()
    assert len(layers) == len(by_layer) and "transformer.encoder.layers.0" in layers and "output" in layers
    total = np.sum(np.square([[x or 0.0 for x in frame["gradient_norms"]] for frame in film["frames"]]), axis=1)
    np.testing.assert_allclose(np.sum(by_layer**2, axis=0), total, rtol=1e-12)
    page.locator(".reel-0 .film-norms-of select").select_option("weight_parameter")
    page.evaluate(SETTLED)
    np.testing.assert_allclose(
        shown(page, ".reel-0 .film-norms")[: len(film["parameters"])],
        np.transpose([frame["norms"] for frame in film["frames"]])[: len(shown(page, ".reel-0 .film-norms"))],
        rtol=1e-15,
    )


def test_it_plays_to_the_end_and_can_be_stopped(opened):
    page = opened()
    page.clock.install()
    page.locator("#play").press("Enter")
    assert page.locator("#play").inner_text() == "Pause" and frame_at(page) == 0
    page.clock.run_for(PACE + 50)
    assert frame_at(page) == 1
    page.locator("#play").press("Space")
    page.clock.run_for(3 * PACE)
    assert page.locator("#play").inner_text() == "Play" and frame_at(page) == 1
    page.locator("#play").click()
    page.clock.run_for(PACE + 50)
    page.clock.run_for(PACE + 50)
    assert page.locator("#play").inner_text() == "Play" and frame_at(page) == 2
    page.locator("#play").click()  # from the start again
    assert frame_at(page) == 0


def test_the_keyboard_moves_the_slider_and_stops_the_film(opened):
    page = opened()
    page.locator("#frame").focus()
    for key, at in (("ArrowRight", 1), ("End", 2), ("ArrowLeft", 1), ("Home", 0)):
        page.keyboard.press(key)
        assert frame_at(page) == at
    assert page.locator("#frame").get_attribute("aria-valuetext").startswith("step 0, loss ")
    page.locator("#play").click()
    page.locator("#frame").press("End")
    assert page.locator("#play").inner_text() == "Play" and frame_at(page) == 2


def test_nothing_plays_for_those_who_want_little_motion(opened):
    page = opened(reduced_motion="reduce")
    assert page.locator("#play").count() == 0 and "little motion" in page.locator(".film-controls").inner_text()
    page.get_by_role("button", name="Next kept step").click()
    assert frame_at(page) == 1


@pytest.mark.parametrize(("locale", "words"), [("en-US", "Why divide by √d?"), ("ko-KR", "왜 √d로 나눌까요?")])
def test_on_a_phone_in_both_languages(opened, locale, words):
    page = opened(locale=locale, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert words in page.locator("#panel").inner_text()


def test_runs_without_kept_checkpoints_have_no_such_view(visit, data, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render({**data, "films": []}), encoding="utf-8")
    page = visit(path)
    page.wait_for_selector("[role=tab]")
    assert page.locator("#tab-over_training").count() == 0
