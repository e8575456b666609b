"""The op: a forward on arrays, and the derivative of each operand, as LaTeX and as code.

::

    @op(r"z = x \\odot y", samples=broadcast_pairs)
    def mul(x, y):
        return np.multiply(x, y)

    mul.vjp("x", r"\\bar z \\odot y", lambda g, y: g * y)
    mul.vjp("y", r"\\bar z \\odot x", lambda g, x: g * x)

The forward sees arrays (and Python numbers as they were given). A *rule* gives the gradient that reaches one operand;
it is an expression over tensors, so that it can be differentiated again. Its parameters have the names of the values it
needs, and only values that some rule names are kept until backward:

==============  ========================================================================
``g``           the gradient of the output (of several outputs a tuple, with None where there is no gradient)
``z``           the output (a tuple if there are several)
an operand      by its name in the forward
an option       by its name in the forward, default filled in
``shapes``      the shapes of all operands (``dtypes``: their dtypes)
``position``    the operand's position, for a rule that serves all of ``*operands``
==============  ========================================================================

Parameters of the forward without a default are operands, the others are options; a forward with optional operands puts
``/`` after the last operand. `tinygrad_attn.autograd` applies the rules: it sums over broadcast axes and checks shapes.

`tinygrad_attn.check.check_op` compares the formula of a rule with its expression: every symbol stands for an argument
of the expression, and every argument has a symbol (`tinygrad_attn.formula` says which symbol stands for what). An op
that repeats another op, as a GRU repeats its step, is declared as its loop (`Op.loop_of`) and has no rules of its own.
"""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from tinygrad_attn.dtypes import check_dtype, check_fits, converted, default_dtype, promote
from tinygrad_attn.modes import current_modes, modes
from tinygrad_attn.options import PLAIN, Kinds, number_operands, option_kinds, plain_options
from tinygrad_attn.public import NUMPYS_NAMES, in_our_words, public
from tinygrad_attn.registry import Registry
from tinygrad_attn.rule import Differentiable, Plan, Rule
from tinygrad_attn.samples import Draw, ErrorSample, Sample, Samples
from tinygrad_attn.tensor import Node, Tensor, gradient_edge, share, wrap
from tinygrad_attn.values import MOST_AXES, as_array, as_number

__all__ = ["Op", "Rule", "cast", "node_of", "op", "registered_ops"]

_OPS: Registry[Op] = Registry("op")
_NUMBERS = (float, int, bool)
_EXPLAINED = (
    ValueError, IndexError, TypeError, OverflowError, MemoryError, AttributeError, ZeroDivisionError, NumbaError,
)  # fmt: skip
_TOO_MANY_AXES = re.compile(
    r"maximum supported dimension|number of dimensions must be within|ndmin must be <="
)  # NumPy's
_NO_SAVED: dict[str, Any] = {}  # shared by all nodes whose rules need no more than operands and options


@public("ta")
def registered_ops() -> dict[str, Op]:
    """Every op defined so far, by name."""
    return dict(_OPS)


class Op(Differentiable):
    """A differentiable function of tensors, made by `op` and completed by `Op.vjp`.

    Attributes:
        formula: the forward as LaTeX.
        forward: the function on arrays.
        floating: whether integer and bool operands become the default float first.
        symbols: which names the symbols of its formulas stand for (see `tinygrad_attn.formula`).
        samples: draws valid operands and options for `tinygrad_attn.check.check_op`.
        errors: calls that must raise, with their exceptions.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        formula: str,
        samples: Samples | None,
        errors: Iterable[ErrorSample],
        outputs: int | None,
        saves: Sequence[str],
        floating: bool,
        symbols: Mapping[str, str | tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__(forward.__name__.strip("_"), forward, outputs, saves)
        self.__doc__ = forward.__doc__
        self.__name__ = self.name
        self.__module__ = forward.__module__
        self.__wrapped__ = forward
        self.forward = forward
        self.formula = formula
        self.samples = samples
        self.errors = tuple(errors)
        self.floating = floating
        self.symbols = dict(symbols or {})
        self._plain = (*_NUMBERS, type(None)) if self.optional else _NUMBERS
        self._simple = outputs == 1 and not self.saves
        self._names = frozenset((*self.operands, *self.defaults))
        # No type is right for NumPy's name of an option, so that a call with one comes by where it is renamed.
        renamed: Kinds = {theirs: frozenset() for theirs, ours in NUMPYS_NAMES.items() if ours in self._names}
        self._kinds = {**option_kinds(forward, self.defaults), **renamed}
        self._numbers = frozenset(number_operands(forward, self.operands))

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.formula}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __deepcopy__(self, memo: Any) -> Op:
        """The op itself, as for a function: a module that holds one may be copied."""
        return self

    def __reduce__(self) -> Any:
        return _op_of, (self.__module__, self.name)

    def __call__(self, *operands: Any, **options: Any) -> Any:
        if len(operands) != len(self.operands) and not self.variadic:
            operands, options = self._bind(operands, options)
        # In one pass: the arguments, whether all have one float dtype (as is usual), and which need a gradient.
        arrays: list[Any] = []
        edges: list[Any] = []
        mask, bit, plain, written, dtype = 0, 1, True, False, None
        for operand in operands:
            edge = None
            if isinstance(operand, Tensor):
                array = operand.array
                arrays.append(array)
                if operand._requires_grad:
                    mask |= bit
                    edge = operand.origin or operand
                if operand._storage is not None:
                    written = True
                if array.dtype is not dtype:
                    plain = plain and dtype is None
                    dtype = array.dtype
            else:
                plain = plain and type(operand) in self._plain
                arrays.append(operand)
            edges.append(edge)
            bit <<= 1
        if not plain or dtype is None or (dtype is not default_dtype and dtype.kind != "f"):
            operands = self._prepare(operands)
            arrays = [operand.array if isinstance(operand, Tensor) else operand for operand in operands]
            edges = [gradient_edge(operand) if isinstance(operand, Tensor) else None for operand in operands]
        if options:
            for name, value in options.items():
                if type(value) not in self._kinds.get(name, PLAIN):
                    options = plain_options(self.name, self._kinds, in_our_words(self.name, self._names, options))
                    break
        state = modes.innermost if modes.innermost.entry is None else current_modes()
        if self.reference is not None and state.unfused:
            return self.reference(*operands, **{**self.defaults, **options})
        for observer in state.observers:
            observer.called(self, operands, options)
        try:
            results = self.forward(*arrays, **options)
        except _EXPLAINED as error:
            raise self._explain(error, operands, arrays, options) from None
        if self.defaults:
            options = {**self.defaults, **options}
        extra: Sequence[Any] = ()
        if self._simple:
            output = wrap(results if type(results) is np.ndarray else np.asarray(results))
            if output.array.base is not None or results is arrays[0]:
                _share_if_view(output, operands)
            outputs: tuple[Tensor, ...] = (output,)
        else:
            outputs, extra = self._wrap(results, operands)
        if mask and state.grad:
            # `bit` is now 2 ** (number of operands), so the key contains that number too.
            plan = self._plans.get(mask | bit) or self._plan(mask | bit, len(operands))
            self._join_graph(plan, operands, edges, written, options, outputs, extra)
        for observer in state.observers:
            observer.forward(self, operands, options, outputs)
        return outputs[0] if self.outputs == 1 else outputs

    def _plan(self, key: int, count: int) -> Plan:
        """The plan of calls with ``count`` operands, those that need a gradient marked by the lower bits of ``key``."""
        plan = self._plans[key] = Plan(self, key - (1 << count), count)
        return plan

    def _wrap(self, results: Any, operands: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], Sequence[Any]]:
        """The forward's results as tensors, and the arrays it returned besides, to be saved."""
        outputs = tuple([wrap(np.asarray(result)) for result in results[: self.outputs]])
        for output in outputs:
            if output.array.base is not None:
                _share_if_view(output, operands)
        return outputs, results[self.outputs :]

    def _join_graph(
        self,
        plan: Plan,
        operands: tuple[Any, ...],
        edges: list[Any],
        written: bool,
        options: dict[str, Any],
        outputs: tuple[Tensor, ...],
        extra: Sequence[Any],
    ) -> None:
        """Make the node of a call, with the values that its rules will need, and set the outputs' origin."""
        if plan.without_rule is not None:
            self._refuse(plan.without_rule, outputs)
            return
        kept = operands if plan.keeps_all else plan.kept(operands)
        versions = tuple([getattr(o, "version", 0) for o in kept]) if written else None
        saved = self._saved(plan, operands, outputs, extra) if plan.saves else _NO_SAVED
        node = Node(plan, edges, kept, versions, saved, options)
        for index, output in enumerate(outputs):
            array = output.array
            node.outputs.append((array.shape, array.dtype))
            if array.dtype is default_dtype or array.dtype.kind == "f":
                output.origin = node if self.outputs == 1 else (node, index)
                output._requires_grad = True

    def _saved(
        self, plan: Plan, operands: tuple[Any, ...], outputs: tuple[Tensor, ...], extra: Sequence[Any]
    ) -> dict[str, Any]:
        """The values that the rules will need besides the operands, by name."""
        saved: dict[str, Any] = {}
        for name in plan.saves:
            if name == "z":
                saved[name] = [(o.array, o.storage, o.version) for o in outputs]
            elif name == "shapes":
                saved[name] = tuple([getattr(o, "shape", ()) for o in operands])
            elif name == "dtypes":
                saved[name] = tuple([getattr(o, "dtype", None) for o in operands])
            else:
                saved[name] = extra[self.saves.index(name)]
        return saved

    def _refuse(self, operand: str, outputs: tuple[Tensor, ...]) -> None:
        """Raise for an operand that needs a gradient but has no rule, unless no output can carry a gradient."""
        if any(output.is_floating_point() for output in outputs):
            raise NotImplementedError(f"{self.name}: has no derivative for {operand}; detach() it")

    def _bind(self, operands: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split arguments, given by position or by name, into operands and options, as Python binds them."""
        options = in_our_words(self.name, self._names, options)
        given = list(operands[: len(self.operands)])
        for name, value in zip(self.defaults, operands[len(self.operands) :], strict=False):
            if name in options:
                raise TypeError(f"{self.name}: the option {name!r} is given twice")
            options[name] = value
        if len(operands) > len(self.operands) + len(self.defaults):
            raise TypeError(
                f"{self.name}: takes at most {len(self.operands) + len(self.defaults)} arguments, got {len(operands)}"
            )
        for name in self.operands[len(given) :]:
            if name in options:
                given.append(options.pop(name))
            elif name in self.optional:
                given.append(None)
            else:
                unknown = [f"{o!r}" for o in options if o not in self.defaults]
                hint = f"; it knows no argument {', '.join(unknown)}" if unknown else ""
                raise TypeError(
                    f"{self.name}: the operand {name!r} is missing{hint} (operands: {', '.join(self.operands)})"
                )
        return tuple(given), options

    def _prepare(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """Turn arrays into tensors and NumPy scalars into numbers, and cast differentiable operands to one dtype."""
        prepared: list[Any] = []
        for position, operand in enumerate(operands):
            name = self.operand_name(position)
            if name in self._numbers or isinstance(operand, np.generic):
                operand = as_number(f"{self.name}: {name}", operand)
            if isinstance(operand, (np.ndarray, list)):
                wide = any(getattr(other, "dtype", None) == np.float64 for other in operands)
                floats = np.dtype(np.float64) if wide else default_dtype
                operand = wrap(as_array(operand, name=f"{self.name}: {name}", floats=floats))
            elif not (isinstance(operand, Tensor) or type(operand) in _NUMBERS) and not (
                operand is None and name in self.optional
            ):
                raise TypeError(
                    f"{self.name}: {name} must be a tensor, an array or a number, got {type(operand).__name__}"
                )
            prepared.append(operand)
        if not any(isinstance(operand, Tensor) for operand in prepared):
            raise TypeError(f"{self.name}: at least one operand must be a tensor or an array, got only numbers")
        values = [p for p in range(len(prepared)) if self.variadic or self.operands[p] in self.differentiable]
        common = promote([prepared[p] for p in values if prepared[p] is not None], self.floating)
        if common is not None:
            self._convert(prepared, values, common)
        return tuple(prepared)

    def _convert(self, operands: list[Any], values: list[int], common: np.dtype[Any]) -> None:
        """Cast the operands at the positions ``values`` to their common dtype, in place."""
        only_numbers = not any(isinstance(operands[p], Tensor) for p in values)
        for p in values:
            operand = operands[p]
            if isinstance(operand, Tensor):
                if operand.dtype != common:
                    operands[p] = cast(operand, dtype=common)
            elif operand is not None:
                check_fits(f"{self.name}: {self.operand_name(p)}", operand, common)
                if only_numbers:  # as in where(condition, 1.0, 2.0), which would get NumPy's own dtype
                    operands[p] = wrap(np.asarray(operand, common))

    def _explain(
        self, error: Exception, operands: tuple[Any, ...], arrays: list[Any], options: Mapping[str, Any]
    ) -> Exception:
        """The error with the op, the shapes of its operands, and the axis that failed."""
        unknown = [name for name in options if name not in self.defaults]
        if unknown:
            takes = ", ".join([*self.operands, *self.defaults])
            return TypeError(f"{self.name}: there is no argument {unknown[0]!r}; it takes ({takes})")
        for position, operand in enumerate(operands):
            if operand is None and self.operand_name(position) not in self.optional:
                return TypeError(
                    f"{self.name}: {self.operand_name(position)} must be a tensor, an array or a number, got None"
                )
        if str(error).startswith(f"{self.name}:"):
            return error
        names = [f"{self.operands[0]}[{i}]" for i in range(len(operands))] if self.variadic else self.operands
        given = {name: a for name, a in zip(names, arrays, strict=False) if isinstance(a, np.ndarray)}
        listing = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        if isinstance(error, MemoryError):
            return MemoryError(f"{self.name}: not enough memory (operands: {listing})")
        clash = broadcast_clash({n: a.shape for n, a in given.items()}) if "broadcast" in str(error) else None
        foreign = type(error).__module__.startswith(("numpy", "numba")) or "numpy" in str(error)
        if not isinstance(error, (ValueError, IndexError, TypeError, OverflowError)) or (foreign and clash is None):
            dtypes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in given.items())
            return TypeError(f"{self.name}: is not defined for these operands and options ({dtypes})")
        kinds = (IndexError, TypeError, OverflowError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        reason = re.sub(r"Python integer (-?\d+) out of bounds for (\w+)", r"\1 does not fit \2", str(error))
        if isinstance(error, OverflowError) and "too large to convert" in reason:
            reason = "an integer is too large"
        if _TOO_MANY_AXES.search(reason):
            reason = f"a tensor has at most {MOST_AXES} axes"
        return kind(f"{self.name}: {clash or reason} (operands: {listing})")


def _op_of(module: str, name: str) -> Op:
    """The op of this name, which ``module`` registers: what pickle stores of an op."""
    importlib.import_module(module)
    return _OPS[name]


def broadcast_clash(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """Why named ``shapes`` do not broadcast: the first axis from the right whose sizes differ, or None if they do."""
    for axis in range(1, max((len(shape) for shape in shapes.values()), default=0) + 1):
        sizes = {name: shape[-axis] for name, shape in shapes.items() if len(shape) >= axis and shape[-axis] != 1}
        if len(set(sizes.values())) > 1:
            listing = " and ".join(f"{size} in {name}" for name, size in sizes.items())
            return f"shapes do not broadcast: axis -{axis} has size {listing}"
    return None


def _share_if_view(output: Tensor, operands: tuple[Any, ...]) -> None:
    """Let an output that is a view share its operand's storage, and so its version."""
    for operand in operands:
        if isinstance(operand, Tensor) and np.may_share_memory(operand.array, output.array):
            share(operand, output)
            return


def op(
    formula: str,
    *,
    samples: Samples | None = None,
    errors: Iterable[ErrorSample] = (),
    outputs: int | None = 1,
    saves: Sequence[str] = (),
    floating: bool = False,
    symbols: Mapping[str, str | tuple[str, ...]] | None = None,
) -> Callable[[Callable[..., Any]], Op]:
    """Make an `Op` of the decorated forward and register it under the forward's name.

    Args:
        formula: the forward as LaTeX, ``z = …``.
        samples: draws operands and options (see `tinygrad_attn.samples`).
        errors: calls that must raise.
        outputs: how many outputs the forward returns; above 1 they are a tuple, of any length if None.
        saves: names of the arrays that the forward returns after its outputs, kept for the backward kernels.
        floating: whether integer and bool operands become the default float first.
        symbols: for symbols of the formulas that are not named as in the code, the name or names that they stand for
            (see `tinygrad_attn.formula`).

    Raises:
        ValueError: another module already has an op of this name.
    """

    def register(forward: Callable[..., Any]) -> Op:
        made = Op(forward, formula, samples, errors, outputs, saves, floating, symbols)
        return _OPS.register(made.name)(made)

    return register


public("ta")(op)  # not as a decorator: type checkers would follow an import cycle to find its type


def _cast_samples(draw: Draw) -> Sample:
    return Sample((draw.floats(draw.shape()),), {"dtype": np.dtype(np.float64)})


@op(r"z = x", samples=_cast_samples)
def cast(x: np.ndarray[Any, Any], *, dtype: Any) -> np.ndarray[Any, Any]:
    """``x`` with the elements converted to ``dtype``; the gradient is converted back."""
    wanted = check_dtype(dtype)
    return x.astype(wanted) if wanted.kind in "fb" else np.array(converted("cast", x, wanted))


cast.vjp("x", r"\bar z", lambda g, dtypes: cast(g, dtype=dtypes[0]))


def node_of(outputs: tuple[Tensor, ...]) -> Node | None:
    """The node of the call that made these outputs; None if no gradient is required, and of a call that made none, such
    as unbind along an axis of size 0."""
    return outputs[0].node if outputs else None
