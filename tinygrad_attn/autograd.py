"""backward and grad: gradients flow from the outputs to the leaves, newest node first.

`backward` and `grad` prepare the gradients of the outputs (`_seeds`) and walk the graph (`_walk`). A gradient that is
not complete yet waits in a table beside the graph (`_Pending`), where the contributions of a tensor's several uses are
added. `tinygrad_attn.pullback` computes the gradients of one node's operands. The engine, not the op, skips operands
that need no gradient, sums over broadcast axes, and checks every gradient's shape and dtype.
"""

from __future__ import annotations

import contextvars
import heapq
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_attn.kernels.pairs import add_into
from tinygrad_attn.modes import Observer, current_modes, enable_grad, no_grad, span
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.ops.shape import clone
from tinygrad_attn.public import public
from tinygrad_attn.pullback import as_tensors, pull_back
from tinygrad_attn.tensor import Edge, HookHandle, Node, Tensor, wrap
from tinygrad_attn.values import as_array

__all__ = ["backward", "grad", "reach_leaf"]

Array = np.ndarray[Any, Any]
_accumulating = threading.Lock()  # threads may share leaves


@public("ta")
@span("backward")
def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradient of ``tensors`` into ``.grad`` of every leaf that requires one.

    Args:
        tensors: the outputs; a scalar each, or with ``grad_tensors``.
        grad_tensors: the gradient of each output, in its shape; 1 for a scalar if left out.
        retain_graph: keep the graph's saved values for another backward; ``create_graph`` if None.
        create_graph: record the backward pass in the graph too, so that gradients can be differentiated.
        inputs: the only tensors, leaves or not, whose ``.grad`` is to change.

    Raises:
        RuntimeError: an output or input does not require a gradient, an output is not a scalar, the graph was freed by
            an earlier backward, or a saved value was changed in place since.
        ValueError: a gradient of another shape than its output, or no inputs.
        TypeError: a gradient of another dtype than its output, or something that is no tensor.
    """
    wanted = None if inputs is None else _inputs("backward", inputs)
    outputs, seeds = _seeds(tensors, grad_tensors, create_graph)
    targets: list[Edge] | None = None if wanted is None else [target.origin or target for target in wanted]
    found = _run(outputs, seeds, targets, create_graph if retain_graph is None else retain_graph, create_graph)
    for target in dict.fromkeys(wanted or ()):
        gradient = found.get(target.origin or target)
        if gradient is not None:
            _accumulate(target, gradient if create_graph else gradient.array.copy(), True)
            _call_hooks_after(target)


@public("ta")
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
        retain_graph: keep the graph's saved values for another backward; ``create_graph`` if None.
        create_graph: record the backward pass in the graph too, so that gradients can be differentiated.
        allow_unused: give None for an input that the outputs do not depend on, instead of an error.

    Returns:
        A tuple with a gradient for each input.

    Raises:
        RuntimeError: as for `backward`, or an input that requires no gradient or is not reached.
    """
    targets = _inputs("grad", inputs)
    results, seeds = _seeds(outputs, grad_outputs, create_graph)
    wanted = [target.origin or target for target in targets]
    found = _run(results, seeds, wanted, create_graph if retain_graph is None else retain_graph, create_graph)
    gradients: list[Tensor | None] = []
    for position, edge in enumerate(wanted):
        gradient = found.get(edge)
        if gradient is None and not allow_unused:
            raise RuntimeError(
                f"grad: input {position} of shape {targets[position].shape} was not used to make the outputs; "
                "pass allow_unused=True to get None for it"
            )
        gradients.append(gradient)
    return tuple(gradients)


def _several(name: str, what: str, tensors: Any) -> tuple[Tensor, ...]:
    """One tensor or any iterable of them as a tuple of at least one."""
    several = (tensors,) if isinstance(tensors, Tensor) or not hasattr(tensors, "__iter__") else tuple(tensors)
    if not several:
        raise ValueError(f"{name}: there are no {what}s; give at least one tensor")
    for position, each in enumerate(several):
        if not isinstance(each, Tensor):
            raise TypeError(f"{name}: {what} {position} must be a tensor, got {type(each).__name__}")
    return several


def _inputs(name: str, inputs: Any) -> tuple[Tensor, ...]:
    """The tensors whose gradients are wanted."""
    targets = _several(name, "input", inputs)
    for position, target in enumerate(targets):
        if not target._requires_grad:
            raise RuntimeError(f"{name}: input {position} of shape {target.shape} does not require a gradient")
    return targets


def _seeds(tensors: Any, gradients: Any, create_graph: bool) -> tuple[tuple[Tensor, ...], list[Any]]:
    """The outputs and the gradient that starts at each, as arrays, or as tensors when the pass is to be
    differentiable."""
    outputs = _several("backward", "output", tensors)
    several = isinstance(gradients, (list, tuple))
    given = list(gradients) if several else [gradients] * len(outputs)
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
                    f"backward: the output has shape {output.shape}; without a gradient only a scalar can "
                    "start, so reduce it (e.g. with sum()) or pass the gradient"
                )
            gradient = np.ones_like(output.array)
        if not isinstance(gradient, Tensor):
            dtype = None if isinstance(gradient, np.ndarray) else output.dtype
            gradient = as_array(gradient, dtype, "backward: the gradient")
        array = gradient.array if isinstance(gradient, Tensor) else gradient
        _check(f"the gradient given for an output of shape {output.shape}", array, output.shape, output.dtype)
        seeds.append((gradient if isinstance(gradient, Tensor) else Tensor(array)) if create_graph else array)
    return outputs, seeds


def _check(what: str, gradient: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if gradient.shape != shape:
        raise ValueError(f"backward: {what} must have shape {shape}, it has {gradient.shape}")
    if gradient.dtype != dtype:
        raise TypeError(f"backward: {what} must have dtype {dtype}, it has {gradient.dtype}")


class _Pending:
    """The gradients that are not complete yet, and the nodes that wait for their turn.

    Attributes:
        values: for each edge the sum of the gradients so far: an array, or a tensor in a differentiable pass.
        owned: the edges whose array belongs to this pass alone, so that it may be added to in place.
        heap: the nodes that have received a gradient, newest first.
        queued: the nodes of ``heap`` with several outputs, since each output may queue its node.
    """

    def __init__(self) -> None:
        self.values: dict[Edge, Any] = {}
        self.owned: set[Edge] = set()
        self.heap: list[tuple[int, Node]] = []
        self.queued: set[Node] = set()

    def send(self, edge: Edge, gradient: Any, fresh: bool) -> None:
        """Add ``gradient`` to the sum for ``edge``; if it is ``fresh``, nothing else refers to its memory."""
        values = self.values
        present = values.get(edge)
        if present is None:
            values[edge] = gradient
            if fresh:
                self.owned.add(edge)
            if type(edge) is Node:
                heapq.heappush(self.heap, (-edge.number, edge))
            elif type(edge) is tuple:
                node = edge[0]
                # Another output of the node may have queued it already.
                if node not in self.queued:
                    self.queued.add(node)
                    heapq.heappush(self.heap, (-node.number, node))
        elif isinstance(gradient, Tensor):
            values[edge] = add(present, gradient)
        elif edge in self.owned:
            add_into(present, gradient, present)
        elif fresh:
            values[edge] = add_into(present, gradient, gradient)
            self.owned.add(edge)
        else:
            values[edge] = np.asarray(present + gradient)
            self.owned.add(edge)


def _run(*arguments: Any) -> dict[Edge, Tensor]:
    """`_walk` in a copy of the context variables, so that an interrupt leaves NumPy's warnings as they were."""
    return contextvars.copy_context().run(_walk, *arguments)


def _walk(
    outputs: Sequence[Tensor], seeds: list[Any], targets: list[Edge] | None, retain: bool, create_graph: bool
) -> dict[Edge, Tensor]:
    """Walk the graph, newest node first: a node's number is above the numbers of the nodes it depends on.

    Without ``targets`` the leaves accumulate their gradients; with them, their gradients are returned and no ``.grad``
    changes.
    """
    pending = _Pending()
    subgraph = None if targets is None else _Subgraph(outputs, targets)
    results: dict[Edge, Tensor] = {}
    uses = _Uses(outputs) if _Uses.wanted and targets is None else None
    observers = current_modes().observers
    with enable_grad() if create_graph else no_grad(), np.errstate(all="ignore"):
        for output, seed in zip(outputs, seeds, strict=True):
            pending.send(output.origin or output, seed, False)
        while pending.heap:
            node = heapq.heappop(pending.heap)[1]
            edges = node.edges
            if node.watch is None and subgraph is None and node.plan.op.outputs == 1:
                arrived = pending.values.pop(node)
            else:
                arrived = _complete_gradient(node, pending, subgraph, results)
                if subgraph is not None:
                    if node not in subgraph.leading:
                        continue
                    edges = [edge if subgraph.leads(edge) else None for edge in edges]
            if observers:
                pulled = _observed(observers, node, arrived, edges, create_graph)
            else:
                pulled = pull_back(node, arrived, edges, create_graph, grad)
            for edge, gradient in zip(edges, pulled):  # noqa: B905  of one length
                if gradient is not None and edge is not None:
                    fresh = gradient is not arrived and type(gradient) is np.ndarray and gradient.base is None
                    pending.send(edge, gradient, fresh)
            for leaf in uses.completed(node) if uses is not None else ():
                if leaf in pending.values:
                    reach_leaf(leaf, pending.values.pop(leaf), leaf in pending.owned)
            if not retain:
                node.release()
        for edge, gradient in pending.values.items():
            if isinstance(edge, Tensor):
                reach_leaf(edge, gradient, edge in pending.owned, None if subgraph is None else results)
    return results


def _observed(
    observers: Sequence[Observer], node: Node, arrived: Any, edges: Sequence[Edge | None], create_graph: bool
) -> list[Any]:
    """`pull_back`, with a call of each observer's methods before and after."""
    for observer in observers:
        observer.arrived(node, arrived)
    pulled = pull_back(node, arrived, edges, create_graph, grad)
    for observer in observers:
        observer.pulled_back(node)
        for position, gradient in enumerate(pulled):
            if gradient is not None:
                observer.backward(node, position, gradient)
    return pulled


def _complete_gradient(node: Node, pending: _Pending, subgraph: _Subgraph | None, results: dict[Edge, Tensor]) -> Any:
    """Pass a node's complete gradient through its hooks, and store it for ``retain_grad()`` or as a target of `grad`.

    Returns:
        The gradient of its output, or a tuple with that of each, None where none arrived.
    """
    gradients: list[Any] = []
    single = node.op.outputs == 1
    for index in range(len(node.outputs)):
        edge: Edge = node if single else (node, index)
        gradient = pending.values.pop(edge, None)
        if gradient is not None:
            if node.watch is not None and index in node.watch:
                watch = node.watch[index]
                gradient = _call_hooks(watch.hooks, gradient)
                retaining = watch.retained() if watch.retained is not None else None
                if retaining is not None:
                    _accumulate(retaining, gradient, False)
            if subgraph is not None and edge in subgraph.targets:
                results[edge] = _as_result(gradient, False)
        gradients.append(gradient)
    return gradients[0] if single else tuple(gradients)


class _Uses:
    """The leaves with hooks that wait for their gradients, and how many operands that they are have yet to send theirs.

    So these hooks are called amid the pass, as soon as a gradient is complete. One that is partly used by nodes that
    receive no gradient is complete when the pass is over.
    """

    wanted = False
    """Whether a leaf has ever had such a hook."""

    def __init__(self, outputs: Sequence[Tensor]) -> None:
        self.left: dict[Tensor, int] = {}
        stack = [output.node for output in outputs if output.node is not None]
        seen = set(stack)
        while stack:
            for edge in stack.pop().edges:
                if isinstance(edge, Tensor):
                    if edge.hooks and any(hook.after for hook in edge.hooks):
                        self.left[edge] = self.left.get(edge, 0) + 1
                elif edge is not None and (node := _node(edge)) not in seen:
                    seen.add(node)
                    stack.append(node)

    def completed(self, node: Node) -> list[Tensor]:
        """The leaves whose gradients are complete with those that a node has sent."""
        found = []
        for edge in node.edges:
            if isinstance(edge, Tensor) and edge in self.left:
                self.left[edge] -= 1
                if not self.left[edge]:
                    found.append(edge)
        return found


class _Subgraph:
    """The part of the graph that `grad` walks: its targets, and the nodes that lead to one."""

    def __init__(self, outputs: Sequence[Tensor], targets: list[Edge]) -> None:
        self.targets = set(targets)
        # No node older than the oldest target can lead to one; a leaf may be used by any node.
        oldest = min((-1 if isinstance(edge, Tensor) else _node(edge).number for edge in targets), default=0)
        seen: dict[int, Node] = {}
        stack = [output.node for output in outputs if output.node is not None]
        while stack:
            node = stack.pop()
            if node.number not in seen and node.number > oldest:
                seen[node.number] = node
                stack.extend(_node(edge) for edge in node.edges if edge is not None and not isinstance(edge, Tensor))
        self.leading: set[Node] = set()
        for number in sorted(seen):
            if any(self.leads(edge) for edge in seen[number].edges):
                self.leading.add(seen[number])

    def leads(self, edge: Edge | None) -> bool:
        """Whether ``edge`` is on a path to a target."""
        if edge is None or edge in self.targets:
            return edge is not None
        return not isinstance(edge, Tensor) and _node(edge) in self.leading


def _node(edge: Node | tuple[Node, int]) -> Node:
    return edge[0] if type(edge) is tuple else edge  # type: ignore[return-value]


def _call_hooks(hooks: list[Any], gradient: Any) -> Any:
    """Pass a complete gradient through the hooks; each may replace it."""
    tensor = as_tensors(gradient)
    for hook in tuple(hooks):
        replaced = hook.hook(tensor)
        if replaced is not None:
            if not isinstance(replaced, Tensor):
                raise TypeError(f"backward: a hook must return a tensor or None, it returned {type(replaced).__name__}")
            _check("the gradient that a hook returned", replaced, tensor.shape, tensor.dtype)
            tensor = replaced
    return tensor if isinstance(gradient, Tensor) else tensor.array


def _as_result(gradient: Any, owned: bool) -> Tensor:
    """The gradient as a tensor that the user may write to: copied unless this pass owns the array."""
    if isinstance(gradient, Tensor):
        return gradient
    return wrap(gradient if owned else gradient.copy())


def reach_leaf(leaf: Tensor, gradient: Any, owned: bool, results: dict[Edge, Tensor] | None = None) -> None:
    """Give a leaf its complete gradient, through its hooks: in ``results`` if there are any, else in ``.grad``."""
    if leaf.hooks and (before := [hook for hook in leaf.hooks if not hook.after]):
        # A hook may have kept its argument or its result.
        gradient, owned = _call_hooks(before, gradient), False
    if results is None:
        _accumulate(leaf, gradient, owned)
        if leaf.hooks:
            _call_hooks_after(leaf)
    else:
        results[leaf] = _as_result(gradient, owned)


def _call_hooks_after(tensor: Tensor) -> None:
    """Call the hooks that `Tensor.register_post_accumulate_grad_hook` has registered with a leaf."""
    for hook in tuple(tensor.hooks or ()):
        if hook.after:
            hook.hook(tensor)


def _accumulate(tensor: Tensor, gradient: Any, owned: bool) -> None:
    """Add to ``.grad``: a new tensor when the pass is differentiable, else in place."""
    with _accumulating:
        if tensor._grad is None:
            # A differentiable gradient may belong to other edges too, and a later backward adds in place.
            tensor._grad = clone(gradient) if isinstance(gradient, Tensor) else _as_result(gradient, owned)
        elif isinstance(gradient, Tensor):
            tensor._grad = add(tensor._grad, gradient)
        else:
            add_into(tensor._grad.array, gradient, tensor._grad.array)
            tensor._grad.storage.written_by("backward()")


@public("Tensor.backward")
def _backward_method(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradient of this tensor into ``.grad`` of every leaf that requires one (see `backward`)."""
    backward(self, gradient, retain_graph, create_graph, inputs)


@public("Tensor.register_post_accumulate_grad_hook")
def _register_hook_after(self: Tensor, hook: Callable[[Tensor], None]) -> HookHandle:
    """Call ``hook(leaf)`` whenever backward has added to ``.grad`` of this leaf all that it will; the hook may take the
    gradient away.

    It is called as soon as this gradient is complete, while others are still to be computed.

    Returns:
        A handle whose ``remove()`` removes the hook.

    Raises:
        RuntimeError: the tensor is not a leaf that requires a gradient.
    """
    if not self._requires_grad or self.origin is not None or not callable(hook):
        raise RuntimeError("register_post_accumulate_grad_hook needs a leaf that requires a gradient, and a function")
    self.hooks = hooks = self.hooks or []
    _Uses.wanted = True
    handle = HookHandle(hooks, hook, after=True)
    hooks.append(handle)
    return handle
