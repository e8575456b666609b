r"""The page's formulas: as MathML, broken where a line may break, and with their words in Korean."""

import re
from itertools import product
from xml.etree import ElementTree

import pytest
import tinygrad_attn_models.cli.main  # noqa: F401  # registers every op
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.korean import korean
from tinygrad_attn_models.microscope.page.mathml import mathml
from tinygrad_attn_models.microscope.page.render import _latex, render
from tinygrad_attn_models.microscope.record.formulas import Shown, step_formulas, tensor_formulas

from tinygrad_attn import nn
from tinygrad_attn.op import registered_ops

SCORES = tuple(nn.SCORES)
NAMES = {"gru", "nan", "mean"}
"""Names, the same in both languages."""


@pytest.fixture(scope="module")
def formulas():
    """All that the page may show: of every op, of scores, of what models announce, and of the badge's identities."""
    found = set()
    for op in registered_ops().values():
        found |= {op.formula, *(rule.formula for rule in op.rules.values())}
    for score, masked, local in product(SCORES, (False, True), (False, True)):
        shown = Shown(score, masked, local)
        found |= {latex for pair in tensor_formulas(shown).values() for latex in pair}
        found |= {step[2] for step in step_formulas(shown)}
        found |= {latex for step in step_formulas(shown) for _, latex in step[3]}
    for name in ("bahdanau", "luong general global", "transformer"):
        data = microscope(make(name), SOURCE, TARGET, sentences=[(SOURCE, TARGET)]).data
        found |= set(_latex([*data["sites"], *data["check"]["identities"]]))
    return sorted(latex for latex in found if latex)


def words(latex):
    return set(re.findall("[A-Za-z]{2,}", " ".join(re.findall(r"\\text\{([^{}]*)\}", latex)))) - NAMES


def symbols(latex):
    r"""All that is not in ``\text{…}``, in any order."""
    outside = re.sub(r"\\text\{[^{}]*\}", " ", latex)
    return sorted(re.findall(r"\\?[A-Za-z]+|\d", re.sub(r"\\;|\\ |\\,", " ", outside)))


def test_every_phrase_is_there_in_korean(formulas):
    missing = {latex: words(korean(latex)) for latex in formulas if words(korean(latex))}
    assert missing == {}, "add the phrases to models/microscope/page/korean.py"


def test_symbols_are_the_same_in_korean(formulas):
    lost = {latex: set(symbols(latex)) - set(symbols(korean(latex))) for latex in formulas}
    assert {latex: symbols for latex, symbols in lost.items() if symbols} == {}
    assert [latex for latex in formulas if (korean(latex) == latex) == bool(words(latex))] == []


def test_every_formula_is_mathml_without_styles(formulas):
    for latex in formulas:
        for version in (latex, korean(latex)):
            for formula in ElementTree.fromstring(f"<all>{mathml(version)}</all>"):
                assert formula.tag == "math" and all("style" not in node.attrib for node in formula.iter())


def test_a_phrase_that_korean_does_not_have_stays_as_it_is():
    assert korean(r"z = x \text{ squared twice}") == r"z = x \text{ squared twice}"


def test_a_formula_that_is_no_latex_is_shown_as_it_is():
    data = microscope(make("seq2seq"), SOURCE, TARGET).data
    data["ops"]["tanh"]["latex"] = r"z = \left( x"
    page = render(data)
    assert r"z = \\left( x" in page and "<merror" not in page


def test_a_condition_comes_after_what_it_is_about():
    assert korean(r"z = x \text{ where } c, \text{ else } y") == r"z = x \text{ (} c \text{인 곳), 그 외 } y"
    assert korean(r"\bar x_k = \text{part } k \text{ of } \bar z") == r"\bar x_k = \bar z \text{의 } k \text{번째 부분}"
    assert korean(r"y = x^2") == r"y = x^2"


@pytest.mark.parametrize(
    ("latex", "parts"),
    [
        (r"a = b, \quad c = d", 2),
        (r"a = b, \; c = d, \; e", 3),
        (r"f(a, \quad b)", 1),
        (r"\frac{a \quad b}{c}", 1),
        ("a", 1),
    ],
)
def test_lines_may_break_between_formulas_and_not_inside(latex, parts):
    assert mathml(latex).count("</math>") == parts


def test_operators_are_text_and_names_are_names():
    plus = ElementTree.fromstring(mathml(r"a \mathrel{+=} b"))
    assert [node.text for node in plus.iter("mo")] == ["+="] and not [node for mo in plus.iter("mo") for node in mo]
    softmax = ElementTree.fromstring(mathml(r"\operatorname{softmax}(x)"))
    assert "softmax" in [node.text for node in softmax.iter("mi")]


def test_brackets_stretch_around_what_is_tall_alone():
    def stretched(latex):
        return {node.get("stretchy") for node in ElementTree.fromstring(mathml(latex)).iter("mo") if node.get("fence")}

    assert stretched(r"\left(a + b\right)") == {"false"}
    assert stretched(r"\left(\frac{a}{b}\right)") == {"true"}


def test_what_is_not_mathml_is_refused(monkeypatch):
    monkeypatch.setattr("tinygrad_attn_models.microscope.page.mathml.convert", lambda _: "<math><script/></math>")
    with pytest.raises(ValueError, match="not MathML"):
        mathml("x + unseen")
