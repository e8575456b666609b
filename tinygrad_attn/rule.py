"""The derivatives of an op: the rule of each operand, where its arguments come from, and the plan of a call."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tinygrad_attn.op import Op

__all__ = ["GRADIENT_ALONE", "SPECIAL", "Arguments", "Plan", "Rule", "Source", "parameter_names"]


class Source(enum.Enum):
    """Where the engine finds what a rule asks for by name."""

    GRADIENT = enum.auto()
    OUTPUT = enum.auto()
    OPERAND = enum.auto()
    OPERANDS = enum.auto()
    SAVED = enum.auto()
    OPTION = enum.auto()
    POSITION = enum.auto()
    NEEDS = enum.auto()


SPECIAL = {
    "g": Source.GRADIENT,
    "z": Source.OUTPUT,
    "shapes": Source.SAVED,
    "dtypes": Source.SAVED,
    "position": Source.POSITION,
    "needs": Source.NEEDS,
}


# For each parameter of a rule where its value comes from, and its name there (of an operand the position).
Arguments: TypeAlias = "tuple[tuple[Source, Any], ...]"


GRADIENT_ALONE: Arguments = ((Source.GRADIENT, "g"),)


class Rule:
    """The derivative for one operand: its formula, the expression over tensors, and the kernel on arrays if there is
    one.

    ``arguments`` and ``kernel_arguments`` say for each parameter of the two what the engine passes to it.
    """

    def __init__(
        self, op: Op, formula: str, function: Callable[..., Any] | None, kernel: Callable[..., Any] | None
    ) -> None:
        self.formula = formula
        self.function = function
        self.kernel = kernel
        self.names = parameter_names(function)
        self.kernel_names = parameter_names(kernel)
        self.arguments = op.arguments_of(self.names)
        self.kernel_arguments = op.arguments_of(self.kernel_names)


class Plan:
    """What a call writes into the graph when a given set of its operands requires a gradient.

    Attributes:
        op: the op.
        rules: for every operand the rule that will give its gradient, or None.
        kernels: position, kernel and arguments of each rule, if all of them have a kernel; else None.
        without_rule: an operand that requires a gradient but has no rule, or None.
        keeps: for each operand whether the rules need it.
        saves: what else they need, by name.
    """

    def __init__(self, op: Op, mask: int, count: int) -> None:
        self.op = op
        names = [op.operand_name(position) for position in range(count)]
        needing = [name if mask >> position & 1 else None for position, name in enumerate(names)]
        self.rules = [op.rules.get(name) if name else None for name in needing]
        used = [(position, rule) for position, rule in enumerate(self.rules) if rule is not None]
        self.kernels: list[tuple[int, Callable[..., Any], Arguments]] | None = None
        if op.joint_kernel is None and all(rule.kernel is not None for _, rule in used):
            self.kernels = [(position, rule.kernel, rule.kernel_arguments) for position, rule in used if rule.kernel]
        self.without_rule = next((name for name in needing if name and name not in op.rules), None)
        wanted = {name for rule in [r for _, r in used] for name in (*rule.names, *rule.kernel_names)}
        wanted.update(op.joint_names)
        if op.reference is not None:
            wanted.update(op.operands)
        self.keeps = [name in wanted for name in names]
        self.keeps_all, self.keeps_none = all(self.keeps), not any(self.keeps)
        self.saves = [name for name in ("z", "shapes", "dtypes", *op.saves) if name in wanted]

    def kept(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """The operands, None for those that the rules don't need."""
        if self.keeps_none:
            return ()
        return tuple([o if keep else None for o, keep in zip(operands, self.keeps, strict=True)])


def parameter_names(function: Callable[..., Any] | None) -> tuple[str, ...]:
    """The parameters' names, without inspect.signature where possible: hundreds of rules are read at import."""
    if function is None:
        return ()
    plain = inspect.unwrap(function)
    if not isinstance(plain, types.FunctionType):
        return tuple(inspect.signature(plain).parameters)
    code = plain.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
