"""Finds fonts for the characters of a picture, in any script, or says which font to install."""

from __future__ import annotations

import importlib.util
import unicodedata
from functools import cache
from pathlib import Path

from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

__all__ = ["find_fonts", "font_advice"]

# Tried before all others, since a rare font may hold a script in name only.
_PREFERRED = (
    "DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans KR", "NanumGothic", "Malgun Gothic",
    "Apple SD Gothic Neo", "Noto Sans",
)  # fmt: skip
# How to install a font for a script.
_FONTS = {
    "HANGUL": "pip install koreanize-matplotlib",
    **dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA"), "apt install fonts-noto-cjk"),
}


def find_fonts(text: str) -> tuple[list[str], str]:
    """The names of installed fonts that have the characters of ``text``, and the characters that none has."""
    wanted = {ord(character) for character in text if not character.isspace()}
    names: list[str] = []
    _add_packaged_fonts()
    fonts = sorted(fontManager.ttflist, key=lambda font: (_rank(font.name), font.name, font.fname))
    for font in fonts:
        # Bold and oblique faces have the characters of the regular one, which labels use; matplotlib's
        # font of last resort has a box for every character.
        plain = font.style == "normal" and font.weight in (400, "normal", "regular")
        if not plain or font.name.startswith("Last Resort"):
            continue
        if not names or wanted & _characters(font.fname):
            names.append(font.name)
            wanted -= _characters(font.fname)
        if not wanted:
            break
    return names, "".join(map(chr, sorted(wanted)))


def font_advice(missing: str) -> str:
    """Advice for characters that no font has, ``missing``; empty if there are none."""
    if not missing:
        return ""
    scripts = sorted({unicodedata.name(character, "UNNAMED").split()[0] for character in missing})
    commands = sorted({_FONTS.get(script, "apt install fonts-noto-core") for script in scripts})
    shown = missing if len(missing) <= 8 else f"{missing[:8]}…"
    return (
        f"no installed font has {shown} ({', '.join(scripts)}), so the pictures show code points; "
        f"to see the characters: {'; '.join(commands)}"
    )


@cache
def _add_packaged_fonts() -> None:
    """Make the Hangul font in the package koreanize-matplotlib known; importing the package would change styles."""
    package = importlib.util.find_spec("koreanize_matplotlib")
    for folder in package.submodule_search_locations or () if package else ():
        for font in sorted(Path(folder).glob("fonts/*.ttf")):
            fontManager.addfont(font)


def _rank(name: str) -> int:
    return _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap() if font.scalable else ())  # pictures of emoji cannot be drawn
    except (OSError, RuntimeError):
        return frozenset()
