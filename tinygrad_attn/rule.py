"""The derivative of an op: each operand's rule, the sources of its arguments, a call's plan."""

from __future__ import annotations

import enum
import functools
import inspect
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from tinygrad_attn.contexts import Context, EntryRef

__all__ = [
    "GRADIENT_ALONE",
    "SPECIAL",
    "Arguments",
    "Differentiable",
    "Plan",
    "Rule",
    "Source",
    "once_per_node",
    "rules_of_a_node",
]


class Source(enum.Enum):
    """Where the engine finds an argument of a rule."""

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


# For each parameter of a rule the source of its value, and its name there (for an operand its position).
Arguments: TypeAlias = "tuple[tuple[Source, Any], ...]"


GRADIENT_ALONE: Arguments = ((Source.GRADIENT, "g"),)


class Differentiable:
    """The part of an op that backward uses: the names of operands and options, and the derivative of each operand.

    Attributes:
        name: the forward's name.
        operands: names of the operands; the last stands for any number of them if ``variadic``.
        optional: the operands that may be left out.
        defaults: the options with their defaults.
        outputs: how many outputs it has, None for a tuple of any length.
        saves: names of the arrays that the forward returns after its outputs, kept for the backward kernels.
        rules: the `Rule` of each differentiable operand, by name; none in an op that is a loop.
        reference: the same maths in primitives, for an op that is a composition.
        step: the op whose loop the reference is, or None.
        differentiable: the names of the operands that may require a gradient.
        joint_kernel: one kernel for the gradients of all operands.
    """

    def __init__(self, name: str, forward: Callable[..., Any], outputs: int | None, saves: Sequence[str]) -> None:
        self.name = name
        self.operands, self.optional, self.variadic, self.defaults = _split_parameters(forward)
        self.outputs = outputs
        self.saves = tuple(saves)
        self.rules: dict[str, Rule] = {}
        self.step: Differentiable | None = None
        self.differentiable: tuple[str, ...] = ()
        self.reference: Callable[..., Any] | None = None
        self.joint_kernel: Callable[..., Any] | None = None
        self.joint_names: tuple[str, ...] = ()
        self.joint_arguments: Arguments = ()
        self._plans: dict[int, Plan] = {}

    def operand_name(self, position: int) -> str:
        """The name of the operand at ``position``; all of ``*operands`` share one."""
        return self.operands[0] if self.variadic else self.operands[position]

    def arguments_of(self, names: Sequence[str]) -> Arguments:
        """The source of each parameter of a rule or kernel.

        Raises:
            ValueError: a parameter has no such name in the op.
        """
        arguments: list[tuple[Source, Any]] = []
        for name in names:
            if name in self.operands:
                arguments.append(
                    (Source.OPERANDS, name) if self.variadic else (Source.OPERAND, self.operands.index(name))
                )
            elif name in self.defaults:
                arguments.append((Source.OPTION, name))
            elif name in self.saves:
                arguments.append((Source.SAVED, name))
            elif name in SPECIAL:
                arguments.append((SPECIAL[name], name))
            else:
                known = ", ".join([*self.operands, *self.defaults, *self.saves, *SPECIAL])
                raise ValueError(f"{self.name}: a rule's argument {name!r} is none of {known}")
        found = tuple(arguments)
        return GRADIENT_ALONE if found == GRADIENT_ALONE else found

    def vjp(
        self,
        operand: str,
        formula: str,
        rule: Callable[..., Any] | None = None,
        kernel: Callable[..., Any] | bool | None = None,
    ) -> None:
        """Declare the gradient that reaches ``operand``: the vector-Jacobian product of the op.

        Args:
            operand: the operand's name in the forward.
            formula: the rule as LaTeX; ``\\bar z`` is the output's gradient.
            rule: an expression over tensors (see `tinygrad_attn.op`). It may keep the output's broadcast shape: the
                engine sums it to the operand's. It may return None if no gradient reaches the operand.
            kernel: the same on arrays, used unless the gradient must be differentiable; True if the rule consists of
                operators and so works on arrays too. It returns a new array, or ``g`` or a view of ``g``.

        Raises:
            ValueError: no such operand, or a parameter of the rule has no such name in the op.
        """
        if operand not in self.operands:
            raise ValueError(f"{self.name}.vjp: no operand {operand!r}; the operands are {', '.join(self.operands)}")
        array_rule = rule if kernel is True else (kernel or None)
        made = Rule(self, formula, rule, array_rule if callable(array_rule) else None)
        self.rules[operand] = made
        self.differentiable = tuple(self.rules)
        self._plans.clear()

    def kernel(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Declare, as a decorator, one kernel on arrays that gives the gradients of all operands at once.

        Its parameters are named like a rule's; it may also take the arrays in ``saves``, and ``needs`` (a bool for each
        operand). It returns a tuple with an array, or None, for each operand.
        """
        self.joint_kernel, self.joint_names = function, _parameter_names(function)
        self.joint_arguments = self.arguments_of(self.joint_names)
        self._plans.clear()
        return function

    def composed_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Declare, as a decorator, the op's reference: the same function of tensors written in primitives.

        It documents the op, runs inside ``unfused()``, and tests compare rules and kernels with it.
        """
        self.reference = function
        self._plans.clear()
        return function

    def loop_of(self, step: Differentiable, *differentiable: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare, as a decorator, the op's reference as a loop of another op.

        The step has the rules; this op has none, and gets its derivatives of any order through the loop.

        Args:
            step: the op that the loop calls at each step.
            differentiable: the operands that may require a gradient.
        """
        self.step, self.differentiable = step, differentiable
        return self.composed_of

    def derivatives(self) -> dict[str, str]:
        """The formula of each rule, by operand; of a loop those of its step."""
        return {operand: rule.formula for operand, rule in (self.step or self).rules.items()}


class _Results(dict[Any, Any]):
    """The results of `once_per_node` for one node, which live as long as its block of `rules_of_a_node`."""


class _Shared(threading.local):
    """A weak reference to the results for the node whose rules are running in this thread."""

    results: Callable[[], _Results | None] = staticmethod(lambda: None)


_shared = _Shared()
_Function = TypeVar("_Function", bound=Callable[..., Any])


class rules_of_a_node(Context):
    """A context for one node: functions made by `once_per_node` are computed once for the same arguments."""

    def enter(self, entry: EntryRef) -> None:
        # No variable has the results: a traceback would keep them alive.
        entry().held = _Results(), _shared.results  # type: ignore[union-attr]
        _shared.results = weakref.ref(entry().held[0])  # type: ignore[union-attr]

    def leave(self, entry: EntryRef, error: BaseException | None) -> None:
        _shared.results = entry().held[1]  # type: ignore[union-attr]


def once_per_node(function: _Function) -> _Function:
    """A decorator for an expression that several rules of an op share: it is computed once for each node."""

    @functools.wraps(function)
    def shared(*arguments: Any) -> Any:
        results = _shared.results()
        if results is None:
            return function(*arguments)
        key = (function, *[tuple(map(id, a)) if type(a) is tuple else id(a) for a in arguments])
        if key not in results:
            results[key] = (function(*arguments), arguments)  # the arguments are kept alive, so that no id is reused
        return results[key][0]

    return shared  # type: ignore[return-value]


class Rule:
    """The derivative for one operand: its formula, the expression over tensors, and the kernel on arrays if there is
    one.

    ``arguments`` and ``kernel_arguments`` say for each parameter of the two what the engine passes to it.
    """

    def __init__(
        self,
        op: Differentiable,
        formula: str,
        function: Callable[..., Any] | None,
        kernel: Callable[..., Any] | None,
    ) -> None:
        self.formula = formula
        self.function = function
        self.kernel = kernel
        self.names = _parameter_names(function)
        self.kernel_names = _parameter_names(kernel)
        self.arguments = op.arguments_of(self.names)
        self.kernel_arguments = op.arguments_of(self.kernel_names)


class Plan:
    """What a call records in the graph when a given set of its operands requires a gradient.

    Attributes:
        op: the op.
        rules: for every operand the rule for its gradient, or None.
        kernels: position, kernel and arguments of each rule, if all of them have a kernel; else None.
        without_rule: an operand that requires a gradient but has no rule, or None.
        keeps: for each operand whether the rules need it.
        saves: the names of the other values that the rules need.
    """

    def __init__(self, op: Differentiable, mask: int, count: int) -> None:
        self.op = op
        names = [op.operand_name(position) for position in range(count)]
        needing = [name if mask >> position & 1 else None for position, name in enumerate(names)]
        self.rules = [op.rules.get(name) if name else None for name in needing]
        used = [(position, rule) for position, rule in enumerate(self.rules) if rule is not None]
        self.kernels: list[tuple[int, Callable[..., Any], Arguments]] | None = None
        with_kernels = [(position, rule.kernel, rule.kernel_arguments) for position, rule in used if rule.kernel]
        if op.joint_kernel is None and len(with_kernels) == len(needing) - needing.count(None):
            self.kernels = with_kernels
        self.without_rule = next((name for name in needing if name and name not in op.differentiable), None)
        wanted = {name for rule in [r for _, r in used] for name in (*rule.names, *rule.kernel_names)}
        wanted.update(op.joint_names)
        if any(
            name and (rule is None or rule.function is None) for name, rule in zip(needing, self.rules, strict=True)
        ):
            wanted.update(op.operands)  # for the reference, through which a loop is differentiated
        self.keeps = [name in wanted for name in names]
        self.keeps_all, self.keeps_none = all(self.keeps), not any(self.keeps)
        self.saves = [name for name in ("z", "shapes", "dtypes", *op.saves) if name in wanted]

    def kept(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """The operands, None for those that the rules don't need."""
        if self.keeps_none:
            return ()
        return tuple([o if keep else None for o, keep in zip(operands, self.keeps, strict=True)])


def _parameter_names(function: Callable[..., Any] | None) -> tuple[str, ...]:
    """The parameters' names, without inspect.signature where possible: hundreds of rules are read at import."""
    if function is None:
        return ()
    plain = inspect.unwrap(function)
    if not isinstance(plain, types.FunctionType):
        return tuple(inspect.signature(plain).parameters)
    code = plain.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _split_parameters(forward: Callable[..., Any]) -> tuple[tuple[str, ...], frozenset[str], bool, dict[str, Any]]:
    """Names of operands, those that may be left out, whether they are ``*variadic``, and the options with their
    defaults."""
    plain: Any = inspect.unwrap(forward)
    code = plain.__code__
    positional, last = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    given = plain.__defaults__ or ()
    defaults = {
        **dict(zip(names[positional - len(given) : positional], given, strict=True)),
        **(plain.__kwdefaults__ or {}),
    }
    variadic = bool(code.co_flags & inspect.CO_VARARGS)
    # Operands end at a ``/`` if there is one, else where the defaults begin.
    count = code.co_posonlyargcount or positional - len(given)
    operands = (names[last],) if variadic else names[:count]
    optional = frozenset(name for name in operands if name in defaults and defaults[name] is None)
    options = {name: defaults.get(name) for name in names[:last] if name not in operands}
    return operands, optional, variadic, options
