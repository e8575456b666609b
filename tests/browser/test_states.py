"""What a page says of passes that are wrong on purpose, not finite, saturated, masked, or without attention."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from views import WITHOUT_ATTENTION, show, tabs

BROKEN = "softmax-without-second-term"


@pytest.fixture
def look(visit, tmp_path):
    """A function that opens the page of a model at a view."""

    def look(model, view, source=SOURCE, selected="", **options):
        microscope(model, source, TARGET, **options).save(tmp_path / "page.html")
        page = visit(tmp_path / "page.html")
        page.evaluate("(hash) => { location.hash = hash; }", f"view={view}{selected}")
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        return page

    return look


def test_a_wrong_derivative_is_said_on_every_view(look):
    page = look(make("bahdanau"), "summary", broken=BROKEN)
    for view in tabs(page):
        show(page, view)
        assert "second term" in page.inner_text("#broken"), view


def test_the_jacobian_shows_the_wrong_gradient_that_was_recorded(look):
    model = make("bahdanau")
    wrong, right = (
        microscope(model, SOURCE, TARGET, broken=broken).data["sites"][0]["tensors"]["scores"]["gradient_norm"]
        for broken in (BROKEN, None)
    )
    assert wrong != pytest.approx(right)
    page = look(model, "jacobian", broken=BROKEN)
    titles = page.evaluate("() => [...document.querySelectorAll('.products td.bad')].map((cell) => cell.title)")
    shown = [float(title.replace("−", "-")) for title in titles]
    assert shown and abs(sum(shown)) > 1e-3 * np.abs(shown).max()  # a right row sums to 0
    assert page.locator(".jacobian .verdict.bad").count() == 1


def test_a_model_without_attention_has_no_empty_views(look):
    page = look(make("seq2seq"), "summary")
    assert tabs(page) == WITHOUT_ATTENTION
    assert "announces no attention" in page.inner_text("#panel")
    page.keyboard.press(str(WITHOUT_ATTENTION.index("paths") + 1))
    page.wait_for_selector("#tab-paths[aria-selected=true]")


def test_a_nan_is_named_and_nothing_is_said_of_its_scores(look):
    model = make("bahdanau")
    model.attention.key.weight.array[0, 0] = np.nan
    page = look(model, "summary")
    assert "Not finite since weight attention.key.weight[0, 0], which is NaN." in page.inner_text("#not-finite")
    assert "?" in page.inner_text(".badge-mark") and "not finite" in page.inner_text(".chip")
    words = page.inner_text("#panel")
    assert "NaN" in words and "0.0 %" not in words
    page = look(model, "jacobian")
    words = page.inner_text("#panel")
    assert "not finite" in words and "attention.key.weight[0, 0]" in words and "loss, so training" not in words


@pytest.mark.parametrize("name", ["bahdanau", "luong general global", "transformer"])
def test_a_saturated_softmax_is_said_to_be(look, name):
    model = make(name)
    for path, parameter in model.named_parameters():
        if any(part in path for part in ("energy", "score.", "multihead_attn.in_proj_weight")):
            parameter.array[:] *= 1e4
    page = look(model, "jacobian", selected="&step=2")
    assert "saturated" in page.inner_text(".temperature")
    page.evaluate(
        """() => {
          const slider = document.getElementById("temperature");
          slider.value = slider.max;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    page.wait_for_selector(".what-if")
    assert "saturated" not in page.inner_text(".temperature")  # the slider leads out of it
    for view in ("site", "check"):
        assert look(model, view, selected="&step=2").locator(".verdict.bad").count() == 0


def test_a_masked_cell_says_that_it_is(look):
    model = make("transformer")
    page = look(model, "site", selected="&site=decoder.layers.0.self_attn&tensor=weights&part=value&step=0&key=2")
    assert "masked" in page.inner_text(".inspector .masked-cell")


def test_rows_of_logits_always_show_the_target(look):
    model = make("bahdanau")
    model.output = type(model.output)(6, 40)  # more symbols than a card shows
    model.target_embedding = type(model.target_embedding)(40, 5)
    page = look(model, "steps", selected="&step=1")
    cards = page.evaluate("() => [...document.querySelectorAll('.strip.value .step')].map((card) => card.innerText)")
    (logits,) = (text.split() for text in cards if "12 largest of 40" in " ".join(text.split()))
    assert str(TARGET[1]) in logits


def test_what_a_model_without_attention_does_not_have_is_not_counted(look):
    badge = look(make("seq2seq"), "summary").inner_text("#badge")
    assert "finite differences" in badge and "ops run again" in badge
    assert "plain NumPy" not in badge


def test_one_and_several(look):
    page = look(make("bahdanau"), "summary")
    texts = page.evaluate(
        """async () => { const { t } = await import("page/i18n.js");
        return ["1", 2, "1,000"].map((count) => t("chip.bad", { count })); }"""
    )
    assert texts == ["1 check fails", "2 checks fail", "1,000 checks fail"]
