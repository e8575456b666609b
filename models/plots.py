"""Pictures of a run: the learning curve, and attention as a heatmap, in any script that an installed font has."""

from __future__ import annotations

import importlib.util
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from tinygrad_attn.serialize import atomic_path

from .alignment import Alignment
from .data.vocabulary import JOINER

__all__ = ["find_fonts", "plot_attention", "plot_learning_curve"]

# Tried before all others, since a rare font may hold a script in name only.
_PREFERRED = (
    "DejaVu Sans", "Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans KR", "NanumGothic", "Malgun Gothic",
    "Apple SD Gothic Neo", "Noto Sans",
)  # fmt: skip
# Where a font for a script is to be had.
_FONTS = {
    "HANGUL": "pip install koreanize-matplotlib",
    **dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA"), "apt install fonts-noto-cjk"),
}


def find_fonts(text: str) -> tuple[list[str], str]:
    """The names of installed fonts that together have every character of ``text``, and the characters that none has."""
    wanted = {ord(character) for character in text if not character.isspace()}
    names: list[str] = []
    _add_packaged_fonts()
    fonts = sorted(fontManager.ttflist, key=lambda font: (_rank(font.name), font.name, font.fname))
    for font in fonts:
        # Bold and oblique faces have the characters of the regular one, which is what labels are set in; matplotlib's
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
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def plot_attention(alignments: Sequence[Alignment], path: str | os.PathLike[str]) -> str:
    """Heatmaps, one beside the other, of how much each target symbol (a row) attended to each source symbol.

    Args:
        alignments: at least one.
        path: of the PNG file.

    Returns:
        What the reader should know: which characters no font has, shown as their code points, and which font to
        install; empty if all is legible.
    """
    symbols = [symbol for alignment in alignments for symbol in (*alignment.source, *alignment.target)]
    fonts, missing = find_fonts("".join(map(_visible, symbols)))
    heights, widths = zip(*[alignment.weights.shape for alignment in alignments], strict=True)
    columns = min(2, len(alignments))
    rows = -(-len(alignments) // columns)
    size = (columns * (1.5 + 0.24 * max(widths)), rows * (1.5 + 0.24 * max(heights)))
    with matplotlib.rc_context({"font.family": fonts, "axes.unicode_minus": False}):
        figure = Figure(figsize=size, layout="constrained")
        for position, alignment in enumerate(alignments):
            axes = figure.add_subplot(rows, columns, position + 1)
            image = axes.imshow(alignment.weights, cmap="cividis", vmin=0.0, vmax=1.0, aspect="equal")
            axes.set_xticks(range(len(alignment.source)), [_label(symbol, missing) for symbol in alignment.source])
            axes.set_yticks(range(len(alignment.target)), [_label(symbol, missing) for symbol in alignment.target])
            axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
            if any(len(_label(symbol, missing)) > 2 for symbol in alignment.source):
                axes.tick_params(axis="x", labelrotation=90)
            axes.set_xlabel("source")
            axes.set_ylabel("translation")
        figure.colorbar(image, ax=figure.axes, label="attention weight", shrink=0.6)
        _save(figure, path)
    return _advice(missing)


def _label(symbol: str, missing: str) -> str:
    """A symbol as it can be shown: a character that no font has as its code point."""
    shown = "".join(f"U+{ord(character):04X}" if character in missing else character for character in _visible(symbol))
    return shown.replace("$", r"\$")


def _visible(symbol: str) -> str:
    """A space, and the joiner of words, as signs that common fonts have."""
    return symbol.replace(" ", "␣").replace(JOINER, "▪")


def _advice(missing: str) -> str:
    if not missing:
        return ""
    scripts = sorted({unicodedata.name(character, "UNNAMED").split()[0] for character in missing})
    commands = sorted({_FONTS.get(script, "apt install fonts-noto-core") for script in scripts})
    shown = missing if len(missing) <= 8 else f"{missing[:8]}…"
    return (
        f"no installed font has {shown} ({', '.join(scripts)}), so the pictures show code points; "
        f"to see the characters: {'; '.join(commands)}"
    )


def plot_learning_curve(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Loss, and accuracy and exact match, by epoch.

    Args:
        history: the lines of ``log.csv``.
        path: of the PNG file.
    """
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, shares = figure.subplots(1, 2)
    loss.plot(epochs, [row["train_loss"] for row in history], "o--", label="training")
    loss.plot(epochs, [row["valid_loss"] for row in history], "s-", label="validation")
    loss.set(xlabel="epoch", ylabel="cross entropy, nats per token", ylim=(0, None))
    for key, marker, label in (
        ("train_accuracy", "o--", "token accuracy, training"),
        ("valid_accuracy", "s-", "token accuracy, validation"),
        ("valid_exact_match", "^-", "exact match, validation"),
    ):
        shares.plot(epochs, [100 * row[key] for row in history], marker, label=label)
    shares.set(xlabel="epoch", ylabel="%", ylim=(0, 102))
    for axes in (loss, shares):
        axes.set_xticks(_ticks(epochs))
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def _ticks(epochs: Iterable[int]) -> list[int]:
    """At most a dozen whole epochs."""
    numbers = list(epochs)
    return numbers[:: -(-len(numbers) // 12)]


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
