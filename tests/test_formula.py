r"""Formulas are bound to code: every kind of disagreement between the two is detected."""

import numpy as np
import pytest

import tinygrad_attn  # noqa: F401  registers the ops
from tinygrad_attn.check import CheckError, check_op
from tinygrad_attn.formula import FormulaError, check_formulas, stands_for_gradient
from tinygrad_attn.op import Op, registered_ops
from tinygrad_attn.samples import Draw, Sample, broadcast_pairs

OPS = {name: each for name, each in registered_ops().items() if each.__module__.startswith("tinygrad_attn.")}


@pytest.mark.parametrize("name", OPS)
def test_every_rule_is_an_expression_of_what_its_formula_says(name: str) -> None:
    check_formulas(OPS[name])
    assert all(rule.function is not None for rule in OPS[name].rules.values())


def product(formula, rule=lambda g, y: g * y, forward=r"z = x \odot y", **symbols) -> Op:  # type: ignore[no-untyped-def]
    made = Op(lambda x, y: x * y, forward, broadcast_pairs, (), 1, (), False, symbols)
    made.vjp("x", formula, rule)
    made.vjp("y", r"\bar z \odot x", lambda g, x: g * x)
    return made


@pytest.mark.parametrize(
    "formula",
    [
        r"\bar z \odot y",
        r"\bar x = \bar z \odot y",
        r"\bar x_i = \bar z_i\,y_i",
        r"\bar z\,y \text{, as always}",
        r"a, \quad a = \bar z \odot y",
        r"\operatorname{mean} \bar z \odot y^2 / y",
        r"\delta_n, \quad \delta_n = \bar z \odot n, \quad n = y",
    ],
)
def test_a_formula_of_what_the_expression_takes_passes(formula: str) -> None:
    check_op(product(formula), 5)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (r"\bar z \odot w", "w stands for nothing"),
        (r"\bar z \odot x", "x stands for x, which the expression does not take"),
        (r"\bar z", "takes y, which no symbol"),
        (r"y", "takes g, which no symbol"),
        (r"z \odot y", "z stands for z, which the expression does not take|x stands for x"),
        (r"\bar a \odot y", r"\\bar a stands for nothing"),
        (r"\bar z \odot a, \quad a = y + w", "w stands for nothing"),
        (r"\bar z, \quad \bar z = \bar z \odot y", "may not define it again"),
        (r"\delta_m, \quad \delta_n = \bar z \odot n, \quad n = y, \quad m = y", r"\\delta_\{m\} stands for nothing"),
    ],
)
def test_catches_a_formula_that_drifts_from_its_expression(formula: str, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check_op(product(formula), 5)


def test_catches_a_formula_without_an_expression() -> None:
    with pytest.raises(CheckError, match="has no expression"):
        check_op(product(r"\bar z \odot y", None), 5)


def test_catches_one_symbol_with_two_definitions() -> None:
    made = product(r"a, \quad a = \bar z \odot y")
    made.vjp("y", r"a, \quad a = \bar z \odot x", lambda g, x: g * x)
    with pytest.raises(FormulaError, match="defines a in another way"):
        check_formulas(made)


def test_an_option_needs_a_symbol_and_may_have_any() -> None:
    def forward(x, factor=2.0):  # type: ignore[no-untyped-def]
        return x * factor

    def made(formula: str, **symbols: str) -> Op:
        op = Op(forward, r"z = c\,x", lambda draw: Sample((draw.floats(draw.shape()),)), (), 1, (), False, symbols)
        op.vjp("x", formula, lambda g, factor: g * factor)
        return op

    check_op(made(r"c\,\bar z", c="factor"), 3)
    with pytest.raises(CheckError, match="takes factor"):
        check_op(made(r"2\,\bar z"), 3)


# -- several outputs ---------------------------------------------------------------------------------------------------


def split_in_two(formula: str, rule=lambda g: _sum(g)) -> Op:  # type: ignore[no-untyped-def]
    def samples(draw: Draw) -> Sample:
        return Sample((draw.floats(draw.shape()),))

    made = Op(lambda x: (x * 2.0, x * 3.0), r"a = 2 x, \quad b = 3 x", samples, (), 2, (), False)
    made.vjp("x", formula, rule)
    return made


def _sum(g):  # type: ignore[no-untyped-def]
    parts = [part * factor for part, factor in zip(g, (2.0, 3.0), strict=True) if part is not None]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def test_each_output_has_its_gradient() -> None:
    made = split_in_two(r"2 \bar a + 3 \bar b")
    check_op(made, 5)
    assert stands_for_gradient(made, "x", 0) and stands_for_gradient(made, "x", 1)


def test_catches_the_gradient_of_an_output_that_no_symbol_stands_for() -> None:
    with pytest.raises(CheckError, match="the gradient of output 1 reaches x"):
        check_op(split_in_two(r"2 \bar a \text{, so to say}"), 5)  # words, so that it is not computed


def test_catches_a_formula_that_takes_an_outputs_own_gradient_for_what_comes_back() -> None:
    r"""As the formula of attention_gru did: \bar c = W_c^\top \delta, where c is an output too."""
    with pytest.raises(CheckError, match=r"\\bar b is g\[1\], the gradient that an output gets from its uses"):
        check_op(split_in_two(r"2 \bar a + 3 \bar b, \quad \bar b = \bar a"), 5)
    step = registered_ops()["attention_gru_step"]
    made = Op(step.__wrapped__, step.formula, step.samples, (), 3, (), False, step.symbols)
    for name, rule in step.rules.items():
        made.vjp(name, rule.formula, rule.function)
    check_formulas(made)
    made.vjp("values", r"\alpha_j\,\bar c, \quad \bar c = \delta\,W_c", step.rules["values"].function)
    with pytest.raises(FormulaError, match=r"\\bar c is g\[1\]"):
        check_formulas(made)


def test_a_loop_shows_the_rules_of_its_step() -> None:
    ops = registered_ops()
    for name in ("rnn", "gru", "lstm", "attention_gru"):
        step = ops[f"{name}_step"]
        assert ops[name].step is step and not ops[name].rules
        assert ops[name].derivatives() == step.derivatives() == {n: rule.formula for n, rule in step.rules.items()}
        assert "mask" not in ops[name].differentiable


def test_a_rule_may_leave_an_operand_without_gradient() -> None:
    from tinygrad_attn.autograd import grad
    from tinygrad_attn.ops.fused.linear import paired_linear
    from tinygrad_attn.tensor import Tensor

    x, y, w = (Tensor(np.ones(shape), requires_grad=True) for shape in ((2, 3), (4, 3), (5, 3)))
    for_x, _ = paired_linear(x, y, w, rows=2)
    found = grad(for_x, [x, y, w], np.ones((2, 2)), create_graph=True, allow_unused=True)
    assert found[1] is None or not found[1].array.any()
    np.testing.assert_array_equal(found[2].array, [[2.0] * 3] * 2 + [[0.0] * 3] * 3)


def test_what_rules_share_is_computed_once_for_a_node() -> None:
    from tinygrad_attn.autograd import grad
    from tinygrad_attn.rule import once_per_node
    from tinygrad_attn.tensor import Tensor

    calls = []

    @once_per_node
    def doubled(g: Tensor) -> Tensor:
        calls.append(g)
        return g * 2.0

    made = Op(lambda x, y: 2.0 * (x + y), r"z = 2 (x + y)", broadcast_pairs, (), 1, (), False)
    made.vjp("x", r"2 \bar z", lambda g: doubled(g) * 1.0)
    made.vjp("y", r"2 \bar z", lambda g: doubled(g) * 1.0)
    x, y = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    for create_graph in (False, True):
        found = grad(made(x, y), [x, y], np.ones(3), create_graph=create_graph)
        assert [gradient.array.tolist() for gradient in found] == [[2.0] * 3] * 2
    assert len(calls) == 2
    doubled(x), doubled(x)
    assert len(calls) == 4
