r"""Formula and numbers of every card belong together: each formula is computed from the numbers that the page shows.

A card of the view "Six steps" is a step's formula beside the numbers of the tensor that it makes or, backward, each
gradient that leaves it. The inspector shows the formula of a tensor beside one number of it.
"""

import json
import re

import numpy as np
import pytest
from cards import LETTERS, Numbers
from looked_at import EACH, SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.bundle import ASSETS

ATTENDING = [name for name in EACH if name.values != ("seq2seq",)]
NO_LETTERS = {"exp", "tanh", "max", "sqrt", "left", "right", "textstyle", "sum", "quad", "frac", "partial", "ge", "le"}
NO_LETTERS |= {"top", "dots", "infty", "text", "prime"}
ARRIVES = {"scores", "weights", "gaussian", "mixed", "context", "joined", "attentional", "logits", "product", "masked"}


def parameters_of(model):
    """The model's parameters by the letters of its formulas."""
    weights = {name: array.numpy().astype(np.float64) for name, array in model.state_dict().items()}
    found = {"W_o": weights["output.weight"], "b_o": weights["output.bias"]}
    if "combine.weight" in weights:
        found |= {"W_c": weights["combine.weight"], "b_c": weights["combine.bias"]}
    if "readout.weight" in weights:
        found["W"], found["W'"] = np.split(weights["readout.weight"], 2)
        found["b"], found["b'"] = np.split(weights["readout.bias"], 2)
    return found


@pytest.fixture(scope="module", params=ATTENDING)
def looked(request):
    model = make(request.param)
    data = microscope(model, SOURCE, TARGET).data
    return request.param, data, parameters_of(model)


def numbers_of(looked, site):
    _, data, parameters = looked
    for head in {0, site["heads"] - 1}:
        numbers = Numbers(data, site, head, parameters)
        for step in site["steps"]:
            numbers.define(step["latex"])
        yield numbers


def cards(site):
    """Of every card: the pass, the tensor whose numbers it shows, and its formula."""
    for step in site["steps"]:
        yield step, "value", step["tensor"], step["latex"]
        for leaving in step["backward"]:
            yield step, "gradient", leaving["tensor"], leaving["latex"]


def left_side(formula):
    """The tensor and the pass that a formula defines."""
    letter = re.sub(r"_(\{[^}]*\}|.)$", "", formula.split("=")[0].strip())
    part = "gradient" if letter.startswith(r"\bar") else "value"
    return LETTERS[letter.removeprefix(r"\bar").strip(" {}")], part


def test_every_card_shows_the_numbers_of_its_formula(looked):
    name, data, _ = looked
    for site in data["sites"]:
        for numbers in numbers_of(looked, site):
            for step, part, tensor, formula in cards(site):
                where = f"{name}, {site['id']}, {step['key']}: {formula}"
                if not formula:  # what arrives from outside
                    assert (part, tensor) == ("gradient", step["tensor"]), where
                    continue
                assert left_side(formula) == (tensor, part), where
                if tensor == "joined" and part == "value":
                    assert_joined(site, numbers, formula)
                elif r"\bar r" in formula and tensor != "context":
                    assert_fed(numbers, formula)
                else:
                    assert numbers.belongs(formula), where


def test_every_cell_shows_the_numbers_of_its_formula(looked):
    name, data, _ = looked
    for site in data["sites"]:
        for numbers in numbers_of(looked, site):
            for tensor, stored in site["tensors"].items():
                for part, formula in (("value", stored["latex"]), ("gradient", stored["gradient_latex"])):
                    if not formula or (tensor == "joined" and part == "value"):
                        continue
                    assert left_side(formula) == (tensor, part)
                    if tensor == "gaussian" and part == "value":
                        assert_gaussian(numbers)
                    elif r"\bar r" in formula and tensor != "context":
                        assert_fed(numbers, formula)
                    else:
                        assert numbers.belongs(formula), f"{name}, {tensor} at {site['id']}: {formula}"


def assert_joined(site, numbers, formula):
    """The context is the part of the joined vector that the formula says."""
    parts = [part.strip() for part in re.search(r"\[(.*)\]", formula)[1].split(";")]
    u, c = numbers.values["u"], numbers.values["c"]
    assert np.array_equal(u[:, numbers.part], c)
    if parts[-1] == "c_t^H":
        assert parts == ["c_t^1", r"\dots", "c_t^H"] and u.shape[1] == site["heads"] * c.shape[1]
    else:
        at = {0: 0, len(parts) - 1: u.shape[1] - c.shape[1]}[parts.index("c_t")]
        assert numbers.part.start == at


def assert_fed(numbers, formula):
    """With input feeding the attentional vector has a second way, from the next step; the last step has none."""
    *earlier, last = numbers.sides(formula.replace(r" + \bar r_t", ""), most=100)
    np.testing.assert_allclose(*last, rtol=1e-9)
    assert not any(np.allclose(*sides) for sides in earlier)


def assert_gaussian(numbers, sigma=0.5):
    """G falls as the formula says, around one centre in each row."""
    exponents = -2.0 * sigma**2 * np.log(numbers.values["G"])  # (j - μ)²
    j = np.arange(exponents.shape[1])
    centres = (exponents[:, :1] - exponents[:, 1:2] + 1.0) / 2.0
    np.testing.assert_allclose(exponents, (j - centres) ** 2, rtol=1e-8, atol=1e-10)


def test_the_gradients_of_queries_keys_and_values_stand_in_a_step(looked):
    _, data, _ = looked
    for site in data["sites"]:
        leaving = [leaving["tensor"] for step in site["steps"] for leaving in step["backward"]]
        made = [step["tensor"] for step in site["steps"]]
        assert {name for name in ("Q", "K", "V") if name in site["tensors"]} <= set(leaving)
        assert len(set(leaving)) == len(leaving) and len(set(made)) == len(made)
        assert set(site["tensors"]) - {"Q", "K", "V", "gaussian"} <= set(made) <= set(leaving)
        assert set(made) <= ARRIVES


def test_a_formula_beside_the_numbers_of_another_step_is_noticed(looked):
    _, data, parameters = looked
    site = data["sites"][-1]
    numbers = Numbers(data, site, 0, parameters)
    assert not numbers.belongs(
        site["tensors"]["scores"]["gradient_latex"].replace(r"\bar e_{tj} =", r"\bar \alpha_{tj} =")
    )
    numbers.gradients["e"] = numbers.gradients[r"\alpha"]  # what enters the softmax, in place of what leaves it
    assert not numbers.belongs(site["tensors"]["scores"]["gradient_latex"])


# -- letters -----------------------------------------------------------------------------------------------------------


def spelled(formula):
    r"""The letters of a formula, those in ``\text{…}`` apart, with a space between, as page/legend.js has them."""
    found = re.findall(r"\\[A-Za-z]+|[A-Za-z[\]']", re.sub(r"\\text{[^{}]*}", "", formula))
    return f" {' '.join(found)} "


def test_every_letter_is_in_the_legend(looked):
    _, data, _ = looked
    own = json.loads((ASSETS / "formulas.json").read_text(encoding="utf-8"))["letters"]
    explained = {letter for sign in own.values() for letter in re.findall(r"\\[A-Za-z]+|[A-Za-z]", " ".join(sign))}
    for site in data["sites"]:
        formulas = [formula for *_, formula in cards(site)]
        formulas += [tensor[key] for tensor in site["tensors"].values() for key in ("latex", "gradient_latex")]
        present = spelled(" ".join(formulas))
        shown = {name for name, (_, sign) in own.items() if f" {sign} " in present}
        letters = {letter for letter in present.split() if letter.isalpha() or letter.startswith("\\")}
        missing = {letter for letter in letters if letter.lstrip("\\") not in NO_LETTERS} - explained
        assert missing == set() and {"bar", "t", "j", "e", "alpha", "V", "c"} <= shown


def test_a_letter_means_one_thing():
    own = json.loads((ASSETS / "formulas.json").read_text(encoding="utf-8"))["letters"]
    signs = [sign for _, sign in own.values()]
    assert len(set(signs)) == len(signs)
    for name in ("en", "ko"):
        words = json.loads((ASSETS / f"strings.{name}.json").read_text(encoding="utf-8"))
        assert {key.removeprefix("letter.") for key in words if key.startswith("letter.")} == set(own)
