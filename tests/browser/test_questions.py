"""Questions that learners asked in public: each opens the page at a view and finds the numbers that answer it.

The expected numbers are those of an ordinary pass of the model, or of plain NumPy, never the page's own data.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope

import tinygrad_attn as ta
from tinygrad_attn import nn

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TEXT = [4, 6, 5, 7, 6, 5, 8]
CROSS = "transformer.decoder.layers.0.multihead_attn.in_proj_weight"


def gpt():
    ta.manual_seed(3)
    return GPT(9, layers=2, heads=2, d_model=8, context=10).eval()


def backward(model, texts):
    """An ordinary backward pass in float64; the gradients by parameter."""
    model = model.to(ta.float64).eval()
    model.zero_grad()
    if len(texts) == 1:
        logits, expected = model(ta.tensor([texts[0][:-1]])), texts[0][1:]
    else:
        logits = model(ta.tensor([texts[0]]), ta.ones(1, len(texts[0])).bool(), ta.tensor([[START, *texts[1]]]))
        expected = [*texts[1], END]
    nn.functional.cross_entropy(logits.squeeze(0), ta.tensor(expected)).backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


MODELS = {
    "bahdanau": (lambda: make("bahdanau"), (SOURCE, TARGET)),
    "transformer": (lambda: make("transformer"), (SOURCE, TARGET)),
    "gpt": (gpt, (TEXT,)),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    found = {}
    for name, (make_model, texts) in MODELS.items():
        found[name] = tmp_path_factory.mktemp("questions") / f"{name}.html"
        microscope(make_model(), *texts).save(found[name])
    return found


@pytest.fixture
def ask(visit, files):
    """``ask(model, view=…, …)`` opens the model's page at a selection; with the model's own gradients beside it."""

    def go(name, **selection):
        page = visit(files[name])
        look(page, **selection)
        make_model, texts = MODELS[name]
        return SimpleNamespace(page=page, gradients=backward(make_model(), texts))

    return go


def look(page, **selection):
    page.evaluate("(hash) => { location.hash = hash; }", "&".join(f"{key}={x}" for key, x in selection.items()))
    page.wait_for_selector(f"#tab-{selection['view']}[aria-selected=true]")
    page.evaluate(SETTLED)


def number(text):
    return float(text.replace("−", "-"))


def shown(page, which):
    """The numbers of a matrix, by the place of its heatmap on the page."""
    rows = page.locator("table.heatmap").nth(which).locator("tbody tr")
    cells = "(all) => all.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.title))"
    return np.array([[number(cell) for cell in row] for row in rows.evaluate_all(cells)])


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_1_what_is_the_gradient_of_attention_with_respect_to_each_weight_matrix(ask):
    """Of W^Q, W^K and W^V, their biases, and in cross-attention."""
    seen = ask("transformer", view="parameters", parameter=CROSS)
    for block, rows in (("Q", slice(0, 8)), ("K", slice(8, 16)), ("V", slice(16, 24))):
        seen.page.get_by_role("button", name=f"W {block}", exact=True).click()
        seen.page.evaluate(SETTLED)
        close(shown(seen.page, 1), seen.gradients[CROSS][rows])
        norm = seen.page.locator("#gradient-norm").get_attribute("title")
        close(number(norm), np.linalg.norm(seen.gradients[CROSS][rows]))
    bias = CROSS.replace("weight", "bias")
    look(seen.page, view="parameters", parameter=bias)
    close(shown(seen.page, 1), seen.gradients[bias][None])


def test_11_every_matrix_of_multi_head_attention_learns_and_not_the_output_map_alone(ask):
    seen = ask("transformer", view="parameters")
    listed = dict(
        zip(
            seen.page.locator("table.plain").last.locator("tbody th").all_inner_texts(),
            seen.page.locator("table.plain").last.locator("tbody td:nth-child(4)").all_inner_texts(),
            strict=True,
        )
    )
    for part in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"):
        name = CROSS.replace("in_proj_weight", part)
        assert number(listed[name]) == pytest.approx(np.linalg.norm(seen.gradients[name]), rel=1e-5)
        assert number(listed[name]) > 0.0


def test_13_the_gradient_of_a_shared_weight_is_the_sum_of_its_uses(ask):
    """Over the time steps of a recurrent layer, and over two layers that share a matrix."""
    for model, name, uses in (("bahdanau", "encoder.weight_hh_l0", 5), ("gpt", "embedding.weight", 12)):
        seen = ask(model, view="parameters", parameter=name)
        seen.page.locator("table.heatmap").nth(1).locator("tbody tr").nth(4).locator("td").nth(2).click()
        seen.page.evaluate(SETTLED)
        each = [number(cell.get_attribute("title")) for cell in seen.page.locator("table.uses td.here").all()]
        total = number(seen.page.locator("#sum-of-uses").get_attribute("title"))
        assert len(each) == uses and sum(each) == pytest.approx(total, abs=1e-15)
        close(total, seen.gradients[name][4, 2])
