"""Stepping through time at sixty frames a second: what a step takes of the page's main thread, by Chromium's own trace.

The trace counts the thread's processor time of every task: scripts, style, layout and paint. Other work on the machine
makes it longer, but by far less than the time by the clock.
"""

import json
from pathlib import Path

import pytest
from views import tabs

PAGE = Path(__file__).parents[2] / ".pages" / "dates-bahdanau.html"
FRAME = 1000 / 60
"""Milliseconds."""
STEPS = 40
STEP = """async (count) => {
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  performance.mark('first-step');
  for (let i = 0; i < count; i += 1) {
    const key = Math.floor(i / 10) % 2 ? '[' : ']';
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    await frame();
  }
  performance.mark('last-step');
}"""


def milliseconds(trace):
    """The processor time of the main thread between the two marks, for each step."""
    marks = {each["name"]: each for each in trace if each["name"] in ("first-step", "last-step")}
    first, last = marks["first-step"], marks["last-step"]
    mine = [
        each for each in trace if each.get("ph") == "X" and (each["pid"], each["tid"]) == (first["pid"], first["tid"])
    ]
    tasks = [each for each in mine if each["name"].endswith("::RunTask") and first["ts"] <= each["ts"] <= last["ts"]]
    assert tasks and all("tdur" in each for each in tasks)
    return sum(each["tdur"] for each in tasks) / 1000 / STEPS


@pytest.mark.slow
def test_a_step_takes_less_than_a_frame_in_every_view(browser, visit):
    page = visit(PAGE)
    found = {}
    for view in tabs(page):
        page.evaluate("(hash) => { location.hash = hash; }", f"view={view}&step=0")
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        page.evaluate(STEP, 10)
        for _ in range(3):  # the best of three: other processes can only take time
            browser.start_tracing(page=page, categories=["toplevel", "blink.user_timing"])
            page.evaluate(STEP, STEPS)
            found[view] = min(
                found.get(view, float("inf")), milliseconds(json.loads(browser.stop_tracing())["traceEvents"])
            )
            if found[view] < FRAME / 2:
                break
    assert max(found.values()) < FRAME, found
