"""The guide's pictures are there, in light and dark, small, and what they show is what the guide says."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = sorted(set(re.findall(r'"(\.pictures/microscope/[^"]+)"', README)))
LARGEST = 150_000  # bytes


def test_there_are_pictures_and_all_of_them_are_used():
    assert len(PICTURES) >= 8
    assert {str(path.relative_to(ROOT)) for path in (ROOT / ".pictures/microscope").iterdir()} == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture(name):
    content = (ROOT / name).read_bytes()
    assert len(content) < LARGEST
    twin = name.replace("-light.", "-dark.") if "-light." in name else name.replace("-dark.", "-light.")
    assert twin in PICTURES and twin != name
    if name.endswith(".svg"):
        assert ElementTree.fromstring(content).tag.endswith("svg")
    else:
        assert content.startswith(b"\x89PNG")


def test_the_numbers_of_the_text_are_those_of_the_pictures():
    texts = " ".join(ElementTree.parse(ROOT / ".pictures/microscope/score-gradients-light.svg").getroot().itertext())
    assert "+0.020" in README and "+0.020" in texts and "−0.011" in README and "−0.011" in texts
