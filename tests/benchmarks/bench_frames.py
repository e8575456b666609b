"""Stepping through time: what a step takes of the page's main thread, by Chromium's own trace.

    python tests/benchmarks/bench_frames.py [--page .pages/dates-bahdanau.html] [--width 1280] [--rounds 3]

A screen shows sixty frames a second if each is made in less than 16.7 ms. Printed is the thread's processor time of all
tasks (scripts, style, layout, paint) for each step, the best of some rounds. Needs the extra browser and a Chromium of
the system.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

PAGE = Path(__file__).parents[2] / ".pages" / "dates-bahdanau.html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
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


def milliseconds_of(trace: list[dict[str, Any]]) -> float:
    """The main thread's time between the two marks, for each step; of some tasks only the clock is known."""
    marks = {each["name"]: each for each in trace if each["name"] in ("first-step", "last-step")}
    first, last = marks["first-step"], marks["last-step"]
    tasks = [
        each
        for each in trace
        if each.get("ph") == "X"
        and (each["pid"], each["tid"]) == (first["pid"], first["tid"])
        and each["name"].endswith("::RunTask")
        and first["ts"] <= each["ts"] <= last["ts"]
    ]
    return sum(each.get("tdur", each["dur"]) for each in tasks) / 1000 / STEPS


def measure(browser: Browser, page: Page, view: str, rounds: int) -> float:
    """The best of some rounds, since other processes can only take time."""
    page.evaluate("(hash) => { location.hash = hash; }", f"view={view}&step=0")
    page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
    page.evaluate(STEP, 10)
    found = []
    for _ in range(rounds):
        browser.start_tracing(page=page, categories=["toplevel", "blink.user_timing"])
        page.evaluate(STEP, STEPS)
        found.append(milliseconds_of(json.loads(browser.stop_tracing())["traceEvents"]))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": options.width, "height": 900})
        page.goto(options.page.resolve().as_uri())
        tabs = page.locator("[role=tab]")
        tabs.first.wait_for()
        for view in tabs.evaluate_all("tabs => tabs.map(tab => tab.id.replace('tab-', ''))"):
            print(f"{view:16s} {measure(browser, page, view, options.rounds):5.1f} ms a step", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
