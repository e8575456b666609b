"""The decorator @public, which gives a function its public names: ta.NAME, Tensor.NAME, …

::

    @public("ta", "Tensor", "Tensor.__add__", "Tensor.__radd__")
    @op(r"z = x + y", samples=broadcast_pairs)
    def add(x, y): ...

makes ``ta.add(x, y)``, ``x.add(y)``, ``x + y`` and ``1 + x``. There are five namespaces:

============  =========================================================================
``ta``        functions of the package, ``import tinygrad_attn as ta``
``F``         functions of neural networks, ``from tinygrad_attn.nn import functional as F``
``func``      functions made of functions, ``tinygrad_attn.func``
``linalg``    linear algebra, ``tinygrad_attn.linalg``
``Tensor``    methods and operators of tensors
============  =========================================================================

``"ta"`` offers a function under its own name, ``"Tensor.div"`` under another. A user's file may do the same: its
function is available as soon as the file is imported.

As in PyTorch, whoever calls a function by its public name may write NumPy's ``axis`` and ``keepdims`` for ``dim`` and
``keepdim``.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from tinygrad_attn.checked import check_call
from tinygrad_attn.registry import Registry

__all__ = ["NAMESPACES", "NUMPYS_NAMES", "Namespace", "as_method", "in_our_words", "public"]

T = TypeVar("T")

NUMPYS_NAMES = {"axis": "dim", "keepdims": "keepdim"}
"""NumPy's names of arguments, and ours."""

_BINARY = "add sub mul truediv floordiv mod divmod pow matmul and or xor lshift rshift".split()
_REFLECTED = frozenset(f"__r{name}__" for name in _BINARY)
_EQUALITIES = frozenset(("__eq__", "__ne__"))
_OPERATORS = frozenset(
    [f"__{prefix}{name}__" for name in _BINARY for prefix in ("", "i")]
    + [f"__{name}__" for name in ("lt", "le", "gt", "ge", "getitem")]
) - {"__pow__"}  # which Python's pow(x, y, z) gives a third argument, for the op to refuse


class Namespace(Registry[Any]):
    """A registry of public names that passes each new name to the module or class it belongs to."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self._receivers: list[Callable[[str, Any], None]] = []
        self._reserved: frozenset[str] = frozenset()

    def connect(self, receive: Callable[[str, Any], None], reserved: Iterable[str] = ()) -> None:
        """Call ``receive(name, function)`` for every name: those registered so far, and each later one.

        Args:
            receive: sets the name in the module or class.
            reserved: names that the module or class defines itself.
        """
        self._receivers.append(receive)
        self._reserved |= frozenset(reserved)
        for name, function in self.items():
            receive(name, function)

    def add(self, name: str, function: Any) -> None:
        """Register a name and pass it on.

        Raises:
            ValueError: another module has registered this name, or it is reserved.
        """
        if name in self._reserved:
            raise ValueError(f"{name!r} cannot be the name of a {self.kind}: it has one already; choose another name")
        self.register(name)(function)
        for receive in self._receivers:
            receive(name, function)


NAMESPACES = {
    "ta": Namespace("function of tinygrad_attn"),
    "F": Namespace("function of tinygrad_attn.nn.functional"),
    "func": Namespace("function of tinygrad_attn.func"),
    "linalg": Namespace("function of tinygrad_attn.linalg"),
    "Tensor": Namespace("method of Tensor"),
}


def in_our_words(function: str, known: Collection[str], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a call with our names in place of NumPy's, where the function knows ours alone.

    Raises:
        TypeError: an argument under both names.
    """
    given = dict(options)
    for theirs, ours in NUMPYS_NAMES.items():
        if theirs in given and ours in known and theirs not in known:
            if ours in given:
                raise TypeError(f"{function}: {ours} is given twice, as {ours} and as {theirs}")
            given[ours] = given.pop(theirs)
    if "out" in given and "out" not in known and given["out"] is None:
        del given["out"]  # np.sum(x) asks for x.sum(axis=None, dtype=None, out=None)
    return given


@functools.cache
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _as_called_by_users(function: Any) -> Any:
    """A plain function that takes NumPy's names too, and names itself where arguments are missing or unknown."""
    if not isinstance(function, types.FunctionType):
        return function

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if options and not NUMPYS_NAMES.keys().isdisjoint(options):
            options = in_our_words(function.__name__, _parameters(function), options)
        try:
            return function(*arguments, **options)
        except TypeError:
            check_call(function.__name__, function, arguments, options)
            raise

    function.for_users = call  # type: ignore[attr-defined]  # where pickle finds it, by its qualified name
    call.__qualname__ += ".for_users"
    return call


def public(*names: str) -> Callable[[T], T]:
    """A decorator that offers a function, an op or a class under each of ``names`` (see the module's docstring).

    Raises:
        ValueError: no such namespace, or a name that another module has taken there.
    """

    def offer(function: T) -> T:
        offered = _as_called_by_users(function)
        for full in names:
            namespace, _, name = full.partition(".")
            if namespace not in NAMESPACES:
                raise ValueError(f"public: {full!r} is in no namespace; there are {', '.join(NAMESPACES)}")
            NAMESPACES[namespace].add(name or function.__name__, offered)  # type: ignore[attr-defined]
        return function

    return offer


public("ta")(public)


def as_method(name: str, function: Any) -> Any:
    """A function of a tensor as the method or operator ``name`` of it; a property is returned unchanged."""
    if isinstance(function, property):
        return function
    # An op's bound __call__ spares each use a look-up.
    call = getattr(function, "__call__", function)  # noqa: B004

    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return call(self, *arguments, **options)

    def operator(self: Any, other: Any) -> Any:
        return call(self, other)

    def reflected(self: Any, other: Any) -> Any:
        return call(other, self)

    def equality(self: Any, other: Any) -> Any:
        # None and text are never equal to a tensor; Python then compares by identity.
        return NotImplemented if other is None or isinstance(other, str) else call(self, other)

    made = method
    if name in _EQUALITIES:
        made = equality
    elif name in _REFLECTED:
        made = reflected
    elif name in _OPERATORS:
        made = operator
    made.__name__, made.__doc__ = name, function.__doc__
    return made
