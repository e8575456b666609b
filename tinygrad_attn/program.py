"""Program: the ops of one call of a function, forward and backward, written down as code.

`tinygrad_attn.capture` makes and runs programs. The backward pass is written as it runs, in the order of
`tinygrad_attn.autograd`.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_attn import random
from tinygrad_attn.kernels.pairs import add_into
from tinygrad_attn.modes import Observer, current_modes, enable_grad, is_grad_enabled, no_grad, observe
from tinygrad_attn.op import node_of
from tinygrad_attn.ops.reduction import sum_to
from tinygrad_attn.overwriting import variant_of
from tinygrad_attn.program_lines import Lines, owner_of
from tinygrad_attn.pullback import fit, values_of
from tinygrad_attn.rule import Arguments, Rule, Source
from tinygrad_attn.tensor import Node, Tensor, wrap

__all__ = ["Gradients", "Program", "Results", "Trace", "outputs_of"]

Array = np.ndarray[Any, Any]
# Of each leaf its gradient, and whether nothing else refers to the gradient's memory.
Gradients: TypeAlias = "list[tuple[Tensor, Array, bool]]"
Results: TypeAlias = "tuple[tuple[Array, ...], Gradients]"


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    """What a function returned as a tuple of tensors.

    Raises:
        TypeError: it is not a scalar tensor that depends on leaves, or a tuple that begins with one. While the graph is
            not recorded, the scalar need not depend on leaves.
    """
    outputs = result if isinstance(result, tuple) else (result,)
    if (
        not outputs
        or not all(isinstance(each, Tensor) for each in outputs)
        or outputs[0].array.size != 1
        or (outputs[0].node is None and is_grad_enabled())
    ):
        raise TypeError(
            "capture: the function must return a scalar tensor that depends on leaves, or a tuple that begins with one"
        )
    return outputs


@functools.cache
def _of_arrays(rule: Rule) -> Callable[..., Any]:
    """A rule's expression over tensors as a function of arrays. Options stay what they are, index arrays too."""
    assert rule.function is not None
    expression, options = rule.function, [source is Source.OPTION for source, _ in rule.arguments]

    def tensors(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple([tensors(each) for each in value])
        return wrap(value) if isinstance(value, np.ndarray) else value

    def of_arrays(*values: Any) -> Array | None:
        result = expression(*[v if option else tensors(v) for v, option in zip(values, options, strict=True)])
        return None if result is None else result.array

    return of_arrays


class Trace(Observer):
    """One call of a function: its outputs, the calls of ops in their order, and the modules in which they ran.

    Attributes:
        inputs: what the function was given: copies, so that an argument that comes twice, or that the function also
            knows otherwise, is told apart.
        outputs: what it returned, with the graph.
        calls: of each op's call the op, the operands, the options that were given, and the outputs.
        keys: those that were drawn from `tinygrad_attn.random`.
        modules: the modules in which ops ran.
        beyond: what the function did that is no op, so that no program does it; "" if there was nothing.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], Mapping[str, Any], tuple[Tensor, ...]]] = []
        self.beyond = ""
        self._given: Mapping[str, Any] | None = None  # the options of the call that is running
        self._modules: dict[int, Any] = {}
        self.inputs = [wrap(each.array.copy()) for each in inputs]
        before = random.get_state()
        with observe(self), enable_grad():
            self.outputs = outputs_of(function(*self.inputs))
        self.modules = list(self._modules.values())
        self.keys = self._keys_drawn(before)

    def called(self, op: Any, operands: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self._given = options
        for module in current_modes().modules:
            self._modules[id(module)] = module

    def forward(self, op: Any, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Any, ...]) -> None:
        if not self.beyond:
            self.calls.append((op, operands, self._given or {}, outputs))
        self._given = None

    def read(self, tensor: Any) -> None:
        if self._given is None:
            self.beyond = "the function takes values out of a tensor: item(), numpy(), bool() or the like"

    def written(self, name: str, tensor: Any) -> None:
        self.beyond = f"the function writes to a tensor in place: {name}"

    def checkpointed(self) -> bool:
        self.beyond = "the function is computed again in the backward pass: checkpoint"
        self.calls.clear()  # which hold the values
        return False

    def arrived(self, node: Any, gradient: Any) -> None:
        self.beyond = "the function computes gradients"

    def _keys_drawn(self, before: dict[str, Any]) -> list[int]:
        """The keys that `random.new_key` has given since the generator was in the state ``before``."""
        if self.beyond:
            return []
        after, keys = random.get_state(), list[int]()
        random.set_state(before)
        while random.get_state() != after:
            keys.append(random.new_key())
            if len(keys) > len(self.calls):
                random.set_state(after)
                self.beyond = "the function draws random numbers outside ops"
                break
        return keys


def _refuse(loss: Tensor) -> None:
    """Raise if the backward pass from ``loss`` cannot be written down."""
    seen: set[Any] = set()
    stack: list[Any] = [loss.node]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.watch is not None:
            raise NotImplementedError(f"the output of {node.op.name} has a hook or retains its gradient")
        for position, (edge, rule) in enumerate(zip(node.edges, node.plan.rules, strict=True)):
            if edge is None:
                continue
            if node.op.joint_kernel is None and (rule is None or not (rule.kernel or rule.function)):
                raise NotImplementedError(f"{node.op.name} has no rule for {node.op.operand_name(position)}")
            if not isinstance(edge, Tensor):
                stack.append(edge[0] if type(edge) is tuple else edge)


class Program:
    """The ops of a trace, forward and backward, as code.

    Attributes:
        source: the code, to be read.
        run: the code as a function of ``reach`` and the arguments' arrays. It calls ``reach(leaf, gradient, owned)``
            for each leaf as soon as its gradient is complete, and returns the outputs.
        alike: by their positions the bytes of the arguments that have been the same in all calls so far.

    Raises:
        NotImplementedError: an op has no rule, an intermediate tensor has a hook, or the function did what is no op.
            The trace's outputs still have their graph.
    """

    def __init__(self, trace: Trace) -> None:
        if trace.beyond:
            raise NotImplementedError(trace.beyond)
        self._names: dict[str, Any] = {"add": add_into, "asarray": np.asarray, "new_key": random.new_key}
        self._constants: dict[int, str] = {}
        self._lines = Lines()
        self._tensors: dict[int, Tensor] = {}  # that neither a call nor the caller has made: parameters, buffers
        self._count = 0
        outputs = trace.outputs
        self._drawn = dict.fromkeys(trace.keys, "")
        self._kept: list[Any] = [trace]  # so that no id is used again while the program is made
        self._values: dict[
            int, str
        ] = {}  # by the id of a tensor, and by that of its array: detach() gives another tensor
        # By the id of its owner: whether memory is of what changes from call to call, an argument or a result.
        self._changing: dict[int, bool] = {}
        for position, each in enumerate(trace.inputs):
            self._values[id(each)] = self._values[id(each.array)] = f"x{position}"
            self._changing[id(owner_of(each.array))] = True
            self._lines.lend(each.array)
        # Of each node the expressions of its operands, outputs and saved arrays.
        self._nodes: dict[Node, tuple[list[str], list[str], dict[str, str]]] = {}
        for call in trace.calls:
            self._forward(*call)
        _refuse(outputs[0])
        trace.calls.clear()  # so that arrays are freed as the pass goes on
        gradients = self._backward(outputs[0])
        self._modules = [(module, module.training) for module in trace.modules]
        self._tensors_were = [(t, t._requires_grad, t.array.dtype) for t in self._tensors.values()]
        self._results: Results | None = tuple([output.array for output in outputs]), gradients
        self.alike = {position: each.array.tobytes() for position, each in enumerate(trace.inputs)}
        self.source = self._code(len(trace.inputs), [self._value(output) for output in outputs])
        del self._values, self._changing, self._drawn, self._nodes, self._kept, self._constants, self._lines
        del self._arrived, self._owned, self._tensors

    @functools.cached_property
    def run(self) -> Callable[..., tuple[Array, ...]]:
        exec(compile(self.source, "<captured program>", "exec"), self._names)
        run: Callable[..., tuple[Array, ...]] = self._names["run"]
        return run

    def first(self) -> Results:
        """The results of the call that the program was made from."""
        assert self._results is not None
        results, self._results = self._results, None
        return results

    def holds(self) -> bool:
        """Whether the modules still train, or do not, and the tensors need a gradient, or do not, and have the dtypes,
        as at the start."""
        return all(module.training is training for module, training in self._modules) and all(
            tensor._requires_grad is needed and tensor.array.dtype == dtype
            for tensor, needed, dtype in self._tensors_were
        )

    def has_new(self, arrays: Sequence[Array]) -> bool:
        """Whether an argument differs for the first time from the one that the program was made with."""
        new = [p for p, known in self.alike.items() if known != arrays[p].tobytes()]
        for position in new:
            del self.alike[position]
        return bool(new)

    # -- writing the code ----------------------------------------------------------------------------------------------

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _constant(self, value: Any, kind: str = "c") -> str:
        """The name of an object that stays the same from run to run."""
        if value is None or type(value) in (bool, int):
            return repr(value)
        name = self._constants.get(id(value))
        if name is None:
            name = self._constants[id(value)] = self._name(kind)
            self._names[name] = value
            self._kept.append(value)
        return name

    def _option(self, value: Any) -> str:
        """The expression for an option. A key that the call has drawn is drawn anew in each run."""
        if type(value) is not int or value not in self._drawn:
            return self._constant(value)
        if not self._drawn[value]:
            self._drawn[value] = self._name("k")
            self._lines.add([self._drawn[value]], "new_key()", [])
        return self._drawn[value]

    def _value(self, operand: Any) -> str:
        """The expression for an operand's array, or for what it is if it is no tensor."""
        if not isinstance(operand, Tensor):
            return self._constant(operand)
        known = self._values.get(id(operand)) or self._values.get(id(operand.array))
        if known is not None:
            return known
        if self._changing.setdefault(id(owner_of(operand.array)), False):
            raise NotImplementedError(
                "the function makes a tensor from the array of another that changes, without an op"
            )
        self._tensors[id(operand)] = operand
        self._lines.lend(operand.array)
        return f"{self._constant(operand, 'p')}.array"

    def _forward(
        self, op: Any, operands: tuple[Any, ...], options: Mapping[str, Any], outputs: tuple[Tensor, ...]
    ) -> None:
        values = [self._value(operand) for operand in operands]
        reads = [*values, *[f"{name}={self._option(value)}" for name, value in options.items()]]
        names = [self._name("v") for _ in outputs]
        saved = {name: self._name("s") for name in op.saves}
        expression, over = self._expressions(op.forward, op.name, reads)
        if op.outputs == 1 and not op.saves:
            whole = f"asarray({expression})" if outputs[0].array.ndim == 0 else expression
            self._lines.add(names, whole, reads)
        else:
            self._lines.add([*names, *saved.values()], expression, reads, True, over)
        node = node_of(outputs)
        for name, its_name in saved.items():
            self._lines.name(its_name, None if node is None else node.saved.get(name))
        for name, output in zip(names, outputs, strict=True):
            self._lines.name(name, output.array)
            self._values[id(output)] = self._values[id(output.array)] = name
            self._changing.setdefault(id(owner_of(output.array)), True)
            if output.node is not None and output.node not in self._nodes:
                self._nodes[output.node] = (values, names, saved)

    def _argument(self, node: Node, source: Source, name: Any, gradient: str, position: int) -> str:
        operands, outputs, saved = self._nodes[node]
        if source is Source.GRADIENT:
            return gradient
        if source is Source.OPERAND:
            return operands[name]
        if source is Source.OUTPUT:
            return outputs[0] if node.op.outputs == 1 else f"({', '.join(outputs)},)"
        if source is Source.SAVED:
            return saved[name] if name in saved else self._constant(node.saved[name])
        if source is Source.OPTION:
            return self._option(node.options[name])
        if source is Source.NEEDS:
            return str(tuple([edge is not None for edge in node.edges]))
        if source is Source.POSITION:
            return str(position)
        return f"({', '.join(operands)},)"

    # -- the backward pass, run and written at once --------------------------------------------------------------------

    def _backward(self, loss: Tensor) -> list[tuple[Tensor, Array, bool]]:
        """The gradients of the leaves, and the lines that compute them; see `tinygrad_attn.autograd`."""
        self._arrived: dict[Any, tuple[Any, str]] = {}
        self._owned: set[Any] = set()
        heap: list[tuple[int, Any]] = []
        queued: set[Any] = set()
        seed = np.ones_like(loss.array)
        self._send(loss.origin, seed, self._constant(seed), False)
        reached: list[Any] = [loss.node]
        with no_grad(), np.errstate(all="ignore"):
            while reached or heap:
                for node in reached:
                    if node not in queued:
                        queued.add(node)
                        heapq.heappush(heap, (-node.number, node))
                node = heapq.heappop(heap)[1]
                reached = []
                arrived, name = self._complete(node)
                for position, gradient, its_name in self._pull_back(node, arrived, name):
                    edge = node.edges[position]
                    fresh = gradient is not arrived and type(gradient) is np.ndarray and gradient.base is None
                    self._send(edge, gradient, its_name, fresh)
                    if not isinstance(edge, Tensor):
                        reached.append(edge[0] if type(edge) is tuple else edge)
                node.release()
        leaves = [(leaf, *found) for leaf, found in self._arrived.items()]
        self._leaves = [(leaf, name, leaf in self._owned) for leaf, _, name in leaves]
        return [(leaf, gradient, leaf in self._owned) for leaf, gradient, _ in leaves]

    def _complete(self, node: Node) -> tuple[Any, str]:
        """The gradient of a node's output, or a tuple with those of its outputs, and the expression for it."""
        if node.op.outputs == 1:
            return self._arrived.pop(node)
        found = [self._arrived.pop((node, index), (None, "None")) for index in range(len(node.outputs))]
        return tuple([array for array, _ in found]), f"({', '.join([name for _, name in found])},)"

    def _pull_back(self, node: Node, arrived: Any, name: str) -> Iterator[tuple[int, Array, str]]:
        op, plan = node.op, node.plan
        needs = tuple([edge is not None for edge in node.edges])
        found: list[tuple[int, Any, str, list[str], tuple[str, str] | None]] = []
        if plan.kernels is not None:
            for position, kernel, arguments in plan.kernels:
                if needs[position]:
                    result = kernel(*values_of(node, arguments, arrived, True, position))
                    found.append((position, result, *self._call(kernel, node, arguments, name, position)))
        elif op.joint_kernel is not None:
            results = op.joint_kernel(*values_of(node, op.joint_arguments, arrived, True, needs=needs))
            names = [self._name("g") for _ in results]
            expression, reads, over = self._call(op.joint_kernel, node, op.joint_arguments, name)
            self._lines.add(names, expression, reads, True, over)
            for its_name, result in zip(names, results, strict=True):
                self._lines.name(its_name, result)
            pairs = enumerate(zip(results, names, strict=True))
            found = [(p, result, n, [n], None) for p, (result, n) in pairs if needs[p] and result is not None]
        else:
            for position, rule in enumerate(plan.rules):
                if not needs[position] or rule is None:
                    continue
                kernel = rule.kernel or _of_arrays(rule)
                arguments = rule.kernel_arguments if rule.kernel else rule.arguments
                result = kernel(*values_of(node, arguments, arrived, True, position))
                if result is not None:
                    found.append((position, result, *self._call(kernel, node, arguments, name, position)))
        for position, result, expression, reads, over in found:
            fitted = fit(node, position, result, node.edges[position])
            if fitted.shape != np.shape(result):
                over = None
                expression = f"{self._constant(sum_to.forward)}({expression}, shape={self._constant(fitted.shape)})"
            if not isinstance(result, np.ndarray) or fitted.ndim == 0:
                over, expression = None, f"asarray({expression})"
            if reads[:1] == [expression]:  # one of the several results of a line that is written
                gradient = expression
            else:
                gradient = self._name("g")
                self._lines.add([gradient], expression, reads, over=over)
                self._lines.name(gradient, fitted)
            yield position, fitted, gradient

    def _call(
        self, kernel: Callable[..., Any], node: Node, arguments: Arguments, gradient: str, position: int = 0
    ) -> tuple[str, list[str], tuple[str, str] | None]:
        """The call of a kernel, what it reads, and `_expressions`' second."""
        given = [self._argument(node, source, name, gradient, position) for source, name in arguments]
        expression, over = self._expressions(kernel, f"{node.op.name}_backward", given)
        return expression, given, over

    def _expressions(self, kernel: Callable[..., Any], name: str, given: list[str]) -> tuple[str, Any]:
        """The call of a kernel, and if it has a variant (`writes_over`), that one's call and what it writes over."""
        call, variant = f"({', '.join(given)})", variant_of(kernel)
        over = None
        if variant is not None:
            over = f"{self._constant(variant.function, f'{name}_over_')}{call}", given[variant.position]
        return f"{self._constant(kernel, f'{name}_')}{call}", over

    def _send(self, edge: Any, gradient: Array, name: str, fresh: bool) -> None:
        """Add a gradient to the sum for an edge."""
        before = self._arrived.get(edge)
        if before is None:
            self._arrived[edge] = gradient, name
            if fresh:
                self._owned.add(edge)
            return
        present, its_name = before
        if edge in self._owned:
            self._lines.add([], f"add({its_name}, {name}, {its_name})", [its_name, name])
            add_into(present, gradient, present)
        elif fresh:
            self._lines.add([], f"add({its_name}, {name}, {name})", [its_name, name])
            self._arrived[edge] = add_into(present, gradient, gradient), name
        else:
            total = self._name("g")
            self._lines.add([total], f"asarray({its_name} + {name})", [its_name, name])
            self._arrived[edge] = np.asarray(present + gradient), total
            self._lines.name(total, self._arrived[edge][0])
        self._owned.add(edge)

    def _code(self, count: int, outputs: Sequence[str]) -> str:
        """The lines as a function that gives a leaf its gradient after the last line about it, and forgets each array
        after its last use."""
        calls = [(name, f"reach({self._constant(leaf, 'p')}, {name}, {owned})") for leaf, name, owned in self._leaves]
        lines = [f"def run({', '.join(['reach', *[f'x{position}' for position in range(count)]])}):"]
        lines += [f"    {line}" for line in self._lines.code(outputs, calls)]
        return "\n".join([*lines, f"    return ({', '.join(outputs)},)", ""])
