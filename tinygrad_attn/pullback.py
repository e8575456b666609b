"""One step of backward: from the gradient of a node's output to the gradients of its operands.

Kernels compute them, if the op has any and the gradients need not be differentiable. Otherwise the rules do, and for an
operand without a rule the op's reference. The results are summed over broadcast axes and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.modes import set_grad_enabled
from tinygrad_attn.op import cast
from tinygrad_attn.ops.constant import constant_in
from tinygrad_attn.ops.reduction import sum_to
from tinygrad_attn.ops.shape import alias
from tinygrad_attn.rule import GRADIENT_ALONE, Arguments, Source, rules_of_a_node
from tinygrad_attn.tensor import Edge, Node, Storage, Tensor, wrap

__all__ = ["as_tensors", "fit", "pull_back", "values_of"]

# Bound here since they are looked up for every operand of every node.
GRADIENT, OPERAND, OUTPUT = Source.GRADIENT, Source.OPERAND, Source.OUTPUT
SAVED, OPTION, POSITION, NEEDS = Source.SAVED, Source.OPTION, Source.POSITION, Source.NEEDS


def pull_back(
    node: Node, gradient: Any, edges: Sequence[Edge | None], create_graph: bool, grad: Callable[..., Any]
) -> list[Any]:
    """The gradient that reaches each operand with an edge.

    Args:
        node: the newest node that has a gradient.
        gradient: the gradient of its output: an array, or a tensor if ``create_graph``; of several outputs a tuple,
            with None for an output without a gradient.
        edges: for each operand the edge of its gradient, None if the gradient is not wanted.
        create_graph: give tensors that can be differentiated again.
        grad: `tinygrad_attn.autograd.grad`, for composite ops.

    Raises:
        RuntimeError: the node's saved values were freed, or changed in place.
        ValueError, TypeError: a rule gave a gradient of the wrong shape or dtype.
    """
    plan = node.plan
    if node.freed:
        _restore(node)
    if create_graph:
        return _by_rules(node, gradient, edges, True, grad)
    if plan.kernels is None:
        if plan.op.joint_kernel is not None:
            return _by_joint_kernel(node, gradient, edges)
        return _by_rules(node, gradient, edges, False, grad)
    # The operands' own kernels: the case of nearly every node of a training step.
    results: list[Any] = [None] * len(edges)
    for position, kernel, arguments in plan.kernels:
        edge = edges[position]
        if edge is not None:
            if arguments is GRADIENT_ALONE:
                result = kernel(gradient)
            else:
                result = kernel(*values_of(node, arguments, gradient, True, position))
            shape, dtype = edge.outputs[0] if type(edge) is Node else _expected(edge)
            if type(result) is not np.ndarray or result.shape != shape or result.dtype != dtype:
                result = fit(node, position, result, edge)
            results[position] = result
    return results


def _by_joint_kernel(node: Node, gradient: Any, edges: Sequence[Edge | None]) -> list[Any]:
    """The gradients from the one kernel that an op has for all its operands."""
    op = node.op
    needs = tuple([edge is not None for edge in edges])
    found = op.joint_kernel(*values_of(node, op.joint_arguments, gradient, True, needs=needs))  # type: ignore[misc]
    return [
        None if edge is None or found[position] is None else fit(node, position, found[position], edge)
        for position, edge in enumerate(edges)
    ]


def _by_rules(
    node: Node, gradient: Any, edges: Sequence[Edge | None], create_graph: bool, grad: Callable[..., Any]
) -> list[Any]:
    """The gradients from the rule of each operand, and from the op's reference for operands without a rule."""
    results: list[Any] = [None] * len(edges)
    without: list[int] = []
    tensors = as_tensors(gradient)
    with rules_of_a_node():
        for position, edge in enumerate(edges):
            if edge is None:
                continue
            rule = node.plan.rules[position]
            if rule is not None and rule.kernel is not None and not create_graph:
                results[position] = rule.kernel(*values_of(node, rule.kernel_arguments, gradient, True, position))
            elif rule is not None and rule.function is not None:
                values = values_of(node, rule.arguments, tensors, False, position)
                result = rule.function(*values)
                if create_graph and result is not None:
                    result = _joined(result, values)
                results[position] = result if create_graph or result is None else result.array
            else:
                without.append(position)
    if without:
        through = _through_reference(node, gradient, without, create_graph, grad)
        for position, result in zip(without, through, strict=True):
            results[position] = result
    return [None if r is None else fit(node, p, r, edges[p]) for p, r in enumerate(results)]


def _joined(gradient: Tensor, values: Sequence[Any]) -> Tensor:
    """A gradient as a function of all the ``values`` it was computed from: its derivative may be 0, but is not missing.

    The gradient of relu, for one, depends on the output only through a comparison.
    """
    used = [v for v in _tensors(values) if v._requires_grad]
    if not used:
        return gradient
    # What the rule has made is newer than what it was given.
    newest = max([v.node.number for v in used if v.node is not None], default=-1)
    reached: set[Edge] = set() if gradient.origin is None else {gradient.origin}
    stack = [gradient.node]
    while stack:
        node = stack.pop()
        if node is not None and node.number > newest:
            edges = [edge for edge in node.edges if edge is not None and edge not in reached]
            reached.update(edges)
            stack += [edge[0] if isinstance(edge, tuple) else edge for edge in edges if not isinstance(edge, Tensor)]
    for value in used:
        if value is not gradient and (value.origin or value) not in reached:
            gradient = constant_in(
                gradient, value if value.dtype == gradient.dtype else cast(value, dtype=gradient.dtype)
            )
    return gradient


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among ``values``, and in tuples among them."""
    several = [value if isinstance(value, tuple) else (value,) for value in values]
    return [value for each in several for value in each if isinstance(value, Tensor)]


def values_of(
    node: Node,
    arguments: Arguments,
    gradient: Any,
    arrays: bool,
    position: int = 0,
    needs: tuple[bool, ...] = (),
) -> list[Any]:
    """The arguments of a rule or kernel: arrays for a kernel, tensors for a rule."""
    values: list[Any] = []
    for source, name in arguments:
        if source is GRADIENT:
            values.append(gradient if arrays else as_tensors(gradient))
        elif source is OPERAND:
            value = node.operands[name]
            if isinstance(value, Tensor):
                if value._storage is not None:
                    _check_version(node, name)
                if arrays:
                    value = value.array
            values.append(value)
        elif source is OUTPUT:
            values.append(_saved_outputs(node, node.saved[name], arrays))
        elif source is SAVED:
            values.append(node.saved[name])
        elif source is OPTION:
            values.append(node.options[name])
        elif source is POSITION:
            values.append(position)
        elif source is NEEDS:
            values.append(needs)
        else:
            values.append(tuple(v.array if arrays and isinstance(v, Tensor) else v for v in _saved_operands(node)))
    return values


def as_tensors(gradient: Any) -> Any:
    if type(gradient) is tuple:
        return tuple([None if g is None else as_tensors(g) for g in gradient])
    return gradient if isinstance(gradient, Tensor) else wrap(gradient)


def _saved_operands(node: Node) -> tuple[Any, ...]:
    """All operands of a node whose op keeps them all."""
    for position, value in enumerate(node.operands):
        if isinstance(value, Tensor):
            _check_version(node, position)
    return node.operands


def _check_version(node: Node, position: int) -> None:
    """Raise if a saved operand has been written to since."""
    operand = node.operands[position]
    version = 0 if node.versions is None else node.versions[position]
    if operand.version != version:
        raise _changed(node, node.op.operand_name(position), operand.shape, version, operand.storage)


def _saved_outputs(node: Node, items: Any, arrays: bool) -> Any:
    """The saved outputs; as tensors they are joined to the graph again, so that rules can be differentiated."""
    outputs: list[Any] = []
    for index, (array, storage, version) in enumerate(items):
        if storage.version != version:
            raise _changed(node, "its output", array.shape, version, storage)
        if arrays:
            outputs.append(array)
            continue
        output = wrap(array)
        output._storage = storage
        if array.dtype.kind == "f":
            output.origin, output._requires_grad = (node if node.op.outputs == 1 else (node, index)), True
        outputs.append(output)
    return outputs[0] if node.op.outputs == 1 else tuple(outputs)


def _restore(node: Node) -> None:
    """Have the values of a checkpoint made again; a node that a backward has freed has none."""
    while type(node.freed) is tuple:
        call, place = node.freed
        call.restore(node, place)
    if not node.freed:
        return
    raise RuntimeError(
        f"backward: the saved values of {node.op.name} were freed by an earlier backward; to run backward again, pass "
        "retain_graph=True to the earlier one"
    )


def _changed(node: Node, name: str, shape: tuple[int, ...], version: int, storage: Storage) -> RuntimeError:
    return RuntimeError(
        f"backward: {node.op.name} saved {name} of shape {shape} at version {version}, and {storage.writer} has since "
        f"changed it in place (version {storage.version}); clone() it before the change, or use an op that "
        "returns a new tensor"
    )


def _expected(edge: Edge | None) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype of a gradient along ``edge``."""
    if isinstance(edge, Tensor):
        return edge.array.shape, edge.array.dtype
    if type(edge) is tuple:
        return edge[0].outputs[edge[1]]
    return edge.outputs[0]  # type: ignore[union-attr]


def fit(node: Node, position: int, gradient: Any, edge: Edge | None) -> Any:
    """Sum over the axes along which the operand was broadcast, and check shape and dtype."""
    shape, dtype = _expected(edge)
    if gradient.shape != shape:
        gradient = _sum_to(gradient, shape, node)
    if not isinstance(gradient, (np.ndarray, Tensor)):
        gradient = np.asarray(gradient)  # NumPy gives scalars for 0-d arrays
    if gradient.dtype != dtype:
        raise TypeError(
            f"backward: {node.op.name} gave operand {position} a gradient of dtype {gradient.dtype}, "
            f"its dtype is {dtype}"
        )
    return gradient


def _sum_to(gradient: Any, shape: tuple[int, ...], node: Node) -> Any:
    try:
        broadcasts = np.broadcast_shapes(gradient.shape, shape) == gradient.shape
    except ValueError:
        broadcasts = False
    if not broadcasts:
        raise ValueError(
            f"backward: {node.op.name} gave a gradient of shape {gradient.shape} to an operand of shape {shape}"
        )
    if isinstance(gradient, Tensor):
        return sum_to(gradient, shape=shape)
    return sum_to.forward(gradient, shape=shape)


def _through_reference(
    node: Node, gradient: Any, positions: list[int], create_graph: bool, grad: Callable[..., Any]
) -> list[Any]:
    """The gradients of a composite op: its reference runs on views of the saved operands and is differentiated."""
    op = node.op
    if op.reference is None:
        raise RuntimeError(f"backward: {op.name} has neither a rule nor a reference for {op.operands[positions[0]]}")
    saved = _saved_operands(node)
    # A view is a new node, so that no gradient flows from one operand to another operand that it was made from.
    operands = list(saved)
    with set_grad_enabled(True):
        for position in positions:
            operands[position] = alias(saved[position])
        outputs = op.reference(*operands, **node.options)
    results = outputs if isinstance(outputs, tuple) else (outputs,)
    arrived = gradient if type(gradient) is tuple else (gradient,)
    pairs = [(r, as_tensors(g)) for r, g in zip(results, arrived, strict=True) if g is not None and r.requires_grad]
    if not pairs:
        return [None] * len(positions)
    found = grad(
        [r for r, _ in pairs],
        [operands[p] for p in positions],
        [g for _, g in pairs],
        create_graph=create_graph,
        allow_unused=True,
    )
    return [None if f is None else (f if create_graph else f.array) for f in found]
