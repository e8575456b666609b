"""The selection in the page's address: links to a cell, back and forward, and addresses that name nothing there is."""

import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from views import show, tabs

SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
STEPS = """async (count) => {
  const { replaceState } = history;
  let written = 0;
  history.replaceState = function (...given) { written += 1; return replaceState.apply(this, given); };
  for (let i = 0; i < count; i += 1) {
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: i % 2 ? ']' : '[', bubbles: true }));
    await new Promise(requestAnimationFrame);
  }
  history.replaceState = replaceState;
  return [written, Number(document.querySelector('.stepper b').innerText.split('=')[1])];
}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("address") / "page.html"
    microscope(make("transformer"), SOURCE, TARGET).save(path)
    return path


def go(page, address):
    page.evaluate("(hash) => { location.hash = hash; }", address)
    page.evaluate(SETTLED)


def step_of(page):
    return int(page.locator(".stepper b").inner_text().split("=")[1])


def test_quick_steps_are_written_rarely_and_the_last_is_kept(visit, file):
    """A browser takes milliseconds to write an address, and some refuse a hundred in half a minute."""
    page = visit(file)
    go(page, "view=site&step=2")
    written, step = page.evaluate(STEPS, 61)
    assert written <= 6
    page.wait_for_url(f"**step={step}&**")
    page.reload()
    page.wait_for_selector(".stepper")
    assert step_of(page) == step


def test_back_and_forward_lead_through_the_views_with_their_steps(visit, file):
    page = visit(file)
    go(page, "view=site&step=0")
    page.keyboard.press("]")
    page.keyboard.press("]")
    show(page, "steps")
    page.keyboard.press("[")
    show(page, "jacobian")
    for view, step in (("steps", 1), ("site", 2)):
        page.go_back()
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        page.evaluate(SETTLED)
        assert step_of(page) == step
    page.go_forward()
    page.wait_for_selector("#tab-steps[aria-selected=true]")
    assert step_of(page) == 1


def test_an_address_that_the_reader_enters_is_not_written_over(visit, file):
    page = visit(file)
    go(page, "view=site&step=0")
    page.keyboard.press("]")
    page.keyboard.press("]")  # this one waits to be written
    go(page, "view=site&step=3")
    page.wait_for_timeout(500)
    assert "step=3" in page.url and step_of(page) == 3


WRONG = [
    "view=nothing", "view=__proto__", "site=nowhere", "step=-3", "step=1e99", "key=99999999999999999999", "head=2.5",
    "op=4000000000", "op=NaN", "tensor=constructor", "part=both", "parameter=none", "stop=99", "stop=x", "sheet=both",
    "answers=%00", "%", "=&=&&", "tensor=V&key=99&channel=-99",
]  # fmt: skip


def test_wrong_addresses_open_something_sound(visit, file):
    page = visit(file)
    views = tabs(page)
    everything = "&".join(reversed(WRONG[2:]))
    for address in (*WRONG, *(f"view={view}&{everything}" for view in views)):
        go(page, address)
        wanted = address.removeprefix("view=").partition("&")[0]
        chosen = page.locator("[role=tab][aria-selected=true]").get_attribute("id")
        assert chosen == f"tab-{wanted if wanted in views else views[0]}"
        assert page.locator("#panel").inner_text().strip(), address
