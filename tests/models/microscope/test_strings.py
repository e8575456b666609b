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
    english, korean = (sorted(re.findall(r"\{(\w+)[}|]", STRINGS[where][name][key])) for name in ("en", "ko"))
    assert english == korean and STRINGS[where]["ko"][key].strip()


@pytest.mark.parametrize("name", GALLERY)
def test_the_gallerys_mistakes_are_explained(name):
    assert all(f"broken.{name}" in words for words in STRINGS["page"].values())


@pytest.mark.parametrize("where", STRINGS)
def test_korean_has_one_style(where):
    texts = STRINGS[where]["ko"].values()
    ends = {
        match for text in texts for match in re.findall(r"(\w+)[.?!](?=\s|$)", text) if re.search("[가-힣]$", match)
    }
    assert {end for end in ends if not re.search("(다|요|까)$", end)} == set()  # whole sentences are polite
    assert not [
        text for text in texts if re.search("순방향|역방향|한 스텝", text)
    ]  # 순전파, 역전파, 이전 스텝, 다음 스텝
