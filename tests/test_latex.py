r"""The LaTeX of elementwise rules is computed and compared with the expression beside it."""

import numpy as np
import pytest

import tinygrad_attn  # noqa: F401  registers the ops
from tinygrad_attn.check import CheckError, _evaluate_formulas, check_op
from tinygrad_attn.latex import Unsupported, evaluate
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.samples import Draw, broadcast_pairs, floats

VALUES = {"x": 3.0, "y": 0.5, r"\bar z": 2.0, "h'": 4.0, r"\alpha": 0.1, "W_{n}": 7.0}


@pytest.mark.parametrize(
    ("latex", "value"),
    [
        ("x", 3.0),
        (r"\bar z \odot x", 6.0),
        (r"2 \bar z\, x y", 6.0),
        (r"-\bar z / (2x)", -1.0 / 3.0),
        ("x - y - y", 2.0),
        ("x / y / y", 12.0),
        (r"\tfrac12\,\bar z \odot x^2", 9.0),
        (r"\tfrac{1}{x + 1}", 0.25),
        (r"\bar z\,x^{y - 1}", 2.0 * 3.0**-0.5),
        (r"e^{-x^2} + 1", np.exp(-9.0) + 1.0),
        (r"\sqrt{x + 1} - \sqrt x", 2.0 - 3.0**0.5),
        (r"1 - \tanh^2 h'", 1.0 - np.tanh(4.0) ** 2),
        (r"\sigma(x) \ln x", np.log(3.0) / (1.0 + np.exp(-3.0))),
        (r"\operatorname{sign}(-x) |{-x}|", None),
        (r"|y - x| + [x > y] + [x = y] + [y \le x \le x]", 4.5),
        (r"\left(x + y\right) \cdot \alpha", 0.35),
        (r"W_n + x", 10.0),
        (r"x^\top y", None),
        (r"\textstyle\sum_i x_i", None),
        (r"x \text{ where } y", None),
        ("(x", None),
        ("w", None),
    ],
)
def test_a_formula_has_a_value_or_is_not_supported(latex: str, value: float | None) -> None:
    def value_of(key: str) -> float:
        if key not in VALUES:
            raise Unsupported(key)
        return VALUES[key]

    if value is None:
        with pytest.raises(Unsupported):
            evaluate(latex, value_of)
    else:
        assert evaluate(latex, value_of) == pytest.approx(value, rel=1e-12)


def test_elementwise_rules_are_computed() -> None:
    names = "add mul true_divide exp tanh sqrt sigmoid silu maximum clamp relu".split()
    computed = set()
    for name in names:
        op = registered_ops()[name]
        assert op.samples is not None
        for seed in range(6):
            computed |= {(name, operand) for operand in _evaluate_formulas(op, op.samples(Draw.seeded(seed)), seed)}
    assert {name for name, _ in computed} == set(names)
    assert {("true_divide", "y"), ("maximum", "y"), ("mul", "x")} <= computed


def squared(formula: str) -> Op:
    made = Op(lambda x: x * x, r"z = x^2", floats(), (), 1, (), False)
    made.vjp("x", formula, lambda g, x: g * (2.0 * x))
    return made


@pytest.mark.parametrize(
    "formula", [r"\bar z \odot x", r"-2\,\bar z \odot x", r"2\,\bar z \odot x^2", r"2\,\bar z / x"]
)
def test_catches_a_formula_with_another_value(formula: str) -> None:
    check_op(squared(r"2\,\bar z \odot x"))
    with pytest.raises(CheckError, match=r"formula .*, gradient"):
        check_op(squared(formula))


def test_a_product_beside_a_matrix_product_is_left_alone() -> None:
    """Letters beside each other may be matrices: only where the op is elementwise are they multiplied so."""
    linear = registered_ops()["linear"]
    assert linear.samples is not None
    assert not any(_evaluate_formulas(linear, linear.samples(Draw.seeded(seed)), seed) for seed in range(20))


def test_catches_a_sum_where_a_difference_is_written() -> None:
    made = Op(lambda x, y: x * y - y, r"z = x y - y", broadcast_pairs, (), 1, (), False)
    made.vjp("x", r"\bar z \odot y", lambda g, y: g * y)
    made.vjp("y", r"\bar z \odot (x + 1)", lambda g, x: g * (x - 1.0))
    with pytest.raises(CheckError, match=r"vjp\('y'\).*formula"):
        check_op(made)
