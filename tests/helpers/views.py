"""The views of the microscope's page, read from their files: what the tests of the page walk through."""

import json
import re

from tinygrad_attn_models.microscope.page.bundle import find_views

_WORDS = "export const words = "


def order_of(file):
    """Its place in the row of tabs."""
    return float(re.search(r"^export const order = (\S+);$", file.read_text(encoding="utf-8"), re.M)[1])


def words_of(file):
    """By language its texts; they are JSON."""
    code = file.read_text(encoding="utf-8")
    return json.JSONDecoder().raw_decode(code, code.index(_WORDS) + len(_WORDS))[0]


FILES = find_views()
VIEWS = sorted(FILES, key=lambda name: order_of(FILES[name]))
"""Their names in the order of the tabs."""


WITHOUT_ATTENTION = [
    "picture", "tour", "summary", "paths", "tape", "check", "parameters", "embeddings", "vocabulary", "step",
]  # fmt: skip
"""Those of a translator that announces no attention."""


def tabs(page):
    """The views that an open page has, those that its model has something to show in."""
    page.locator("[role=tab]").first.wait_for()
    return page.locator("[role=tab]").evaluate_all("(all) => all.map((tab) => tab.id.replace('tab-', ''))")


def show(page, view):
    """Choose a view of an open page by its tab."""
    page.locator(f"#tab-{view}").click()
    page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
