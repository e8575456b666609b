"""Backward: gradients travel from the outputs to the leaves, newest node first.

The engine, not the op, skips what needs no gradient, sums broadcast axes away, adds what arrives at a tensor from several
uses, and checks every gradient's shape and dtype. Gradients wait in a table beside the graph until their node is next.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_attn.graph import Node, Storage, modes, set_grad_enabled
from tinygrad_attn.ops.elementwise import add
from tinygrad_attn.ops.reduce import sum_to
from tinygrad_attn.ops.shape import view_as
from tinygrad_attn.tensor import Tensor

__all__ = ["backward", "grad"]

Array = np.ndarray[Any, Any]
# Where a gradient waits: at a leaf, or at one output of a node.
Place = Tensor | tuple[Node, int]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Accumulate the gradient of ``tensors`` into ``.grad`` of every leaf that requires one.

    Args:
        tensors: the outputs; a scalar each, or with ``grad_tensors``.
        grad_tensors: the gradient of each output, in its shape; 1 for a scalar if left out.
        retain_graph: keep what the graph has saved for another backward; ``create_graph`` if None.
        create_graph: write the backward pass into the graph too, so that gradients can be differentiated.

    Raises:
        RuntimeError: an output does not require a gradient or is not a scalar, the graph was freed by an earlier
            backward, or a saved value was changed in place since.
        ValueError: a gradient of another shape than its output.
        TypeError: a gradient of another dtype than its output.
    """
    outputs, seeds = _seeds(tensors, grad_tensors, create_graph)
    _run(outputs, seeds, None, create_graph if retain_graph is None else retain_graph, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, leaving every ``.grad`` alone.

    Args:
        outputs: as for `backward`.
        inputs: tensors, leaves or not, that require a gradient.
        grad_outputs: the gradient of each output, in its shape; 1 for a scalar if left out.
        retain_graph: keep what the graph has saved for another backward; ``create_graph`` if None.
        create_graph: write the backward pass into the graph too, so that gradients can be differentiated.
        allow_unused: give None for an input that the outputs do not depend on, instead of an error.

    Returns:
        A tuple with a gradient for each input.

    Raises:
        RuntimeError: as for `backward`, or an input that requires no gradient or is not reached.
    """
    targets = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    for position, target in enumerate(targets):
        if not target._requires_grad:
            raise RuntimeError(f"grad: input {position} of shape {target.shape} does not require a gradient")
    results, seeds = _seeds(outputs, grad_outputs, create_graph)
    places = [_place(target) for target in targets]
    table = _run(results, seeds, places, create_graph if retain_graph is None else retain_graph, create_graph)
    gradients: list[Tensor | None] = []
    for position, place in enumerate(places):
        gradient = table.get(place)
        if gradient is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {position} of shape {targets[position].shape} was not used to make the outputs; "
                "pass allow_unused=True to get None for it"
            )
        gradients.append(gradient)
    return tuple(gradients)


def _place(tensor: Tensor) -> Place:
    return tensor.origin or tensor


def _seeds(tensors: Any, gradients: Any, create_graph: bool) -> tuple[tuple[Tensor, ...], list[Any]]:
    """The outputs and the gradient that starts at each, as arrays, or as tensors when the pass is to be differentiable."""
    outputs = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
    given = [gradients] * len(outputs) if gradients is None or isinstance(gradients, (Tensor, np.ndarray)) else list(gradients)
    if len(given) != len(outputs):
        raise ValueError(f"backward: {len(outputs)} outputs but {len(given)} gradients")
    seeds: list[Any] = []
    for output, gradient in zip(outputs, given, strict=True):
        if not output._requires_grad:
            raise RuntimeError(
                f"backward: the output of shape {output.shape} does not require a gradient; "
                "was it made under no_grad(), detached, or from tensors without requires_grad=True?"
            )
        if gradient is None:
            if output.array.size != 1:
                raise RuntimeError(
                    f"backward: the output has shape {output.shape}; without a gradient for it only a scalar can start, so reduce it "
                    "(e.g. with sum()) or pass the gradient"
                )
            gradient = np.ones_like(output.array)
        array = gradient.array if isinstance(gradient, Tensor) else np.asarray(gradient)
        _check(f"the gradient given for an output of shape {output.shape}", array, output.shape, output.dtype)
        seeds.append((gradient if isinstance(gradient, Tensor) else Tensor(array)) if create_graph else array)
    return outputs, seeds


def _check(what: str, gradient: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if gradient.shape != shape:
        raise ValueError(f"backward: {what} must have shape {shape}, it has {gradient.shape}")
    if gradient.dtype != dtype:
        raise TypeError(f"backward: {what} must have dtype {dtype}, it has {gradient.dtype}")


class _Table:
    """The gradients on their way: what has arrived at each place, summed."""

    def __init__(self) -> None:
        self.values: dict[Place, Any] = {}
        # Arrays that this table made or was handed for good, and so may add to in place.
        self.owned: set[Place] = set()

    def add(self, place: Place, gradient: Any, fresh: bool) -> None:
        """Add ``gradient`` to what has arrived; ``fresh`` says that nobody else holds its memory."""
        present = self.values.get(place)
        if present is None:
            self.values[place] = gradient
            if fresh:
                self.owned.add(place)
        elif isinstance(gradient, Tensor):
            self.values[place] = add(present, gradient)
        elif place in self.owned:
            np.add(present, gradient, out=present)
        else:
            self.values[place] = np.asarray(present + gradient)
            self.owned.add(place)


def _run(
    outputs: Sequence[Tensor], seeds: list[Any], targets: list[Place] | None, retain: bool, create_graph: bool
) -> dict[Place, Tensor]:
    """Walk the graph. With ``targets`` return their gradients, without accumulate into the leaves."""
    table = _Table()
    values = table.values
    heap: list[tuple[int, Node]] = []
    queued: set[Node] = set()
    wanted = None if targets is None else _leading_to(outputs, targets)
    results: dict[Place, Tensor] = {}

    def send(place: Place, gradient: Any, fresh: bool) -> None:
        table.add(place, gradient, fresh)
        if type(place) is tuple:
            node = place[0]
            if node not in queued:
                queued.add(node)
                heapq.heappush(heap, (-node.number, node))

    with set_grad_enabled(create_graph), np.errstate(all="ignore"):
        for output, seed in zip(outputs, seeds, strict=True):
            send(_place(output), seed, False)
        while heap:
            node = heapq.heappop(heap)[1]
            gradients: list[Any] = []
            for index in range(len(node.outputs)):
                place = (node, index)
                gradient = values.pop(place, None)
                if gradient is not None:
                    if node.hooks and index in node.hooks:
                        gradient = _call_hooks(node.hooks[index], gradient)
                    if node.retained and index in node.retained:
                        _retain(node.retained[index](), gradient)
                    if wanted is not None and place in wanted[1]:
                        results[place] = _given_away(gradient, place in table.owned)
                gradients.append(gradient)
            if wanted is not None and node not in wanted[0]:
                continue
            edges = node.edges if wanted is None else [edge if _leads(edge, wanted) else None for edge in node.edges]
            arrived = gradients[0] if len(gradients) == 1 else tuple(gradients)
            for position, gradient in enumerate(_pull_back(node, arrived, edges, create_graph)):
                if gradient is not None:
                    for observer in modes.observers:
                        observer.backward(node, position, gradient)
                    fresh = type(gradient) is np.ndarray and gradient.base is None and gradient is not arrived
                    send(edges[position], gradient, fresh)
            if not retain:
                node.release()
        for place, gradient in values.items():
            if isinstance(place, Tensor):
                if place.hooks:
                    gradient = _call_hooks(place.hooks, gradient)
                if targets is None:
                    _accumulate(place, gradient, place in table.owned)
                else:
                    results[place] = _given_away(gradient, place in table.owned)
    return results


def _leading_to(outputs: Sequence[Tensor], targets: list[Place]) -> tuple[set[Node], set[Place]]:
    """The nodes through which a gradient must pass to reach a target, and the targets themselves."""
    goals = set(targets)
    # No node older than the oldest target can lead to one; a leaf may be used by any node.
    oldest = min((place[0].number if isinstance(place, tuple) else -1) for place in targets) if targets else 0
    seen: dict[int, Node] = {}
    stack = [output.node for output in outputs if output.node is not None]
    while stack:
        node = stack.pop()
        if node.number in seen or node.number <= oldest:
            continue
        seen[node.number] = node
        stack.extend(edge[0] for edge in node.edges if isinstance(edge, tuple))
    leading: set[Node] = set()
    for number in sorted(seen):
        node = seen[number]
        if any(edge in goals or (isinstance(edge, tuple) and edge[0] in leading) for edge in node.edges if edge is not None):
            leading.add(node)
    return leading, goals


def _leads(edge: Any, wanted: tuple[set[Node], set[Place]]) -> bool:
    return edge is not None and (edge in wanted[1] or (isinstance(edge, tuple) and edge[0] in wanted[0]))


def _pull_back(node: Node, gradient: Any, edges: list[Any], create_graph: bool) -> Sequence[Any]:
    """The gradient that reaches each operand with an edge: by kernel if it may be, else by the rules, else by the reference."""
    op = node.op
    if node.freed:
        raise RuntimeError(
            f"backward: what {op.name} had saved was freed by an earlier backward; pass retain_graph=True to that one to go again"
        )
    results: list[Any] = [None] * len(edges)
    if not create_graph and op.joint_kernel is not None:
        needs = tuple([edge is not None for edge in edges])
        found = op.joint_kernel(*_values(node, op.joint_names, gradient, True, needs=needs))
        for position, edge in enumerate(edges):
            if edge is not None:
                results[position] = _fit(node, position, found[position], edge)
        return results
    referred: list[int] = []
    for position, edge in enumerate(edges):
        if edge is None:
            continue
        rule = op.rules[op.operand_name(position)]
        if rule.kernel is not None and not create_graph:
            result = rule.kernel(*_values(node, rule.kernel_names, gradient, True, position))
        elif rule.function is not None:
            result = rule.function(*_values(node, rule.names, gradient, False, position))
            if not create_graph:
                result = result.array
        else:
            referred.append(position)
            continue
        results[position] = _fit(node, position, result, edge)
    if referred:
        for position, result in zip(referred, _through_reference(node, gradient, referred, create_graph), strict=True):
            results[position] = _fit(node, position, result, edges[position])
    return results


def _values(
    node: Node, names: Sequence[str], gradient: Any, arrays: bool, position: int = 0, needs: tuple[bool, ...] = ()
) -> list[Any]:
    """What a rule asks for by name, as arrays for a kernel, as tensors otherwise."""
    values: list[Any] = []
    saved = node.saved
    for name in names:
        if name == "g":
            values.append(gradient if arrays else _as_tensors(gradient))
        elif name == "z":
            values.append(_saved_outputs(node, saved[name], arrays))
        elif name in saved:
            item = saved[name]
            if name in node.op.operands:
                item, version = item
                if isinstance(item, Tensor):
                    if item.version != version:
                        raise _changed(node, name, item.shape, version, item.storage)
                    if arrays:
                        item = item.array
            values.append(item)
        elif name in node.options:
            values.append(node.options[name])
        elif name == "position":
            values.append(position)
        elif name == "needs":
            values.append(needs)
        else:
            values.append(tuple(v.array if arrays and isinstance(v, Tensor) else v for v in _saved_operands(node)))
    return values


def _as_tensors(gradient: Any) -> Any:
    if type(gradient) is tuple:
        return tuple([None if g is None else _as_tensors(g) for g in gradient])
    return gradient if isinstance(gradient, Tensor) else Tensor(gradient)


def _saved_operands(node: Node) -> list[Any]:
    """All operands, of an op that keeps them all."""
    values: list[Any] = []
    for position in range(len(node.edges)):
        name = node.op.operand_name(position)
        value, version = node.saved[(name, position) if node.op.variadic else name]
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
            output.origin, output._requires_grad = (node, index), True
        outputs.append(output)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _changed(node: Node, name: str, shape: tuple[int, ...], version: int, storage: Storage) -> RuntimeError:
    return RuntimeError(
        f"backward: {node.op.name} saved {name} of shape {shape} at version {version}, and {storage.writer} has since changed it "
        f"in place (version {storage.version}); clone() it before the change, or use an op that returns a new tensor"
    )


def _fit(node: Node, position: int, gradient: Any, edge: Any) -> Any:
    """Sum the axes away along which the operand was broadcast, and check the rest."""
    if gradient is None:
        return None
    if type(edge) is tuple:
        shape, dtype = edge[0].outputs[edge[1]]
    else:
        shape, dtype = edge.array.shape, edge.array.dtype
    if gradient.shape != shape:
        gradient = _sum_to(gradient, shape, node)
    if not isinstance(gradient, (np.ndarray, Tensor)):
        gradient = np.asarray(gradient)  # NumPy gives scalars for 0-d arrays
    if gradient.dtype != dtype:
        raise TypeError(f"backward: {node.op.name} gave operand {position} a gradient of dtype {gradient.dtype}, its dtype is {dtype}")
    return gradient


def _sum_to(gradient: Any, shape: tuple[int, ...], node: Node) -> Any:
    try:
        broadcasts = np.broadcast_shapes(gradient.shape, shape) == gradient.shape
    except ValueError:
        broadcasts = False
    if not broadcasts:
        raise ValueError(f"backward: {node.op.name} gave a gradient of shape {gradient.shape} to an operand of shape {shape}")
    if isinstance(gradient, Tensor):
        return sum_to(gradient, shape=shape)
    return sum_to.forward(gradient, shape=shape)


def _through_reference(node: Node, gradient: Any, positions: list[int], create_graph: bool) -> list[Any]:
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
    pairs = [(r, _as_tensors(g)) for r, g in zip(results, arrived, strict=True) if g is not None and r.requires_grad]
    if not pairs:
        return [None] * len(positions)
    found = grad(
        [r for r, _ in pairs], [operands[p] for p in positions], [g for _, g in pairs], create_graph=create_graph, allow_unused=True
    )
    return [None if f is None else (f if create_graph else f.array) for f in found]


def _call_hooks(hooks: list[Any], gradient: Any) -> Any:
    """Pass a complete gradient through the hooks; each may replace it."""
    tensor = _as_tensors(gradient)
    for hook in tuple(hooks):
        replaced = hook(tensor)
        if replaced is not None:
            _check("the gradient that a hook returned", replaced, tensor.shape, tensor.dtype)
            tensor = replaced
    return tensor if isinstance(gradient, Tensor) else tensor.array


def _retain(tensor: Tensor | None, gradient: Any) -> None:
    if tensor is not None:
        _accumulate(tensor, gradient, False)


def _given_away(gradient: Any, owned: bool) -> Tensor:
    """The gradient as a tensor for the user, who may write to it: a copy unless its memory is nobody else's."""
    if isinstance(gradient, Tensor):
        return gradient
    return Tensor(gradient if owned else gradient.copy())


def _accumulate(tensor: Tensor, gradient: Any, owned: bool) -> None:
    """Add to ``.grad``: a new tensor when the pass is differentiable, else in place."""
    if tensor.grad is None:
        tensor.grad = _given_away(gradient, owned)
    elif isinstance(gradient, Tensor):
        tensor.grad = add(tensor.grad, gradient)
    else:
        np.add(tensor.grad.array, gradient, out=tensor.grad.array)
        tensor.grad.storage.written_by("backward()")
