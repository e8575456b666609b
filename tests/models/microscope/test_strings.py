"""The page speaks both languages throughout: the same texts, with the same holes."""

import json
import re

import pytest
from tinygrad_attn_models.microscope.checks.gallery import GALLERY
from tinygrad_attn_models.microscope.page.bundle import ASSETS

STRINGS = {name: json.loads((ASSETS / f"strings.{name}.json").read_text(encoding="utf-8")) for name in ("en", "ko")}


def test_both_languages_have_the_same_texts():
    assert list(STRINGS["en"]) == list(STRINGS["ko"])


@pytest.mark.parametrize("key", STRINGS["en"])
def test_a_text_has_the_same_holes_in_both(key):
    english, korean = (sorted(re.findall(r"\{\w+\}", STRINGS[name][key])) for name in ("en", "ko"))
    assert english == korean and STRINGS["ko"][key].strip()


@pytest.mark.parametrize("name", GALLERY)
def test_the_gallerys_mistakes_are_explained(name):
    assert all(f"broken.{name}" in strings for strings in STRINGS.values())
