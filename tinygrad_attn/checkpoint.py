"""checkpoint: keep what a function was given in place of all that it computed, and compute it again in backward.

Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016. Of n layers with a checkpoint each,
the graph keeps n inputs and the inside of one layer, for one more forward pass.

The nodes that the function makes stay in the graph, without the values that their rules need. When backward comes to
the first of them, the function runs again and makes the same nodes with their values; each node then takes those of its
twin. So everything works as without: `grad`, hooks, gradients that can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_attn import random
from tinygrad_attn.checked import shown
from tinygrad_attn.modes import Mode, current_modes, enable_grad
from tinygrad_attn.nested import tensors_in
from tinygrad_attn.public import public
from tinygrad_attn.tensor import Node, numbers

__all__ = ["checkpoint"]


@public("ta")
def checkpoint(
    function: Callable[..., Any],
    *inputs: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **options: Any,
) -> Any:
    """Call ``function(*inputs, **options)``, and call it again in the backward pass in place of keeping its values.

    Dropout drops the same then. While ops are observed, as by `record`, the values are kept.

    Args:
        function: of any arguments. What it reads besides must not have changed when it is called again.
        inputs: its arguments.
        use_reentrant: taken for PyTorch's sake; there is only the way that PyTorch calls not reentrant.
        preserve_rng_state: taken for PyTorch's sake; the second call always draws what the first one did.
        options: its named arguments.

    Returns:
        What the function returns: tensors, or tuples, lists and dicts of such.

    Raises:
        RuntimeError: in backward: the function has not computed the same as before, or what it reads was written to.
    """
    if not callable(function):
        raise TypeError(f"checkpoint: expected a function, got {shown(function)}")
    modes = current_modes()
    keep = [observer.checkpointed() for observer in modes.observers]
    if any(keep) or not modes.grad:
        return function(*inputs, **options)
    call = _Call(lambda: function(*inputs, **options), modes.unfused)
    first = next(numbers)
    result = function(*inputs, **options)
    for place, node in enumerate(_nodes_since(first, result)):
        call.count += 1
        if node.operands or node.saved:
            node.operands, node.saved, node.freed = (), {}, (call, place)
    return result


class _Call:
    """A call that can be made again.

    Attributes:
        count: of the nodes that it made.
    """

    def __init__(self, run: Callable[[], Any], unfused: bool) -> None:
        self._run = run
        self._unfused = unfused
        self._state = random.get_state()
        self._twins: list[Node | None] | None = None
        self.count = 0

    def restore(self, node: Node, place: int) -> None:
        """Give a node the values of its twin, which may be those of a checkpoint inside.

        Raises:
            RuntimeError: the twin is of another op or other sizes, or there is none, or a value was written to.
        """
        if self._twins is None:
            self._twins = self._made_again()
        twin = self._twins[place]
        self._twins[place] = None
        if twin is None or twin.op is not node.op or twin.outputs != node.outputs:
            made = "nothing" if twin is None else f"{twin.op.name} {_sizes(twin)}"
            raise RuntimeError(
                f"checkpoint: the function made {node.op.name} {_sizes(node)}, and when it was run again {made}; "
                "it must compute the same each time"
            )
        for position, (then, now) in enumerate(zip(_versions(node), _versions(twin), strict=False)):
            if then != now:
                raise RuntimeError(
                    f"checkpoint: {node.op.operand_name(position)} of {node.op.name} was changed in place after the "
                    "function had read it; clone() it before the change"
                )
        node.operands, node.saved, node.freed = twin.operands, twin.saved, twin.freed

    def _made_again(self) -> list[Node | None]:
        state = random.get_state()
        random.set_state(self._state)
        first = next(numbers)
        try:
            with enable_grad(), Mode("unfused", lambda _: self._unfused), Mode("observers", lambda _: ()):
                nodes = _nodes_since(first, self._run())
        finally:
            random.set_state(state)
        if len(nodes) != self.count:
            raise RuntimeError(
                f"checkpoint: the function made {self.count} nodes, and when it was run again {len(nodes)}; "
                "it must compute the same each time"
            )
        return list(nodes)


def _nodes_since(first: int, result: Any) -> list[Node]:
    """The nodes that a result depends on, from number ``first`` on, in the order in which they were made."""
    found: dict[Node, None] = {}
    stack: list[Any] = [each.origin for each in tensors_in(result)]
    while stack:
        edge = stack.pop()
        node = edge[0] if type(edge) is tuple else edge
        if type(node) is Node and node.number >= first and node not in found:
            found[node] = None
            stack += node.edges
    return sorted(found, key=lambda node: node.number)


def _versions(node: Node) -> tuple[int, ...]:
    return node.versions if node.versions is not None else (0,) * len(node.edges)


def _sizes(node: Node) -> str:
    return " and ".join(str(shape) for shape, _ in node.outputs)
