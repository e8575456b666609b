"""The pictures of the README's guide, made of the microscope's page in Chromium, in light and dark.

    python -m models train --out runs/dates-bahdanau
    python -m models train --config dates --set model.name=seq2seq training.epochs=4 --out runs/dates-seq2seq
    python tests/browser/pictures.py runs/dates-bahdanau runs/dates-seq2seq

Without runs it takes the pictures of what ships alone: python tests/browser/pictures.py

Figures come from the page's own SVG buttons; what is more than a figure is photographed. Needs the extras models and
browser, and a Chromium of the system.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from tinygrad_attn_models.demos import DEMOS
from tinygrad_attn_models.demos.make import make_page
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.runs.folder import Run

SOURCE, TARGET = "이천사십이년 시월 십구일", "2042-10-18"
STEP, KEY = 9, 11
"""Where the decoder should say 8, and looks at 구, nine."""
PLACE = f"step={STEP}&key={KEY}&tensor=scores&part=gradient"
FRAME = 1
"""Of the demo's frames that of step 100."""
FOLDER = Path(__file__).parents[2] / ".pictures" / "microscope"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", help="a run of the config dates, and another without attention"
    )
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium(Path(scratch)) as browser:
        opening, file = Path(scratch) / "opening.html", Path(scratch) / "page.html"
        make_page(next(iter(DEMOS.values())), opening)
        if arguments.runs:
            (run, model), beside = map(Run.load, arguments.runs)
            microscope(model, SOURCE, TARGET, run=run, beside=beside).save(file)
        for theme in ("light", "dark"):
            context = browser.new_context(
                offline=True,
                color_scheme=theme,
                locale="en-US",
                viewport={"width": 1280, "height": 930},
                device_scale_factor=1.25,
            )
            page = context.new_page()
            page.goto(opening.as_uri())
            page.wait_for_selector("#says")
            photograph(page, "body", f"picture-{theme}")
            page.goto(f"{opening.as_uri()}#view=over_training")
            page.wait_for_selector(".film-says")
            page.get_by_role("slider").fill(str(FRAME))
            page.evaluate("document.activeElement.blur()")
            page.wait_for_timeout(300)
            photograph(page, "body", f"training-{theme}")
            if arguments.runs:
                take(page, file.as_uri(), theme)
            context.close()


def take(page: Page, address: str, theme: str) -> None:
    """All pictures of one theme."""

    def look(view: str) -> None:
        page.goto("about:blank")
        page.goto(f"{address}#view={view}&{PLACE}")
        page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        page.wait_for_timeout(300)

    look("site")
    photograph(page, "body", f"site-{theme}")
    export(page, "attention-weights-head0", f"weights-{theme}")
    export(page, "attention-dscores-head0", f"score-gradients-{theme}")
    look("jacobian")
    photograph(page, "section.card:has(.words)", f"words-{theme}")
    look("check")
    photograph(page, ".columns", f"check-{theme}")
    look("paths")
    export(page, "paths-Bahdanau", f"paths-{theme}")
    export(page, "paths-Seq2Seq", f"paths-without-{theme}")


def photograph(page: Page, selector: str, name: str) -> None:
    """An element, or the window for ``body``, as a PNG with a palette."""
    file = FOLDER / f"{name}.png"
    if selector == "body":
        page.screenshot(path=file)
    else:
        page.locator(selector).first.screenshot(path=file)
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def export(page: Page, figure: str, name: str) -> None:
    """A figure, by its own button."""
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save {figure} as SVG", exact=True).click()
    download.value.save_as(FOLDER / f"{name}.svg")


@contextmanager
def chromium(scratch: Path) -> Iterator[Browser]:
    """A browser that has a Hangul font, that of the extra models, whatever the system has."""
    fonts = scratch / "fonts.conf"
    fonts.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        '<include ignore_missing="yes">/etc/fonts/fonts.conf</include>'
        f"<dir>{files('koreanize_matplotlib') / 'fonts'}</dir></fontconfig>",
        encoding="utf-8",
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
            env={**os.environ, "FONTCONFIG_FILE": str(fonts)},
        )
        yield browser
        browser.close()


if __name__ == "__main__":
    main()
