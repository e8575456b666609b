r"""Formulas as MathML, which a browser typesets without a library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from xml.etree import ElementTree

from latex2mathml.converter import convert

__all__ = ["mathml"]

_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_TALL = {"mfrac", "munder", "munderover", "mtable", "msqrt"}
_GAP = re.compile(r"\\quad\s*|(?<=,) *\\;\s*")


@cache
def mathml(latex: str) -> str:
    r"""A formula as MathML: elements of MathML alone, without styles, which the page's policy would refuse.

    What ``\quad`` or ``, \;`` separate become formulas of their own, so that a line can break between them: browsers
    break no line inside of one.

    Raises:
        ValueError: it is no LaTeX that is known here, or makes something else.
    """
    return " ".join(map(_one, _parts(latex.replace(r"\mathord", "").replace(r"\mathbin", ""))))


def _parts(latex: str) -> Iterator[str]:
    """The formulas between gaps that stand in no group."""
    start = 0
    for gap in _GAP.finditer(latex):
        before = latex[start : gap.start()]
        if all(before.count(left) == before.count(right) for left, right in ("{}", "()", "[]")):
            yield before
            start = gap.end()
    yield latex[start:]


def _one(latex: str) -> str:
    try:
        tree = ElementTree.fromstring(convert(latex))
    except Exception as error:  # the converter's own, IndexError, …
        raise ValueError(f"mathml: {latex!r} cannot be typeset: {type(error).__name__} {error}") from error
    is_tall = any(node.tag.removeprefix(_NAMESPACE) in _TALL for node in tree.iter())
    for node in tree.iter():
        if not node.tag.startswith(_NAMESPACE):
            raise ValueError(f"mathml: {latex!r} makes an element {node.tag!r}, which is not MathML")
        node.tag = node.tag.removeprefix(_NAMESPACE)
        node.attrib.pop("style", None)
        if node.tag == "mo":
            _mend_operator(node, is_tall)
    return ElementTree.tostring(tree, encoding="unicode")


def _mend_operator(node: ElementTree.Element, is_tall: bool) -> None:
    """An operator is text alone; a name (softmax) is none; brackets around one line of text are as high as the text,
    since fonts without sizes in between stretch them to twice that."""
    node.text = "".join(node.itertext())
    for child in list(node):
        node.remove(child)
    if node.text.isalpha() and len(node.text) > 1:
        node.tag = "mi"
    if node.get("fence") == "true" and not is_tall:
        node.set("stretchy", "false")
