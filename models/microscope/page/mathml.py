r"""Converts LaTeX to MathML, which a browser typesets without a library."""

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
    r"""A formula as MathML, without styles, which the page's content security policy would refuse.

    Formulas that ``\quad`` or ``, \;`` separate become separate elements, so that a line can break between them:
    browsers do not break a line inside an element.

    Raises:
        ValueError: the LaTeX is not supported, or gives elements that are not MathML.
    """
    return " ".join(map(_one, _parts(latex.replace(r"\mathord", "").replace(r"\mathbin", ""))))


def _parts(latex: str) -> Iterator[str]:
    """The formulas between separators; a separator inside braces does not count."""
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
    """Correct an operator element: its content is only text, and a name (softmax) is no operator.

    Brackets around one line of text are not stretched: fonts without intermediate sizes would double their height.
    """
    node.text = "".join(node.itertext())
    for child in list(node):
        node.remove(child)
    if node.text.isalpha() and len(node.text) > 1:
        node.tag = "mi"
    if node.get("fence") == "true" and not is_tall:
        node.set("stretchy", "false")
