"""The page has every text in both languages, with the same placeholders."""

import json
import re

import pytest
from tinygrad_attn_models.microscope.checks.gallery import GALLERY
from tinygrad_attn_models.microscope.page.bundle import ASSETS
from views import FILES, words_of

STRINGS = {
    "page": {name: json.loads((ASSETS / f"strings.{name}.json").read_text(encoding="utf-8")) for name in ("en", "ko")},
    **{view: words_of(file) for view, file in FILES.items()},
}
"""By view the texts of each language, and those that all views share."""


@pytest.mark.parametrize("where", STRINGS)
def test_both_languages_have_the_same_texts(where):
    assert set(STRINGS[where]) == {"en", "ko"}
    assert list(STRINGS[where]["en"]) == list(STRINGS[where]["ko"])
    assert STRINGS[where]["en"]["title"]


@pytest.mark.parametrize(("where", "key"), [(where, key) for where, words in STRINGS.items() for key in words["en"]])
def test_a_text_has_the_same_holes_in_both(where, key):
    english, korean = (sorted(re.findall(r"\{\w+\}", STRINGS[where][name][key])) for name in ("en", "ko"))
    assert english == korean and STRINGS[where]["ko"][key].strip()


@pytest.mark.parametrize("name", GALLERY)
def test_the_gallerys_mistakes_are_explained(name):
    assert all(f"broken.{name}" in words for words in STRINGS["page"].values())
