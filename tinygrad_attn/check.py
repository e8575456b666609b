"""gradcheck, gradgradcheck and check_op: derivatives against finite differences, in float64.

A check projects the outputs on a random vector v and compares ∂⟨v, f(x)⟩/∂x with the central difference
(f(x + h) − f(x − h)) / 2h of every element of x. The error reported is |analytic − numeric| / (1 + |numeric|).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_attn.autograd import grad
from tinygrad_attn.checked import shown
from tinygrad_attn.formula import FormulaError, check_formulas, stands_for_gradient
from tinygrad_attn.modes import no_grad, unfused
from tinygrad_attn.op import Op
from tinygrad_attn.ops.reduction import sum_to
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["CheckError", "OpReport", "check_op", "check_sample", "gradcheck", "gradgradcheck"]

Array = np.ndarray[Any, Any]
Function = Callable[..., Any]

STEP = 1e-6
TOLERANCE = 1e-5


@public("ta")
class CheckError(AssertionError):
    """A derivative, or another required property of an op, is wrong."""


@public("ta")
@dataclass
class OpReport:
    """The largest errors that `check_op` found over ``samples`` samples (0.0 where there was nothing to compare).

    Attributes:
        gradient: the gradient against finite differences.
        double_gradient: the gradient's gradient against finite differences of the gradient.
        kernel: the kernel against the rule, or the fused op against its reference.
    """

    name: str
    formula: str
    samples: int = 0
    gradient: float = 0.0
    double_gradient: float = 0.0
    kernel: float = 0.0

    def include(self, other: OpReport) -> None:
        """Keep the larger error of both reports."""
        self.samples += other.samples
        self.gradient = max(self.gradient, other.gradient)
        self.double_gradient = max(self.double_gradient, other.double_gradient)
        self.kernel = max(self.kernel, other.kernel)


# -- of any function ---------------------------------------------------------------------------------------------------


@public("ta")
def gradcheck(function: Function, inputs: Sequence[Tensor], tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """Compare the gradients of ``function(*inputs)`` with central differences.

    Args:
        function: takes the inputs, gives a tensor or a tuple of tensors.
        inputs: float64 tensors; those that require a gradient are checked.
        tolerance: the largest |analytic − numeric| / (1 + |numeric|) allowed.
        seed: of the random projection of the outputs.

    Returns:
        The largest error found.

    Raises:
        CheckError: an error above the tolerance; it names the input, the element and both values.
        TypeError: an input that requires a gradient is not float64.
    """
    if not callable(function):
        raise TypeError(f"gradcheck: expected a function of tensors, got {shown(function)}")
    for position, tensor in enumerate(inputs):
        if isinstance(tensor, Tensor) and tensor.requires_grad and tensor.dtype != np.float64:
            raise TypeError(f"gradcheck: input {position} is {tensor.dtype}; finite differences need float64")
    checked = [p for p, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    outputs = _floats_of(function(*inputs))
    weights = _projections(outputs, seed)
    analytic = _gradients(outputs, [inputs[p] for p in checked], weights)
    worst = 0.0
    for position, found in zip(checked, analytic, strict=True):
        numeric = _central_differences(function, inputs, position, weights)
        worst = max(worst, _compare(f"input {position}: ", found, numeric, tolerance, "analytic", "numeric"))
    return worst


@public("ta")
def gradgradcheck(function: Function, inputs: Sequence[Tensor], tolerance: float = TOLERANCE, seed: int = 0) -> float:
    """Compare the gradients of the gradients of ``function(*inputs)`` with central differences of the gradients.

    The gradient is taken as a function of the inputs and of the outputs' gradients. Arguments, result and errors are
    those of `gradcheck`.
    """
    checked = [p for p, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    seeds = [Tensor(w, requires_grad=True) for w in _projections(_floats_of(function(*inputs)), seed + 1)]

    def gradient(*arguments: Tensor) -> tuple[Tensor, ...]:
        given, weights = arguments[: len(inputs)], arguments[len(inputs) :]
        outputs = _floats_of(function(*given))
        found = grad(outputs, [given[p] for p in checked], weights, create_graph=True, allow_unused=True)
        return tuple(f for f in found if f is not None)

    return gradcheck(gradient, [*inputs, *seeds], tolerance, seed)


def _floats_of(outputs: Any) -> list[Tensor]:
    """The floating-point outputs, in order."""
    return [
        o
        for o in (outputs if isinstance(outputs, tuple) else (outputs,))
        if isinstance(o, Tensor) and o.is_floating_point()
    ]


def _projections(outputs: Sequence[Tensor], seed: int) -> list[Array]:
    generator = np.random.default_rng(seed)
    return [np.asarray(generator.uniform(0.5, 1.5, o.shape) * generator.choice([-1.0, 1.0], o.shape)) for o in outputs]


def _gradients(
    outputs: list[Tensor], inputs: list[Tensor], weights: list[Array], create_graph: bool = False
) -> list[Array]:
    """The gradients of ⟨weights, outputs⟩; zeros where an input is not reached."""
    pairs = [(o, Tensor(w.astype(o.dtype))) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    if not pairs:
        return [np.zeros(x.shape) for x in inputs]
    found = grad([o for o, _ in pairs], inputs, [w for _, w in pairs], create_graph=create_graph, allow_unused=True)
    return [np.zeros(x.shape, x.dtype) if f is None else f.array for x, f in zip(inputs, found, strict=True)]


def _central_differences(function: Function, inputs: Sequence[Any], position: int, weights: list[Array]) -> Array:
    """∂⟨weights, function(inputs)⟩/∂inputs[position], element by element."""
    values = inputs[position].array.copy()
    numeric = np.zeros(values.shape)
    for index in np.ndindex(values.shape):
        sides = []
        for step in (STEP, -STEP):
            moved = values.copy()
            moved[index] += step
            arguments = [Tensor(moved, requires_grad=True) if p == position else x for p, x in enumerate(inputs)]
            outputs = _floats_of(function(*arguments))
            sides.append(sum(float(np.sum(w * o.array)) for w, o in zip(weights, outputs, strict=True)))
        numeric[index] = (sides[0] - sides[1]) / (2 * STEP)
    return numeric


def _compare(where: str, found: Array, expected: Array, tolerance: float, left: str, right: str) -> float:
    """The largest |found − expected| / (1 + |expected|); a `CheckError` if it is above the tolerance."""
    if found.shape != expected.shape:
        raise CheckError(f"{where}{left} has shape {found.shape}, {right} {expected.shape}")
    if found.size == 0:
        return 0.0
    if found.dtype.kind == "b":
        found, expected = found.astype(np.int8), expected.astype(np.int8)
    with np.errstate(all="ignore"):
        error = np.abs(found - expected) / (1.0 + np.abs(expected))
    error = np.where(
        (found == expected) | (np.isnan(found) & np.isnan(expected)), 0.0, np.atleast_1d(error).reshape(found.shape)
    )
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    if not error[worst] <= tolerance:
        raise CheckError(
            f"{where}at {tuple(map(int, worst))} {left} {found[worst]:.9g}, {right} {expected[worst]:.9g}, "
            f"error {error[worst]:.2g}"
        )
    return float(error[worst])


# -- of an op ----------------------------------------------------------------------------------------------------------


@public("ta")
def check_op(op: Op, samples: int = 25, seed: int = 0) -> OpReport:
    """Check an op on ``samples`` samples drawn from its own sampler.

    - It has a sampler, a formula, and a rule for every floating-point operand.
    - Each rule's expression takes what the symbols of its formula stand for (`tinygrad_attn.formula`). The rule of an
      elementwise op has the formula's value (`tinygrad_attn.latex`).
    - Gradient and double gradient agree with finite differences.
    - Its kernels agree with its rules, also where only one output has a gradient, and both with its reference.
    - Non-contiguous operands give the same results as contiguous ones.
    - float32 operands give float32 results and float32 gradients.
    - Operands are not mutated, and no result shares memory with another tensor unless it is a view.
    - The declared errors are raised.

    Raises:
        CheckError: a check failed; the message names the op, the sample, and both values.
    """
    if not isinstance(op, Op):
        raise TypeError(f"check_op: expected an op, as @op makes it, got {shown(op)}")
    if op.samples is None:
        raise CheckError(f"{op.name}: no samples; give @op(..., samples=...) a sampler of its operands")
    if not op.formula.strip() or not all(formula.strip() for formula in op.derivatives().values()):
        raise CheckError(f"{op.name}: a formula is missing")
    try:
        check_formulas(op)
    except FormulaError as unbound:
        raise CheckError(str(unbound)) from None
    report = OpReport(op.name, op.formula)
    for number in range(samples):
        report.include(check_sample(op, op.samples(Draw.seeded(seed * 1_000_003 + number)), number))
    for error in op.errors:
        _check_error(op, error)
    return report


def _check_error(op: Op, error: ErrorSample) -> None:
    """The call raises the declared error."""
    try:
        op(*[Tensor(o) if isinstance(o, np.ndarray) else o for o in error.operands], **error.options)
    except error.exception as raised:
        if not re.search(error.match, str(raised)):
            raise CheckError(f"{op.name}: the message {str(raised)!r} does not match {error.match!r}") from raised
    else:
        raise CheckError(f"{op.name}({error.operands}, {error.options}) did not raise {error.exception.__name__}")


def check_sample(op: Op, sample: Sample, seed: int = 0) -> OpReport:
    """`check_op` on one sample."""
    try:
        return _check_sample(op, sample, seed)
    except CheckError as error:
        raise CheckError(f"{op.name}({sample}): {error}") from None


def _check_sample(op: Op, sample: Sample, seed: int) -> OpReport:
    report = OpReport(op.name, op.formula, samples=1)
    before = [o.copy() if isinstance(o, np.ndarray) else o for o in sample.operands]
    operands = _tensors(sample.operands, np.float64)
    outputs = _floats_of(_call(op, operands, sample))
    _check_contiguous(op, sample)
    _check_aliases(op, operands, outputs)
    inputs = [x for x in operands if isinstance(x, Tensor) and x.requires_grad]
    if outputs and inputs:
        for position, operand in enumerate(operands):
            if (
                isinstance(operand, Tensor)
                and operand.requires_grad
                and op.operand_name(position) not in op.differentiable
            ):
                raise CheckError(f"no vjp for the operand {op.operand_name(position)}")

        def function(*arguments: Any) -> Any:
            return _call(op, arguments, sample)

        report.gradient = gradcheck(function, operands, seed=seed)
        report.double_gradient = gradgradcheck(function, operands, seed=seed)
        _evaluate_formulas(op, sample, seed)
        report.kernel = max(_check_kernels(op, sample, seed), _check_each_output(op, sample, seed))
        _check_float32(op, sample, seed)
    for name, (operand, copy) in enumerate(zip(sample.operands, before, strict=True)):
        if isinstance(operand, np.ndarray) and not np.array_equal(operand, copy, equal_nan=True):
            raise CheckError(f"operand {name} was mutated")
    return report


def _call(op: Op, operands: Sequence[Any], sample: Sample) -> Any:
    return op(*operands, **sample.options)


def _tensors(operands: Sequence[Any], dtype: Any) -> list[Any]:
    """Arrays as tensors, floating ones as leaves of ``dtype`` that require a gradient; other operands unchanged."""
    return [
        (Tensor(o.astype(dtype, copy=False), requires_grad=True) if o.dtype.kind == "f" else Tensor(o))
        if isinstance(o, np.ndarray)
        else o
        for o in operands
    ]


def _check_contiguous(op: Op, sample: Sample) -> None:
    """The result depends on the values of the operands, not on their layout in memory."""
    plain = Sample(
        tuple(np.ascontiguousarray(o).reshape(o.shape) if isinstance(o, np.ndarray) else o for o in sample.operands),
        sample.options,
    )
    with no_grad():
        here = _call(op, _tensors(sample.operands, np.float64), sample)
        there = _call(op, _tensors(plain.operands, np.float64), plain)
    for a, b in zip(_all_of(here), _all_of(there), strict=True):
        _compare("operands made contiguous: ", a.array, b.array, 1e-12, "before", "after")


def _all_of(outputs: Any) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _check_aliases(op: Op, operands: Sequence[Any], outputs: Sequence[Tensor]) -> None:
    """An output is new memory or a view that shares its operand's storage; gradients share memory with nothing."""
    inputs = [x for x in operands if isinstance(x, Tensor)]
    for output in outputs:
        for x in inputs:
            if output.array is x.array:
                raise CheckError("the output shares its operand's array itself; return a copy or a view")
            if np.may_share_memory(output.array, x.array) and output.storage is not x.storage:
                raise CheckError("the output shares an operand's memory without being a view of it")
    targets = [x for x in inputs if x.requires_grad]
    started = [o for o in outputs if o.requires_grad]
    if not started or not targets:
        return
    seeds = [Tensor(np.ones_like(o.array)) for o in started]
    found = [g for g in grad(started, targets, seeds, retain_graph=True, allow_unused=True) if g is not None]
    others = [*seeds, *inputs, *outputs]
    for number, gradient in enumerate(found):
        for other in others + found[:number]:
            if np.shares_memory(gradient.array, other.array):
                raise CheckError(f"gradient {number} shares memory with another tensor")


def _check_kernels(op: Op, sample: Sample, seed: int) -> float:
    """Kernels agree with rules, and a fused op agrees with its reference."""
    fused = _with_gradients(op, sample, seed, create_graph=False)
    worst = _compare_all(
        "kernel against rule: ", fused, _with_gradients(op, sample, seed, create_graph=True), "kernel", "rule"
    )
    if op.reference is not None:
        with unfused():
            reference = _with_gradients(op, sample, seed, create_graph=False)
        worst = max(worst, _compare_all("fused against reference: ", fused, reference, "fused", "reference"))
    return worst


def _evaluate_formulas(op: Op, sample: Sample, seed: int) -> tuple[str, ...]:
    """Where the op is elementwise, the value of each rule's formula is the gradient.

    Returns:
        The operands whose formulas were computed; `tinygrad_attn.latex` cannot compute every formula.
    """
    operands = _tensors(sample.operands, np.float64)
    from tinygrad_attn.latex import Unsupported, evaluate_rule  # here, since only checks wait for its patterns

    outputs = _all_of(_call(op, operands, sample))
    if op.variadic or not _is_elementwise(op, sample, operands, outputs):
        return ()
    weights = _projections(outputs, seed)
    inputs = {op.operand_name(p): x for p, x in enumerate(operands) if isinstance(x, Tensor) and x.requires_grad}
    values = {**op.defaults, **sample.options, **dict(zip(op.operands, sample.operands, strict=True))}
    for index, (output, weight) in enumerate(zip(outputs, weights, strict=True)):
        end = f"[{index}]" if len(outputs) > 1 else ""
        values |= {f"z{end}": output.array, f"g{end}": weight}
    computed = []
    for name, gradient in zip(inputs, _gradients(outputs, list(inputs.values()), weights), strict=True):
        try:
            value = np.broadcast_to(evaluate_rule(op, name, values), outputs[0].shape)
        except Unsupported:
            continue
        value = sum_to.forward(value, shape=gradient.shape)
        _compare(f"vjp({name!r}), {op.rules[name].formula}: ", value, gradient, 1e-9, "formula", "gradient")
        computed.append(name)
    return tuple(computed)


def _is_elementwise(op: Op, sample: Sample, operands: Sequence[Any], outputs: Sequence[Tensor]) -> bool:
    """Whether each element of the result depends on one element of each operand (broadcast), wherever it stands."""
    shapes = [x.shape for x in operands if isinstance(x, Tensor)]
    if any(o.shape != outputs[0].shape or not o.requires_grad for o in outputs) or outputs[0].numel() < 2:
        return False
    try:
        if np.broadcast_shapes(*shapes) != outputs[0].shape:
            return False
        flat = [
            np.broadcast_to(o, outputs[0].shape).ravel()[::-1] if isinstance(o, np.ndarray) else o
            for o in sample.operands
        ]
        results = op.forward(*flat, **sample.options)
    except (ValueError, IndexError, TypeError):
        return False
    found = results[: len(outputs)] if isinstance(results, tuple) else (results,)
    return all(
        np.shape(a) == (b.numel(),) and np.allclose(a[::-1], b.array.ravel(), 1e-9, equal_nan=True)
        for a, b in zip(found, outputs, strict=True)
    )


def _check_each_output(op: Op, sample: Sample, seed: int) -> float:
    """For an op with several outputs: kernels agree with rules where only one output has a gradient."""
    worst = 0.0
    for number in range(op.outputs if op.outputs is not None and op.outputs > 1 else 0):
        kernel, rule = (_gradients_of_one(op, sample, seed, number, create_graph) for create_graph in (False, True))
        for name, gradient in rule.items():
            if name in op.rules and gradient.any() and not stands_for_gradient(op, name, number):
                raise CheckError(
                    f"{op.name}.vjp({name!r}), {op.rules[name].formula}: the gradient of output {number} reaches "
                    f"{name}, and no symbol of the formula stands for it"
                )
        where = f"the gradient of output {number} alone, kernel against rule: "
        worst = max(worst, _compare_all(where, list(kernel.values()), list(rule.values()), "kernel", "rule"))
    return worst


def _gradients_of_one(op: Op, sample: Sample, seed: int, number: int, create_graph: bool) -> dict[str, Array]:
    """The gradient of each operand, by name, where only the output of that number has a gradient."""
    operands = _tensors(sample.operands, np.float64)
    output = _call(op, operands, sample)[number]
    inputs = {op.operand_name(p): x for p, x in enumerate(operands) if isinstance(x, Tensor) and x.requires_grad}
    if not output.requires_grad:
        return {}
    found = _gradients([output], list(inputs.values()), _projections([output], seed), create_graph)
    return dict(zip(inputs, found, strict=True))


def _with_gradients(op: Op, sample: Sample, seed: int, create_graph: bool, dtype: Any = np.float64) -> list[Array]:
    operands = _tensors(sample.operands, dtype)
    outputs = _floats_of(_call(op, operands, sample))
    inputs = [x for x in operands if isinstance(x, Tensor) and x.requires_grad]
    return [o.array for o in outputs] + _gradients(outputs, inputs, _projections(outputs, seed), create_graph)


def _compare_all(
    where: str, found: list[Array], expected: list[Array], left: str, right: str, tolerance: float = 1e-9
) -> float:
    return max(
        (
            _compare(f"{where}result {i}: ", a, b, tolerance, left, right)
            for i, (a, b) in enumerate(zip(found, expected, strict=True))
        ),
        default=0.0,
    )


def _check_float32(op: Op, sample: Sample, seed: int) -> None:
    """float32 stays float32, forward and backward, and agrees with float64 within float32's precision."""
    wide = _with_gradients(op, sample, seed, False)
    narrow = _with_gradients(op, sample, seed, False, np.float32)
    for number, array in enumerate(narrow):
        if array.dtype != np.float32 and op.name != "cast":
            raise CheckError(f"float32 operands gave result or gradient {number} in {array.dtype}")
    # Values alone cannot be compared where a float64 option or rounding flips a choice, so the bound is float32's own.
    _compare_all("float32 against float64: ", [a.astype(np.float64) for a in narrow], wide, "float32", "float64", 1e-3)
