"""The tour: each stop asks before it shows a number, and its answers are NumPy's; the same on paper."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make, matrix
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.render import render

import tinygrad_attn as ta

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
ALL = ["loss", "logit", "rival", "weights", "row", "context", "score", "zero", "value", "grows"]
WITHOUT = ["loss", "logit", "rival", "grows"]
NAMES = ["bahdanau", "luong concat local-p feeding", "luong general local-m", "transformer", "gpt", "seq2seq"]


def number(text):
    return float(text.replace("−", "-").replace("∞", "inf"))


@pytest.fixture(scope="module", params=NAMES)
def found(request):
    if request.param == "gpt":
        ta.manual_seed(3)
        return microscope(GPT(9, layers=2, heads=2, d_model=8, context=10).eval(), [4, 6, 5, 7, 6, 5, 8]).data
    return microscope(make(request.param), SOURCE, TARGET).data


@pytest.fixture
def page(visit, found, tmp_path):
    (tmp_path / "page.html").write_text(render(found), encoding="utf-8")
    page = visit(tmp_path / "page.html")
    go(page, view="tour")
    return page


def go(page, **selection):
    page.evaluate("(hash) => { location.hash = hash; }", "&".join(f"{key}={x}" for key, x in selection.items()))
    page.evaluate(SETTLED)


class Row:
    """The opening's row in NumPy, over the keys that it may attend to."""

    def __init__(self, data):
        site, self.step = data["sites"][-1], int(np.argmax([token["loss"] for token in data["tokens"]]))

        def whole(name, part):
            return matrix(data, site, name, part)

        sizes = np.abs(whole("scores", "gradient")[:, self.step])
        self.head, key = (int(i) for i in np.unravel_index(sizes.argmax(), sizes.shape))
        mask = matrix(data, {"tensors": {"mask": {"value": site["mask"]}}}, "mask", "value")
        self.open = np.arange(len(site["keys"]))
        if mask is not None:
            self.open = np.flatnonzero(mask[min(self.head, len(mask) - 1), self.step])
        self.mine = int(np.flatnonzero(self.open == key)[0])
        self.names = [site["keys"][j] for j in self.open]
        self.e, self.alpha = (whole(name, "value")[self.head, self.step, self.open] for name in ("scores", "weights"))
        context, values = (
            whole("context", "gradient")[self.head],
            whole("V", "value")[min(self.head, len(whole("V", "value")) - 1)],
        )
        mixed = whole("mixed", "value") if "mixed" in site["tensors"] else whole("weights", "value")
        self.d_mixed = (values @ context[self.step])[self.open]
        self.d_alpha = self.d_mixed * (
            whole("gaussian", "value")[0, self.step, self.open] if "mixed" in site["tensors"] else 1
        )
        self.d_score = self.alpha * (self.d_alpha - self.alpha @ self.d_alpha)
        self.d_values = np.linalg.norm(mixed[self.head].T @ context, axis=1)[self.open]


def sign(x):
    return 0 if x > 0 else 1 if x < 0 else 2


def answers(data):
    """By stop the words in its right choice, or its number, and the numbers that it should show."""
    tokens, count = data["tokens"], len(data["tokens"])
    token = max(tokens, key=lambda each: each["loss"])
    step = tokens.index(token)
    rival = next((symbol, p) for symbol, p in token["predicted"] if symbol != token["expected"])
    mine = (np.exp(-token["loss"]) - 1) / count
    cell = min(
        (cell for cell in data["check"]["cells"] if not cell["site"] and cell["resolved"]),
        key=lambda cell: cell["gradient"],
    )
    found = {
        "loss": (f"step {step}, which", None),
        "logit": (sign(mine), [mine]),
        "rival": (token["expected"], [mine, rival[1] / count]),
        "grows": (
            0 if cell["gradient"] < 0 else 1,
            [(cell["plus"] - cell["minus"]) / (2 * cell["eps"]), -0.1 * cell["gradient"], cell["gradient"]],
        ),
    }
    if not data["sites"]:
        return found
    row = Row(data)
    two = np.sort(np.argsort(-row.alpha, kind="stable")[:2])
    first = int(row.d_values.argmax())
    second = min((i for i in range(len(row.open)) if i != first), key=lambda i: row.alpha[i])
    return found | {
        "weights": (row.names[int(row.alpha.argmax())], row.alpha[two]),
        "row": (1, [row.alpha.sum()]),
        "context": (sign(row.d_mixed[row.mine]), [row.d_mixed[row.mine]]),
        "score": (sign(row.d_score[row.mine]), [row.d_score[row.mine]]),
        "zero": (0, [0.0]),
        "value": (row.names[first], row.d_values[sorted([first, second])]),
    }


def test_every_stop_asks_first_and_then_shows_numpys_numbers(page, found):
    expected = answers(found)
    names = [name for name in ALL if name in expected]
    assert names == (ALL if found["sites"] else WITHOUT)
    assert page.locator(".stops button").count() == len(names)
    left_out = page.locator(".left-out").all_inner_texts()
    assert ("no attention" in " ".join(left_out)) == (not found["sites"])
    for place, name in enumerate(names):
        go(page, view="tour", stop=place + 1)
        assert page.locator(".stop-answer .number").count() == 0 and page.locator(".choices .right").count() == 0
        page.locator(".choices button").last.click()
        page.wait_for_selector(".stop-answer .number")
        right, numbers = expected[name]
        marked = page.locator(".choices .right")
        if isinstance(right, int):
            assert page.locator(".choices button").nth(right).evaluate("(button) => button.className") == "right", name
        else:
            assert right in marked.inner_text(), name
        shown = [number(cell.get_attribute("title")) for cell in page.locator(".stop-answer dd").all()]
        if numbers is None:
            losses = [token["loss"] for token in found["tokens"]]
            assert shown[-1] == pytest.approx(np.mean(losses), rel=1e-12) and max(shown[:-1]) == max(losses)
        else:
            np.testing.assert_allclose(shown, numbers, rtol=1e-9, atol=1e-15, err_msg=name)
        if name == "logit" and any("logits" in site["tensors"] for site in found["sites"]):  # where it is recorded
            token = max(found["tokens"], key=lambda each: each["loss"])
            gradient = matrix(found, found["sites"][-1], "logits", "gradient")[0, found["tokens"].index(token)]
            assert shown[0] == pytest.approx(gradient[token["expected_id"]], rel=1e-9)


def test_progress_is_in_the_address(visit, found, tmp_path):
    (tmp_path / "page.html").write_text(render(found), encoding="utf-8")
    page = visit(tmp_path / "page.html")
    assert "answers" not in page.url
    go(page, view="tour")
    page.locator(".choices button").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="On →").click()
    page.wait_for_url(lambda address: "stop=2" in address and "answers=0-" in address)
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector(".stops [aria-current=step]")
    assert page.locator(".stops [aria-current=step]").inner_text() == "2"
    assert page.locator(".stops .right, .stops .wrong").count() == 1
    page.get_by_role("button", name="Begin again").click()
    page.wait_for_url(lambda address: "answers" not in address)
    assert page.locator(".stops .right, .stops .wrong").count() == 0


def test_the_worksheet_has_blanks_and_a_key(page, found):
    go(page, view="tour", sheet="blank")
    expected = answers(found)
    assert page.locator(".sheet").count() == 1 and page.locator(".sheet-stops > li").count() == len(expected)
    assert page.locator(".sheet-stops .number").count() == 0 and page.locator(".blanks .blank").count() >= 7
    given = page.locator(".by-hand td .number").count()
    page.get_by_role("button", name="worksheet and key").click()
    page.wait_for_selector(".sheet.answers")
    assert page.locator(".sheet:not(.answers) .by-hand td .number").count() == given
    for item, name in zip(
        page.locator(".answers .sheet-stops > li").all(), [name for name in ALL if name in expected], strict=True
    ):
        shown = [number(cell.get_attribute("title")) for cell in item.locator(".number").all()]
        if expected[name][1] is not None:
            np.testing.assert_allclose(shown, expected[name][1], rtol=1e-9, atol=1e-15)
        assert item.locator(".boxes li").count() == 1
    page.emulate_media(media="print")
    assert not page.locator(".sheet-buttons").is_visible() and not page.locator("[role=tablist]").is_visible()
    assert page.locator(".sheet.answers").evaluate("(sheet) => getComputedStyle(sheet).breakBefore") == "page"


def test_the_softmax_by_hand(page, found):
    go(page, view="tour", sheet="key")
    if not found["sites"]:
        assert page.locator(".by-hand").count() == 0
        return
    row = Row(found)
    order = np.argsort(-row.alpha, kind="stable")
    columns = [row.e - row.e.max(), np.exp(row.e - row.e.max()), row.alpha, row.d_alpha, row.alpha * row.d_alpha,
               row.d_alpha - row.alpha @ row.d_alpha, row.d_score]  # fmt: skip
    lines = page.locator(".answers .by-hand tbody tr").all()
    for i, line in zip(order[:4], lines[:4], strict=False):
        shown = [number(cell.get_attribute("title")) for cell in line.locator(".number .number").all()]
        np.testing.assert_allclose(shown, [column[i] for column in columns], rtol=1e-9, atol=1e-15)
    sums = [number(cell.get_attribute("title")) for cell in lines[-1].locator(".number .number").all()]
    np.testing.assert_allclose(sums, [columns[i].sum() for i in (1, 2, 4, 6)], rtol=1e-9, atol=1e-15)
    exp, alpha = columns[1], columns[2]
    np.testing.assert_allclose(exp / exp.sum(), alpha, rtol=1e-12)
