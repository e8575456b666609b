"""One step of backward: the gradient of a node's output becomes the gradients of its operands.

A kernel does it where there is one and nobody asked for a differentiable gradient, else the rules do, and for a
composite op its reference. What comes out is summed over broadcast axes and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.graph import Node, Place, Storage, set_grad_enabled
from tinygrad_attn.op import Source
from tinygrad_attn.ops.reduce import sum_to
from tinygrad_attn.ops.shape import view_as
from tinygrad_attn.tensor import Tensor

__all__ = ["as_tensors", "pull_back"]

# Bound here since they are looked up for every operand of every node.
GRADIENT, OPERAND, OUTPUT = Source.GRADIENT, Source.OPERAND, Source.OUTPUT
SAVED, OPTION, POSITION, NEEDS = Source.SAVED, Source.OPTION, Source.POSITION, Source.NEEDS


def pull_back(
    node: Node, gradient: Any, edges: Sequence[Place | None], create_graph: bool, grad: Callable[..., Any]
) -> list[Any]:
    """The gradient that reaches each operand with an edge.

    Args:
        node: the node whose turn it is.
        gradient: of its output, an array, or a tensor if ``create_graph``; a tuple, None among them, for several
            outputs.
        edges: for each operand where its gradient goes, None if it is not wanted.
        create_graph: give tensors that can be differentiated again.
        grad: `tinygrad_attn.autograd.grad`, for composite ops.

    Raises:
        RuntimeError: what the node had saved was freed, or changed in place.
        ValueError, TypeError: a rule gave a gradient of the wrong shape or dtype.
    """
    op = node.op
    if node.saved is None:
        raise RuntimeError(
            f"backward: what {op.name} had saved was freed by an earlier backward; pass retain_graph=True to that one "
            "to go again"
        )
    results: list[Any] = [None] * len(edges)
    if not create_graph and op.joint_kernel is not None:
        needs = tuple([edge is not None for edge in edges])
        found = op.joint_kernel(*_values(node, op.joint_arguments, gradient, True, needs=needs))
        for position, edge in enumerate(edges):
            if edge is not None and found[position] is not None:
                results[position] = _fit(node, position, found[position], edge)
        return results
    referred: list[int] = []
    for position, edge in enumerate(edges):
        if edge is None:
            continue
        rule = node.rules[position]
        assert rule is not None  # an edge exists only where a rule does
        if rule.kernel is not None and not create_graph:
            if rule.kernel_takes_gradient_alone:
                result = rule.kernel(gradient)
            else:
                result = rule.kernel(*_values(node, rule.kernel_arguments, gradient, True, position))
        elif rule.function is not None:
            result = rule.function(*_values(node, rule.arguments, gradient, False, position))
            if not create_graph:
                result = result.array
        else:
            referred.append(position)
            continue
        if type(edge) is Node and type(result) is np.ndarray and (result.shape, result.dtype) == edge.outputs[0]:
            results[position] = result  # nothing to do, as nearly always
        elif result is not None:
            results[position] = _fit(node, position, result, edge)
    if referred:
        for position, result in zip(
            referred, _through_reference(node, gradient, referred, create_graph, grad), strict=True
        ):
            if result is not None:
                results[position] = _fit(node, position, result, edges[position])
    return results


def _values(
    node: Node,
    arguments: tuple[tuple[Source, str], ...],
    gradient: Any,
    arrays: bool,
    position: int = 0,
    needs: tuple[bool, ...] = (),
) -> list[Any]:
    """What a rule asks for by name, as arrays for a kernel, as tensors otherwise."""
    values: list[Any] = []
    saved: dict[Any, Any] = node.saved  # type: ignore[assignment]
    for source, name in arguments:
        if source is GRADIENT:
            values.append(gradient if arrays else as_tensors(gradient))
        elif source is OPERAND:
            value, version = saved[name]
            if isinstance(value, Tensor):
                if value._storage is not None and value._storage.version != version:
                    raise _changed(node, name, value.shape, version, value._storage)
                if arrays:
                    value = value.array
            values.append(value)
        elif source is OUTPUT:
            values.append(_saved_outputs(node, saved[name], arrays))
        elif source is SAVED:
            values.append(saved[name])
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
    return gradient if isinstance(gradient, Tensor) else Tensor(gradient)


def _saved_operands(node: Node) -> list[Any]:
    """All operands, of an op that keeps them all."""
    saved: dict[Any, Any] = node.saved  # type: ignore[assignment]
    values: list[Any] = []
    for position in range(len(node.edges)):
        name = node.op.operand_name(position)
        value, version = saved[(name, position) if node.op.variadic else name]
        if isinstance(value, Tensor) and value.version != version:
            raise _changed(node, name, value.shape, version, value.storage)
        values.append(value)
    return values


def _saved_outputs(node: Node, items: Any, arrays: bool) -> Any:
    """The saved outputs; as tensors they are joined to the graph again, so that rules can be differentiated."""
    outputs: list[Any] = []
    for index, (array, storage, version) in enumerate(items):
        if storage.version != version:
            raise _changed(node, "its output", array.shape, version, storage)
        if arrays:
            outputs.append(array)
            continue
        output = Tensor(array)
        output._storage = storage
        if array.dtype.kind == "f":
            output.origin, output._requires_grad = (node if node.op.outputs == 1 else (node, index)), True
        outputs.append(output)
    return outputs[0] if node.op.outputs == 1 else tuple(outputs)


def _changed(node: Node, name: str, shape: tuple[int, ...], version: int, storage: Storage) -> RuntimeError:
    return RuntimeError(
        f"backward: {node.op.name} saved {name} of shape {shape} at version {version}, and {storage.writer} has since "
        f"changed it in place (version {storage.version}); clone() it before the change, or use an op that "
        "returns a new tensor"
    )


def _fit(node: Node, position: int, gradient: Any, edge: Place | None) -> Any:
    """Sum the axes away along which the operand was broadcast, and check the rest."""
    if type(edge) is Node:
        shape, dtype = edge.outputs[0]
    elif type(edge) is tuple:
        shape, dtype = edge[0].outputs[edge[1]]
    else:
        shape, dtype = edge.array.shape, edge.array.dtype  # type: ignore[union-attr]
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
    """Gradients of a composite op: run its reference on views of the saved operands and differentiate that."""
    op = node.op
    if op.reference is None:
        raise RuntimeError(f"backward: {op.name} has neither a rule nor a reference for {op.operands[positions[0]]}")
    saved = _saved_operands(node)
    # A view is a new node, so that a gradient for one operand never runs on into another operand made from it.
    operands = list(saved)
    with set_grad_enabled(True):
        for position in positions:
            operands[position] = view_as(saved[position])
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
