"""The tensor: an array, its gradient, and the node of the graph that made it.

A *node* is one call of an op. Its *edges* lead to the nodes (or leaf tensors) that made the operands, so the graph
points backwards, from the loss to the parameters. A node keeps only the values that the parameters of its derivative
rules name.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np

from tinygrad_attn.dtypes import check_array, default_dtype
from tinygrad_attn.modes import current_modes
from tinygrad_attn.public import NAMESPACES, as_method
from tinygrad_attn.rule import Differentiable, Plan

__all__ = [
    "Edge", "HookHandle", "Node", "Storage", "Tensor", "ValuesAndIndices", "Watch", "default_dtype", "gradient_edge",
    "numbers", "share", "wrap",
]  # fmt: skip

numbers: Iterator[int] = itertools.count()  # of nodes, so that a later node has a larger one
_new: Callable[[type[Tensor]], Tensor] = object.__new__

# Where a gradient goes: to a node with one output, to one of several outputs of a node, or to a leaf.
Edge: TypeAlias = "Node | tuple[Node, int] | Tensor"


class Storage:
    """Shared by all views of one array: how often it was written in place, by which op, and the views themselves."""

    __slots__ = ("tensors", "version", "writer")

    def __init__(self) -> None:
        self.version = 0
        self.writer = ""
        # Filled once a view exists; weak, so that a view does not keep the other tensors alive.
        self.tensors: weakref.WeakSet[Tensor] | None = None

    def written_by(self, writer: str) -> None:
        """Count a write in place by ``writer``, so that the error about an older saved value can name it."""
        self.version += 1
        self.writer = writer

    def join(self, tensor: Tensor) -> None:
        """Make this the storage of ``tensor``, which uses the same memory."""
        if self.tensors is None:
            self.tensors = weakref.WeakSet()
        self.tensors.add(tensor)
        tensor._storage = self

    def __reduce__(self) -> Any:
        return Storage, ()  # of a copy: new memory, not written to yet


class Node:
    """One call of an op in the graph.

    Attributes:
        plan: the op that was called, and its rules for the operands that require a gradient.
        edges: for every operand the `Edge` along which its gradient goes, or None.
        operands: the operands that the rules need, by position, None for the others; empty if they need none.
        versions: the version of each of ``operands`` at the time of the call; None if none had been written to.
        saved: the other values that the rules need, by name; for ``z`` the outputs' ``(array, storage, version)``.
        options: the op's options, defaults filled in.
        outputs: shape and dtype of each output.
        number: the creation number; backward takes the newest first.
        watch: the hooks, and the tensors that keep their gradient, of each output; None where there are none.
        freed: whether a backward has dropped the saved values; after a `tinygrad_attn.checkpoint` the call that makes
            them again, and the node's place in it.
    """

    __slots__ = ("edges", "freed", "number", "operands", "options", "outputs", "plan", "saved", "versions", "watch")

    def __init__(
        self,
        plan: Plan,
        edges: Sequence[Edge | None],
        operands: tuple[Any, ...],
        versions: tuple[int, ...] | None,
        saved: dict[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self.plan = plan
        self.edges = edges
        self.operands = operands
        self.versions = versions
        self.saved = saved
        self.options = options
        self.outputs: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.number = next(numbers)
        self.watch: dict[int, Watch] | None = None
        self.freed: bool | tuple[Any, int] = False

    @property
    def op(self) -> Differentiable:
        """The op that was called."""
        return self.plan.op

    def __repr__(self) -> str:
        return f"<{self.op.name} backward, node {self.number}>"

    def watched(self, index: int) -> Watch:
        """The `Watch` of output ``index``, made at the first call."""
        if self.watch is None:
            self.watch = {}
        return self.watch.setdefault(index, Watch())

    def release(self) -> None:
        """Drop the values saved for the derivative; a second backward that needs them then raises."""
        if self.operands or self.saved:
            self.operands, self.saved, self.freed = (), {}, True


class Watch:
    """The hooks of one output's gradient, in order, and the tensor that retains the gradient."""

    def __init__(self) -> None:
        self.hooks: list[HookHandle] = []
        self.retained: weakref.ref[Tensor] | None = None


class Tensor:
    """An n-dimensional array with a gradient and the graph node that made it.

    Built by `tensor` and the creation functions; ``Tensor(array)`` itself wraps a NumPy array without copying it.

    Attributes:
        array: the NumPy array. Writing to it directly is invisible to the version check; use the in-place methods.
        origin: the graph node that made this tensor, with the number of the output if it has several, or None for a
            leaf.

    Raises:
        TypeError: not a NumPy array, or one of an unsupported dtype or a foreign byte order; or ``requires_grad`` of
            integers or bools.
    """

    __slots__ = ("__weakref__", "_grad", "_requires_grad", "_storage", "array", "hooks", "origin")
    # NumPy must leave `array * tensor` to Tensor.__rmul__.
    __array_priority__ = 1000
    __array_ufunc__ = None

    def __init__(self, array: np.ndarray[Any, Any], requires_grad: bool = False) -> None:
        if isinstance(array, np.generic):
            array = np.asarray(array)
        self.array = check_array("Tensor", array, "tensor(data) takes lists and numbers, empty(2, 3) takes sizes")
        self._requires_grad = False
        self._grad: Tensor | None = None
        self.origin: Node | tuple[Node, int] | None = None
        self.hooks: list[HookHandle] | None = None
        self._storage: Storage | None = None
        if requires_grad is not False:
            self.requires_grad = requires_grad

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of every axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    def dim(self) -> int:
        """The number of axes, as PyTorch calls it."""
        return self.array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.array.size

    def is_floating_point(self) -> bool:
        """Whether the elements are float32 or float64, the dtypes that can carry a gradient."""
        return self.array.dtype.kind == "f"

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made this tensor."""
        return self.origin is None

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor; may be set on a leaf."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, (bool, int, np.bool_)):
            raise TypeError(f"requires_grad must be True or False, got a {type(value).__name__}")
        if value and self.array.dtype.kind != "f":
            raise TypeError(f"only float32 and float64 tensors can require a gradient, this one is {self.dtype}")
        if self.node is not None and not value:
            raise RuntimeError(
                f"requires_grad can be cleared on a leaf only; this is the output of {self.node.op.name}. Use detach()."
            )
        self._requires_grad = bool(value)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward()`` has accumulated, or None; a tensor of this one's shape and dtype may be
        assigned.

        Raises:
            TypeError: something else than a tensor or None, or one of another dtype.
            ValueError: one of another shape, or this tensor itself.
        """
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: must be a tensor or None, got {type(value).__name__}; tensor() makes one")
            if value.dtype != self.dtype or self.dtype.kind != "f":
                floats = "" if self.dtype.kind == "f" else "; only float32 and float64 tensors have gradients"
                raise TypeError(f"grad: a gradient of dtype {value.dtype} for a tensor of {self.dtype}{floats}")
            if value.shape != self.shape or value is self:
                found = "the tensor itself" if value is self else f"it has {value.shape}"
                raise ValueError(f"grad: must be another tensor of shape {self.shape}, {found}")
        for observer in current_modes().observers:
            observer.written("an assignment to grad", self)
        self._grad = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` and return the tensor itself."""
        self.requires_grad = requires_grad
        return self

    def _written_by(self, writer: str) -> None:
        """Count a write in place to the values, and tell the observers."""
        self.storage.written_by(writer)
        for observer in current_modes().observers:
            observer.written(writer, self)

    # -- to and from NumPy ---------------------------------------------------------------------------------------------

    def _read(self) -> np.ndarray[Any, Any]:
        """The array, for code outside of ops; observers are told."""
        for observer in current_modes().observers:
            observer.read(self)
        return self.array

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array itself, sharing memory.

        Raises:
            RuntimeError: the tensor requires a gradient, which NumPy would lose; ``detach()`` first.
        """
        if self._requires_grad:
            raise RuntimeError(
                "numpy() of a tensor that requires a gradient would lose it; use tensor.detach().numpy()"
            )
        return self._read()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a {array.dtype} tensor cannot become a {np.dtype(dtype)} array without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def item(self) -> float | int | bool:
        """The only element as a Python number.

        Raises:
            ValueError: there is not exactly one element.
        """
        if self.array.size != 1:
            raise ValueError(f"item() needs a tensor of one element, this one has shape {self.shape}")
        return self._read().item()

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self._read().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iu":
            raise TypeError(f"only integer tensors can be an index, this one is {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use any() or all()")
        return bool(self._read().item())

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(self.array.shape[0])])  # type: ignore[index]

    def __contains__(self, value: object) -> NoReturn:
        raise TypeError("`in` on a tensor is ambiguous; use (tensor == value).any()")

    __hash__ = object.__hash__

    # -- the graph -----------------------------------------------------------------------------------------------------

    @property
    def node(self) -> Node | None:
        """The graph node that made this tensor, or None for a leaf."""
        return self.origin[0] if type(self.origin) is tuple else self.origin  # type: ignore[return-value]

    @property
    def grad_fn(self) -> Node | None:
        """`node`, by PyTorch's name."""
        return self.node

    @property
    def output_index(self) -> int:
        """Which of the outputs of its node this tensor is."""
        return self.origin[1] if type(self.origin) is tuple else 0

    @property
    def storage(self) -> Storage:
        """The `Storage` that all views of the array share; it holds the version."""
        if self._storage is None:
            self._storage = Storage()
        return self._storage

    @property
    def version(self) -> int:
        """How often the array was written in place, through this tensor or any view of it."""
        return 0 if self._storage is None else self._storage.version

    def detach(self) -> Tensor:
        """The same memory outside the graph; writes in place are seen, and version-checked, by both."""
        result = wrap(self.array)
        share(self, result)
        return result

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call ``hook(gradient)`` when this tensor's gradient is complete; a tensor it returns replaces the gradient.

        Returns:
            A handle whose ``remove()`` removes the hook.

        Raises:
            RuntimeError: the tensor does not require a gradient.
        """
        if not self._requires_grad or not callable(hook):
            raise RuntimeError("register_hook needs a tensor that requires a gradient, and a function")
        node = self.node
        if node is None:
            self.hooks = hooks = self.hooks or []
        else:
            hooks = node.watched(self.output_index).hooks
        handle = HookHandle(hooks, hook)
        hooks.append(handle)
        return handle

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate tensor in ``.grad`` during backward; leaves always keep theirs.

        Raises:
            RuntimeError: the tensor does not require a gradient.
        """
        if not self._requires_grad:
            raise RuntimeError("retain_grad needs a tensor that requires a gradient")
        node = self.node
        if node is not None:
            node.watched(self.output_index).retained = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether ``retain_grad()`` was called on this intermediate tensor."""
        node = self.node
        return node is not None and node.watch is not None and node.watched(self.output_index).retained is not None


def wrap(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor around an array that the engine itself has made: `Tensor` without its checks."""
    made = _new(Tensor)
    made.array = array
    made._requires_grad = False
    made._grad = None
    made.origin = None
    made.hooks = None
    made._storage = None
    return made


# This module cannot import the ops, since they import it: they register the methods and operators of Tensor.
NAMESPACES["Tensor"].connect(
    lambda name, function: setattr(Tensor, name, as_method(name, function)), reserved=vars(Tensor)
)


class ValuesAndIndices(NamedTuple):
    """The result of `sort` and `topk`: elements, and their int64 indices along the axis."""

    values: Tensor
    indices: Tensor


class HookHandle:
    """The result of `Tensor.register_hook`, and what stands for the hook in its list: ``remove()`` removes it."""

    def __init__(self, hooks: list[Any], hook: Callable[[Tensor], Any], after: bool = False) -> None:
        self._hooks = hooks
        self.hook = hook
        self.after = after  # called with the leaf, after its gradient has been accumulated

    def remove(self) -> None:
        """Remove this hook, and no other that calls the same function; a second call does nothing."""
        if self in self._hooks:
            self._hooks.remove(self)


def gradient_edge(tensor: Tensor) -> Edge | None:
    """The edge along which the gradient of a tensor goes; None if it requires none."""
    return (tensor.origin or tensor) if tensor._requires_grad else None


def share(source: Tensor, view: Tensor) -> None:
    """Give ``view``, which uses the memory of ``source``, the same storage."""
    storage = source.storage
    if storage.tensors is None:
        storage.join(source)
    storage.join(view)
