"""@checked: a decorator that checks a function's arguments by their annotations, for the constructors of layers and
optimisers.

::

    class Linear(Module):
        @checked
        def __init__(self, in_features: Size, out_features: Size, bias: bool = True, dtype: FloatDtype = default_dtype):

``Linear(-1, 3)`` then raises "Linear: in_features must be at least 0, got -1". Whoever reads the signature sees what
may be given; the body gets Python numbers, whatever NumPy scalar was passed. What is checked: the types of this module,
bool, ``Literal``, the package's own classes, and any of these with ``| None``. Other annotations are not.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import numpy as np

from tinygrad_attn.dtypes import default_dtype

__all__ = [
    "Betas", "Count", "Decay", "FloatDtype", "Index", "Layers", "NonNegative", "Number", "Positive", "Probability",
    "Real", "Refused", "Size", "Sizes", "Whole", "check_argument", "check_call", "checked", "shown",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])


class Refused(Exception):
    """Why a value cannot be an argument, as in "must be at least 1"; and the class of the error."""

    def __init__(self, kind: type[Exception], text: str) -> None:
        super().__init__(text)
        self.kind = kind


# -- what may be given -------------------------------------------------------------------------------------------------


_LARGEST = int(np.finfo(np.float64).max)


class Whole(NamedTuple):
    """An integer, at least ``least`` and at most ``most`` if these are given."""

    least: int | None = None
    most: int | None = None

    def __call__(self, value: Any) -> int:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise Refused(TypeError, "must be an integer")
        if self.least is not None and value < self.least:
            raise Refused(ValueError, f"must be at least {self.least}")
        if self.most is not None and value > self.most:
            raise Refused(ValueError, f"must be at most {self.most}")
        return int(value)


class Number(NamedTuple):
    """A finite number, or any but nan if ``finite`` is False, that ``within`` holds for; if not, it "must" ``text``."""

    within: Callable[[float], bool] = math.isfinite
    text: str = "be a finite number"
    finite: bool = True

    def __call__(self, value: Any) -> float:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise Refused(TypeError, "must be a number")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise Refused(ValueError, "must be a finite number")
        if math.isnan(value) or (self.finite and math.isinf(value)):
            raise Refused(ValueError, "must be a finite number" if self.finite else f"must {self.text}")
        if not self.within(float(value)):
            raise Refused(ValueError, f"must {self.text}")
        return int(value) if isinstance(value, (int, np.integer)) else float(value)


class Several(NamedTuple):
    """A sequence of ``length`` values (None: of any number), or one alone if ``alone``, of one kind."""

    each: Callable[[Any], Any]
    text: str
    length: int | None = None
    alone: bool = False

    def __call__(self, value: Any) -> tuple[Any, ...]:
        if self.alone and not isinstance(value, Sequence):
            return (self.each(value),)
        if not isinstance(value, Sequence) or isinstance(value, str) or self.length not in (None, len(value)):
            raise Refused(TypeError, f"must be {self.text}")
        try:
            return tuple(self.each(item) for item in value)
        except Refused as refused:
            raise Refused(refused.kind, f"must be {self.text}") from None


def _float_dtype(value: Any) -> np.dtype[Any]:
    try:
        # NumPy's own object, in the machine's byte order: the ops recognise it.
        dtype = default_dtype if value is None else np.dtype(np.dtype(value).type)
    except (TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype not in (np.float32, np.float64):
        raise Refused(TypeError, "must be float32 or float64")
    return dtype


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise Refused(TypeError, "must be True or False")
    return bool(value)


_share = Number(lambda x: 0.0 <= x < 1.0, "be in [0, 1)")

Index = Annotated[int, Whole()]
"""Any integer."""
Size = Annotated[int, Whole(0)]
"""An integer of at least 0."""
Count = Annotated[int, Whole(1)]
"""An integer of at least 1."""
Layers = Annotated[int, Whole(0, 10_000)]
"""How many layers: an integer from 0 to 10,000, since each is an object."""
Sizes = Annotated[int | Sequence[int], Several(Whole(0), "an integer of at least 0, or several", alone=True)]
"""One or several integers of at least 0; the body gets a tuple."""
Real = Annotated[float, Number()]
"""A finite number."""
NonNegative = Annotated[float, Number(lambda x: x >= 0.0, "not be negative")]
"""A finite number of at least 0."""
Positive = Annotated[float, Number(lambda x: x > 0.0, "be above 0")]
"""A finite number above 0."""
Probability = Annotated[float, Number(lambda x: 0.0 <= x <= 1.0, "be a probability")]
"""A number in [0, 1]."""
Decay = Annotated[float, _share]
"""A number in [0, 1), the share of a running mean that a step keeps."""
Betas = Annotated[tuple[float, float], Several(_share, "two numbers in [0, 1)", length=2)]
"""Adam's β₁ and β₂."""
FloatDtype = Annotated[Any, _float_dtype]
"""float32 or float64; None for float32."""


# -- the check ---------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value for a message: numbers, short texts and short tuples of them as they are, of others the type,
    and the dtype and shape of arrays and tensors."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str, tuple)):
        text = repr(value)
        return text if len(text) <= 60 and "\n" not in text else f"{text[:57].splitlines()[0]}…"
    if isinstance(value, (type, np.dtype)):
        return getattr(value, "__name__", str(value))
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of {value.dtype} and shape {shape}" if isinstance(shape, tuple) else "")


def _kind_of(annotation: Any) -> Callable[[Any], Any] | None:
    """The function that checks and converts a value of an annotation; None if there is nothing to check."""
    if annotation is bool:
        return _flag
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return next((extra for extra in annotation.__metadata__ if callable(extra)), None)
    if origin is Literal:
        return functools.partial(_chosen, typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        kind = _kind_of(rest[0]) if len(rest) == 1 else None
        if kind is None or len(rest) == len(typing.get_args(annotation)):
            return None
        return functools.partial(_optional, kind)
    if isinstance(annotation, type) and annotation.__module__.startswith("tinygrad_attn."):
        return functools.partial(_instance, annotation)
    return None


def _chosen(choices: tuple[str, ...], value: Any) -> Any:
    if not isinstance(value, str) or value not in choices:
        *most, last = (repr(choice) for choice in choices)
        raise Refused(
            ValueError if isinstance(value, str) else TypeError,
            f"must be {', '.join(most)} or {last}" if most else f"must be {last}",
        )
    return value


def _optional(kind: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else kind(value)


def _instance(wanted: type, value: Any) -> Any:
    if not isinstance(value, wanted):
        raise Refused(TypeError, f"must be a {wanted.__name__}")
    return value


@functools.cache
def _kinds(function: Callable[..., Any]) -> dict[str, Callable[[Any], Any]]:
    """The checks of a function's arguments, by name."""
    annotations = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    found = {name: _kind_of(annotation) for name, annotation in annotations.items() if name != "return"}
    return {name: kind for name, kind in found.items() if kind is not None}


def check_argument(owner: str, function: Callable[..., Any], name: str, value: Any) -> Any:
    """``value`` as the argument ``name`` of ``function``, checked and converted.

    Raises:
        TypeError, ValueError: it cannot be; the message begins with ``owner``.
    """
    kind = _kinds(function).get(name)
    if kind is None:
        return value
    try:
        return kind(value)
    except Refused as refused:
        raise refused.kind(f"{owner}: {name} {refused}, got {shown(value)}") from None


def signature_of(function: Callable[..., Any]) -> str:
    """The arguments that a function takes, for a message: names and defaults, without self."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))


def check_call(owner: str, function: Callable[..., Any], arguments: Any, options: Any) -> None:
    """Raise a TypeError that begins with ``owner`` if a function cannot be called so: arguments missing or unknown."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        raise TypeError(f"{owner}: {error}; it takes {signature_of(function)}") from None


def checked(function: F) -> F:
    """Check a function's or a constructor's arguments by their annotations; see the module's docstring.

    Raises:
        TypeError: arguments missing, unknown, or of another type.
        ValueError: a value that the argument cannot have.
        MemoryError: the parameters do not fit into memory.
    """

    @functools.cache
    def parameters() -> tuple[inspect.Signature, bool, frozenset[str]]:
        # Read when first called: reading them all takes longer than most files take to import.
        signature = inspect.signature(function)
        many = frozenset(p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL)
        return signature, next(iter(signature.parameters), None) == "self", many

    @functools.wraps(function)
    def check(*arguments: Any, **options: Any) -> Any:
        signature, method, many = parameters()
        owner = type(arguments[0]).__name__ if method and arguments else function.__name__
        try:
            bound = signature.bind(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"{owner}: {error}; it takes {signature_of(function)}") from None
        for name, value in bound.arguments.items():
            if name in many:
                bound.arguments[name] = tuple(check_argument(owner, function, name, item) for item in value)
            else:
                bound.arguments[name] = check_argument(owner, function, name, value)
        try:
            return function(*bound.args, **bound.kwargs)
        except MemoryError as error:
            if str(error).startswith(f"{owner}:"):
                raise
            sizes = ", ".join(f"{n}={shown(v)}" for n, v in list(bound.arguments.items())[int(method) :])
            raise MemoryError(f"{owner}: its parameters do not fit into memory ({sizes})") from None

    return check  # type: ignore[return-value]
