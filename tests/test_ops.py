"""Every registered op is held to its promises; the tests find the ops by themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_attn  # noqa: F401  registers the ops
from tinygrad_attn.check import CheckError, check_op, check_sample
from tinygrad_attn.op import Op, op, registered_ops
from tinygrad_attn.samples import Draw, Sample, floats

OPS = {name: each for name, each in registered_ops().items() if each.__module__.startswith("tinygrad_attn.")}


def _affordable(each: Op, elements: int = 120) -> int:
    """How many of an op's first dozen samples hold no more elements than that, at least three: a double gradient is
    computed twice for each."""
    assert each.samples is not None
    drawn = [each.samples(Draw.seeded(number)) for number in range(12)]
    sizes = np.cumsum([sum(np.size(operand) for operand in sample.operands) for sample in drawn])
    return max(3, int(np.searchsorted(sizes, elements, "right")))


@pytest.mark.parametrize("name", OPS)
def test_check_op(name: str) -> None:
    check_op(OPS[name], samples=_affordable(OPS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
@given(data=st.data())
def test_any_sample(name: str, data: st.DataObject) -> None:
    draw = Draw(lambda low, high: data.draw(st.integers(low, high)))
    sampler = OPS[name].samples
    assert sampler is not None
    check_sample(OPS[name], sampler(draw), seed=data.draw(st.integers(0, 1000)))


def test_every_rule_has_a_formula() -> None:
    for each in OPS.values():
        assert each.formula.strip(), each.name
        assert all(formula.strip() for formula in each.derivatives().values()), each.name
        assert each.__doc__, each.name


# -- the checker itself: each broken op must be caught -----------------------------------------------------------------


def broken(forward, rule, samples=floats(), formula=r"2\,\bar z \odot x", **more) -> Op:  # type: ignore[no-untyped-def]  # noqa: B008
    made = Op(forward, r"z = f(x)", samples, (), 1, (), False)
    made.vjp("x", formula, rule, **more)
    return made


def square(x):  # type: ignore[no-untyped-def]
    return x * x


def test_catches_a_wrong_gradient() -> None:
    with pytest.raises(CheckError, match="analytic"):
        check_op(broken(square, lambda g, x: g * x))


def test_catches_a_wrong_double_gradient() -> None:
    from tinygrad_attn.tensor import Tensor

    with pytest.raises(CheckError, match="analytic"):
        check_op(broken(square, lambda g, x: g * Tensor(2.0 * x.array)))


def test_catches_a_kernel_that_differs_from_its_rule() -> None:
    # The kernel gives the plain gradient, so finite differences see it first.
    with pytest.raises(CheckError, match=r"kernel|analytic"):
        check_op(broken(square, lambda g, x: g * (2.0 * x), kernel=lambda g, x: g * (2.001 * x)))


def test_catches_an_upcast() -> None:
    with pytest.raises((CheckError, TypeError), match="float64"):
        check_op(broken(lambda x: x * x * np.float64(1.0), lambda g, x: g * (2.0 * x)))


def test_catches_mutation() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        x += 1.0
        return x * 2.0

    with pytest.raises(CheckError, match=r"mutated|before|analytic"):
        check_op(broken(forward, lambda g: g * 2.0, formula=r"2\,\bar z"))


def test_catches_an_output_that_is_its_operand() -> None:
    with pytest.raises(CheckError, match="shares"):
        check_op(broken(lambda x: x, lambda g: g, formula=r"\bar z"))


def test_catches_dependence_on_layout() -> None:
    def forward(x):  # type: ignore[no-untyped-def]
        return x * (1.0 if x.flags.c_contiguous else 2.0)

    with pytest.raises(CheckError):
        check_op(broken(forward, lambda g: g * 1.0, formula=r"\bar z"))


def test_catches_a_missing_rule() -> None:
    from tinygrad_attn.samples import broadcast_pairs

    made = Op(lambda x, y: x * y, r"z = x y", broadcast_pairs, (), 1, (), False)
    made.vjp("x", r"\bar z y", lambda g, y: g * y)
    with pytest.raises((CheckError, NotImplementedError), match="y"):
        check_op(made)


def test_catches_missing_samples_and_formulas() -> None:
    with pytest.raises(CheckError, match="no samples"):
        check_op(broken(square, lambda g, x: g * (2.0 * x), samples=None))
    made = broken(square, lambda g, x: g * (2.0 * x))
    made.formula = " "
    with pytest.raises(CheckError, match="formula"):
        check_op(made)


def test_catches_an_error_that_is_not_raised() -> None:
    from tinygrad_attn.samples import ErrorSample

    made = broken(square, lambda g, x: g * (2.0 * x))
    made.errors = (ErrorSample((np.ones(2),), {}, ValueError, "never"),)
    with pytest.raises(CheckError, match="did not raise"):
        check_op(made)


# -- an op of the user's -----------------------------------------------------------------------------------------------


def test_a_users_op() -> None:
    @op(r"z = x^3", samples=lambda draw: Sample((draw.floats(draw.shape()),)))
    def cube_of_a_user(x):  # type: ignore[no-untyped-def]
        return x**3

    cube_of_a_user.vjp("x", r"3\,\bar z \odot x^2", lambda g, x: g * (3.0 * x * x))
    report = check_op(cube_of_a_user)
    assert report.samples == 25
    assert 0.0 < report.gradient < 1e-6
    assert 0.0 < report.double_gradient < 1e-6


def test_declaration_errors() -> None:
    made = broken(square, lambda g, x: g * (2.0 * x))
    with pytest.raises(ValueError, match="no operand 'y'"):
        made.vjp("y", "0", lambda g: g)
    with pytest.raises(ValueError, match="'w' is none of"):
        made.vjp("x", "0", lambda g, w: g)
    with pytest.raises(ValueError, match=r"the op 'exp' is already defined in tinygrad_attn\.ops\.pointwise"):

        @op(r"z = x")
        def exp(x):  # type: ignore[no-untyped-def]
            return x


@pytest.mark.parametrize("name", sorted(registered_ops()))
def test_operands_of_every_dtype_give_one_that_tensors_can_have(name: str) -> None:
    op = registered_ops()[name]
    sample = op.samples(Draw.seeded(1))
    for dtype in (np.bool_, np.uint8, np.int32, np.int64, np.float32, np.float64):
        operands = [
            x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in sample.operands
        ]
        try:
            results = op(*operands, **sample.options)
        except (TypeError, ValueError):  # not defined for it
            continue
        for result in results if isinstance(results, tuple) else [results]:
            assert result.dtype.name in ("bool", "uint8", "int32", "int64", "float32", "float64"), dtype
