"""The numbers in the document that Chromium shows, against a plain NumPy pass that has only the model's weights.

Its derivatives are those of `plain_models`, and what one view computes from others stands here as its formula. The
page's own data is not read.
"""

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import plain_models
import pytest
from looked_at import HEADS, SOURCE, TARGET, make, plain
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.mathml import mathml
from translators import train

SELF, CROSS = {"queries": len(SOURCE), "keys": len(SOURCE)}, {"queries": len(TARGET) + 1, "keys": len(SOURCE)}
CAUSAL = {"queries": len(TARGET) + 1, "keys": len(TARGET) + 1}
LAYERS = {
    **{f"encoder.layers.{i}.self_attn": SELF for i in range(2)},
    **{f"decoder.layers.{i}.self_attn": CAUSAL for i in range(2)},
    **{f"decoder.layers.{i}.multihead_attn": CROSS for i in range(2)},
}
PLACES = {"bahdanau": {"attention": CROSS}, "transformer": LAYERS}
# As the page has them below each other.
TENSORS = {
    "bahdanau": ["scores", "weights", "context", "Q", "K", "V", "joined", "attentional", "logits"],
    "transformer": ["scores", "weights", "context", "Q", "K", "V", "product", "masked", "joined"],
}
COMPUTED = ("product", "masked")
"""What the page computes from the scores."""
HEADED = {"bahdanau": 1, "transformer": HEADS}

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
OPEN_ALL = (
    "() => document.querySelectorAll('details.matrix-pair:not([open]) > summary').forEach((each) => each.click())"
)
MATRICES = """() => [...document.querySelectorAll('details.matrix-pair')].map((pair) =>
  [...pair.querySelectorAll('table.heatmap')].map((table) => [...table.tBodies[0].rows].map((row) =>
    [...row.querySelectorAll('td')].map((cell) => [cell.title, cell.textContent]))))"""
CARDS = """(part) => [...document.querySelectorAll(`.strip.${part} .entry`)].map((entry) => ({
  name: entry.querySelector('.entry-name b').textContent,
  formula: [...entry.querySelectorAll('.formula math')].map((math) => math.textContent).join(' '),
  numbers: [...entry.querySelectorAll('table.row td.number')].map((cell) => cell.title)}))"""
COLUMN = """(selector) => [...document.querySelectorAll(selector)].map((cell) => cell.title || cell.textContent)"""


@pytest.fixture(scope="module", params=list(PLACES))
def seen(request, browser, tmp_path_factory):
    """A trained model's page, open in Chromium, and the same pass in plain NumPy."""
    name = request.param
    model = make(name)
    train(model, steps=20, learning_rate=0.02)
    file = tmp_path_factory.mktemp("page") / "page.html"
    found = microscope(model, SOURCE, TARGET)
    found.save(file)
    passed = plain(name), plain_models.float64_weights(model), SOURCE, TARGET
    values = plain_models.values(*passed)
    gradients = {
        (place, tensor): plain_models.gradient(*passed, place, tensor, values[place, tensor].shape)
        for place in PLACES[name]
        for tensor in TENSORS[name]
        if tensor not in COMPUTED
    }
    for place in PLACES[name]:
        add_computed(place, values, gradients)
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("[role=tab]")

    def choose(**selection):
        page.evaluate("(hash) => { location.hash = hash; }", "&".join(f"{k}={v}" for k, v in selection.items()))
        page.wait_for_selector(f"#tab-{selection['view']}[aria-selected=true]")
        page.evaluate(SETTLED)
        page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")  # cards that are not in sight

    yield SimpleNamespace(
        name=name,
        data=found.data,
        page=page,
        choose=choose,
        passed=passed,
        value=values,
        gradient=gradients,
        heads=HEADED[name],
    )
    context.close()


def add_computed(place, values, gradients):
    """The products before scaling, and the scores with -inf where the causal mask is."""
    scores, gradient = values[place, "scores"], gradients[place, "scores"]
    scale = 1.0 / np.sqrt(values[place, "Q"].shape[2])
    values[place, "product"], gradients[place, "product"] = scores / scale, gradient * scale
    open_ = np.tri(scores.shape[1], dtype=bool) if LAYERS.get(place) is CAUSAL else True
    values[place, "masked"], gradients[place, "masked"] = np.where(open_, scores, -np.inf), gradient


def number(text):
    return float(text.replace("−", "-").replace("∞", "inf"))


def agree(shown, expected, size=None, digits=1e-11):
    """Numbers shown in full are equal, but for roundings in sums of terms as large as ``size``."""
    size = np.abs(expected).max() if size is None else size
    np.testing.assert_allclose(shown, expected, rtol=0, atol=digits * size)


def test_every_cell_of_every_matrix(seen):
    cells = 0
    for place in PLACES[seen.name]:
        for head in range(seen.heads):
            seen.choose(view="site", site=place, head=head)
            seen.page.evaluate(OPEN_ALL)
            seen.page.evaluate(SETTLED)
            pairs = seen.page.evaluate(MATRICES)
            assert len(pairs) == len(TENSORS[seen.name])
            for tensor, tables in zip(TENSORS[seen.name], pairs, strict=True):
                for expected, table in zip((seen.value, seen.gradient), tables, strict=True):
                    whole = expected[place, tensor]
                    exact = np.array([[number(title) for title, _ in row] for row in table])
                    expected_cells = whole[min(head, len(whole) - 1)]
                    finite = np.isfinite(expected_cells)
                    np.testing.assert_array_equal(exact[~finite], expected_cells[~finite])
                    exact = exact[finite]
                    agree(exact, expected_cells[finite], size=np.abs(whole[np.isfinite(whole)]).max())
                    short = np.array([[number(text) for _, text in row] for row in table])[finite]
                    # At least one digit; below 0.001 only one.
                    assert (abs(short - exact) <= 0.5 * 10.0 ** np.floor(np.log10(abs(exact) + (exact == 0)))).all()
                    cells += exact.size
    assert cells > 600


@pytest.mark.parametrize(("view", "selector"), [("check", "#checked"), ("site", "#recorded")])
def test_single_cells_with_all_their_digits(seen, view, selector):
    rng = np.random.default_rng(1)
    for place in PLACES[seen.name]:
        for tensor in TENSORS[seen.name]:
            whole = seen.value[place, tensor]
            if tensor in COMPUTED:
                continue
            head, row, column = (int(rng.integers(size)) for size in whole.shape)
            cell = {
                "key" if tensor in ("K", "V") else "step": row,
                "key" if tensor in ("scores", "weights") else "channel": column,
            }
            for part, expected in (("value", whole), ("gradient", seen.gradient[place, tensor])):
                seen.choose(view=view, site=place, head=head, tensor=tensor, part=part, **cell)
                shown = number(seen.page.locator(selector).inner_text())
                agree(shown, expected[head, row, column], size=np.abs(expected).max())


def test_the_softmax_times_its_jacobian(seen):
    for place, sizes in PLACES[seen.name].items():
        head, row = seen.heads - 1, sizes["queries"] - 2
        seen.choose(view="jacobian", site=place, head=head, step=row)
        weights, for_weights, for_scores = (
            array[place, tensor][head, row]
            for array, tensor in ((seen.value, "weights"), (seen.gradient, "weights"), (seen.gradient, "scores"))
        )
        allowed = weights > 0.0
        assert allowed.sum() == (row + 1 if sizes is CAUSAL else sizes["keys"])
        jacobian = np.diag(weights) - np.outer(weights, weights)
        cells = seen.page.evaluate(COLUMN, ".jacobian table.heatmap tbody td")
        agree([number(cell) for cell in cells], jacobian[np.ix_(allowed, allowed)].ravel())
        rows = [number(cell) for cell in seen.page.evaluate(COLUMN, "table.products tbody td.number")]
        alpha, d_alpha, difference, d_score = np.reshape(rows, (-1, 4)).T
        size = np.abs(for_weights).max()
        agree(alpha, weights[allowed])
        agree(d_alpha, for_weights[allowed])
        # Shown with five digits.
        expected = (for_weights - weights @ for_weights)[allowed]
        np.testing.assert_allclose(difference, expected, rtol=5e-5, atol=1e-11 * size)
        agree(d_score, (jacobian @ for_weights)[allowed], size)
        agree(d_score, for_scores[allowed], size)


SYMBOLS = {
    "Q": "Q", "K": "K", "V": "V", "product": "P", "scores": "e", "masked": "ê", "weights": "α", "context": "c",
    "joined": "u", "attentional": "s̃", "logits": "o",
}  # fmt: skip
MADE = {
    "bahdanau": ["scores", "weights", "context", "joined", "attentional", "logits"],
    "transformer": ["product", "scores", "masked", "weights", "context", "joined"],
}
LEAVING = {
    "bahdanau": ["Q", "K", "scores", "weights", "V", "context", "joined", "logits", "attentional"],
    "transformer": ["Q", "K", "product", "scores", "masked", "weights", "V", "joined", "context"],
}
"""What the cards show forward and backward: what their step makes, and the gradients that leave it."""


def test_the_six_steps_at_one_time(seen):
    for place, sizes in PLACES[seen.name].items():
        head, row, key = seen.heads - 1, sizes["queries"] - 2, sizes["keys"] - 2
        site = next(site for site in seen.data["sites"] if site["id"] == place)
        for part, numbers, tensors in (("value", seen.value, MADE), ("gradient", seen.gradient, LEAVING)):
            seen.choose(view="steps", site=place, head=head, step=row, key=key, part=part)
            formulas = [
                formula["latex"]
                for step in site["steps"]
                for formula in ([step] if part == "value" else step["backward"])
            ]
            cards = seen.page.evaluate(CARDS, part)
            for card, tensor, formula in zip(cards, tensors[seen.name], formulas, strict=True):
                whole = numbers[place, tensor]
                assert card["name"] == ("∂L/∂" if part == "gradient" else "") + SYMBOLS[tensor]
                typeset = ElementTree.fromstring(f"<all>{mathml(formula) if formula else ''}</all>")
                assert card["formula"] == " ".join("".join(math.itertext()) for math in typeset)
                line = whole[min(head, len(whole) - 1), key if tensor in ("K", "V") else row]
                if len(line) > 12 and len(line) != sizes["keys"]:  # of a long row of channels the largest are shown
                    line = line[np.sort(np.argsort(-abs(line), kind="stable")[:12])]
                shown, finite = np.array([number(cell) for cell in card["numbers"]]), np.isfinite(line)
                np.testing.assert_array_equal(np.isfinite(shown), finite)
                agree(shown[finite], line[finite], np.abs(whole[np.isfinite(whole)]).max())


def test_the_paths_to_the_encoder(seen):
    seen.choose(view="paths")
    names = ("value", "key", "start", "total") if seen.name == "bahdanau" else ("value", "key", "total")
    shown = [number(cell) for cell in seen.page.evaluate(COLUMN, "table.ways tbody td.number")]
    directions = ("forward", "backward") if seen.name == "bahdanau" else ("forward",)
    width = seen.value["encoder", "forward"].shape[-1]
    expected = plain_models.ways(*seen.passed, directions, width)
    for name, norms in zip(names, np.reshape(shown, (-1, len(names))).T, strict=True):
        agree(norms, np.linalg.norm(expected[name], axis=1))


def test_the_losses(seen):
    seen.choose(view="summary")
    losses = [number(cell) for cell in seen.page.evaluate(COLUMN, "td.loss")]
    assert len(losses) == len(TARGET) + 1
    agree(np.mean(losses), plain_models.loss(*seen.passed).real, digits=1e-12)
    assert seen.page.locator("#badge.good").count() == 1
