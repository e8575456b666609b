"""Contexts: what a ``with`` statement enters and leaves, and what decorates functions, safe from Ctrl-C at any point.

A KeyboardInterrupt may come before the first line of ``__exit__``, or when ``__enter__`` has done its work and the
block has not begun; no ``try`` can be there in time. But whatever happens, Python drops the ``__exit__`` that it looked
up for the block. So here that one holds the *entry* of the block, and nothing else does: what a context changes holds
for as long as the entry lives, and leaving in the usual way only does the same a moment sooner.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, ParamSpec, TypeVar

__all__ = ["Context", "Entry", "EntryRef", "context", "undone_by"]

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


class Entry:
    """One block that is being entered, or runs. ``held`` is what its context keeps alive with it."""

    __slots__ = ("__weakref__", "entered", "held")

    def __init__(self, held: Any = None) -> None:
        self.entered = False
        self.held = held


EntryRef = weakref.ref[Entry]  # functions here take no entry: a traceback would keep it alive


class _Thread(threading.local):
    """Of the calling thread."""

    # The context whose __exit__ was looked up last, and the entry for its block.
    prepared: tuple[Any, EntryRef] | None = None

    def __init__(self) -> None:
        # Entries of contexts entered by a call of __enter__, as contextlib.ExitStack does.
        self.by_hand: list[tuple[Any, Entry]] = []


_thread = _Thread()
atexit.register(_thread.by_hand.clear)  # while what undoes the changes is whole; Python takes modules apart next


class _Exit:
    """Looks up ``__exit__``: a function that holds the block's entry."""

    def __get__(self, context: Any, owner: Any = None) -> Callable[..., Any]:
        if context is None:
            return _leave_by_hand
        entry = context.prepare()
        leave = functools.partial(_leave_block, context, weakref.ref(entry))
        leave.entry = entry  # type: ignore[attr-defined]
        _thread.prepared = context, weakref.ref(entry)
        return leave


class Context:
    """Base of contexts; one object may be entered again while it is, and by several threads at once.

    As a decorator it is entered whenever code of the function runs, and left while a generator or an async function
    waits. Of a class it decorates ``__init__``.
    """

    def prepare(self) -> Entry:
        """An entry; nothing else changes yet."""
        return Entry()

    def enter(self, entry: EntryRef) -> Any:
        """Begin a block; returns what ``with`` gives to ``as``. What it changes must end when the entry dies."""
        raise NotImplementedError

    def leave(self, entry: EntryRef, error: BaseException | None) -> None:
        """End the block."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End a block whose entry has died. Only what does not end with the entry is left to do."""

    def __enter__(self) -> Any:
        prepared, _thread.prepared = _thread.prepared, None
        if prepared is None or prepared[0] is not self or prepared[1]() is None:
            by_hand = self.prepare()
            _thread.by_hand.append((self, by_hand))
            return self.enter(weakref.ref(by_hand))
        prepared[1]().entered = True  # type: ignore[union-attr]
        return self.enter(prepared[1])

    __exit__ = _Exit()

    def __call__(self, function: F) -> F:
        return decorated(self, function)  # type: ignore[no-any-return]


def _leave_block(context: Context, entry: EntryRef, *exception: Any) -> None:
    if entry() is None:  # taken apart by the collector, with a generator that was left suspended in the block
        context.abandon()
    elif entry().entered:  # type: ignore[union-attr]
        context.leave(entry, exception[1] if len(exception) > 1 else None)
    else:
        _leave_by_hand(context, *exception)


def _leave_by_hand(context: Context, *exception: Any) -> None:
    for position in reversed(range(len(_thread.by_hand))):
        if _thread.by_hand[position][0] is context:
            context.leave(weakref.ref(_thread.by_hand[position][1]), exception[1] if len(exception) > 1 else None)
            del _thread.by_hand[position]
            return
    raise RuntimeError(f"{context}: left without having been entered in this thread")


def _held(entry: EntryRef) -> Any:
    return entry().held  # type: ignore[union-attr]


class _OfGenerator(Context):
    """The context of a generator function: its code before ``yield`` enters, that after it leaves. The generator is
    closed with the entry."""

    def __init__(self, function: Callable[..., Iterator[Any]], arguments: Any, options: Any) -> None:
        self._function, self._arguments, self._options = function, arguments, options
        self.__name__ = function.__name__

    def prepare(self) -> Entry:
        return Entry(self._function(*self._arguments, **self._options))

    def enter(self, entry: EntryRef) -> Any:
        return next(_held(entry))

    def leave(self, entry: EntryRef, error: BaseException | None) -> None:
        if error is None:
            next(_held(entry), None)
            return
        try:
            _held(entry).throw(error)
        except BaseException as raised:
            # A generator may not raise StopIteration; Python makes a RuntimeError of it.
            stopped = isinstance(error, StopIteration) and isinstance(raised, RuntimeError)
            if raised is not error and not (stopped and raised.__cause__ is error):
                raise


def context(function: Callable[P, Iterator[Any]]) -> Callable[P, Any]:
    """A decorator that makes a `Context` of a generator function, as ``contextlib.contextmanager`` does.

    A change that must not outlive the block stands inside ``with undone_by(...)``: a Ctrl-C may keep the generator
    from reaching what follows ``yield``, also in a ``finally``.
    """
    bare = not inspect.signature(function).parameters

    @functools.wraps(function)
    def make(*arguments: P.args, **options: P.kwargs) -> Any:
        if bare and len(arguments) == 1 and not options:
            return decorated(_OfGenerator(function, (), {}), arguments[0])  # @name, without parentheses
        return _OfGenerator(function, arguments, options)

    return make


class undone_by(Context):
    """A context for changes that ``undo`` takes back at the end of the block, also if a Ctrl-C comes amid ``undo``::

        with undone_by(restore):
            change()
            yield

    An interrupted ``undo`` is called again, when the entry dies, so calling it twice must do the same as once. It may
    be called before the change, too.
    """

    def __init__(self, undo: Callable[[], Any]) -> None:
        self._undo = undo

    def abandon(self) -> None:
        self._undo()  # whoever waits for an entry's death is not told if the collector takes both

    def enter(self, entry: EntryRef) -> Any:
        undo = self._undo
        entry().held = weakref.ref(entry(), lambda _: undo())  # type: ignore[union-attr, arg-type]

    def leave(self, entry: EntryRef, error: BaseException | None) -> None:
        try:
            self._undo()
        except Exception:
            entry().held = None  # type: ignore[union-attr]
            raise
        entry().held = None  # type: ignore[union-attr]


# --- Decorators -------------------------------------------------------------------------------------------------------


def decorated(context: Context, function: Any) -> Any:
    """``function`` so that its code runs inside the context.

    Raises:
        TypeError: neither a function nor a class.
    """
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(decorated(context, function.__func__))
    if inspect.isclass(function):
        function.__init__ = decorated(context, function.__init__)  # type: ignore[misc, method-assign]
        return function
    if not callable(function):
        name = getattr(context, "__name__", type(context).__name__)
        raise TypeError(f"{name}: decorates functions and classes, got {type(function).__name__}")
    if inspect.isasyncgenfunction(function):
        wrapper: Any = _around_async_generator(context, function)
    elif inspect.iscoroutinefunction(function):

        async def wrapper(*arguments: Any, **options: Any) -> Any:
            return await _awaited(context, function(*arguments, **options))

    elif inspect.isgeneratorfunction(function):

        def wrapper(*arguments: Any, **options: Any) -> Any:
            return (yield from _resumed(context, function(*arguments, **options)))

    else:

        def wrapper(*arguments: Any, **options: Any) -> Any:
            with context:
                return function(*arguments, **options)

    return functools.wraps(function)(wrapper)


def _resumed(context: Context, generator: Any) -> Generator[Any, Any, Any]:
    """What the generator yields and returns; it runs inside the context, which is left whenever it yields."""
    resume, value = generator.send, None
    try:
        while True:
            with context:
                item = resume(value)
            try:
                value, resume = (yield item), generator.send
            except GeneratorExit:
                with context:
                    generator.close()
                raise
            except BaseException as error:
                value, resume = error, generator.throw
    except StopIteration as end:
        return end.value


@types.coroutine
def _awaited(context: Context, awaitable: Any) -> Generator[Any, Any, Any]:
    """The result of ``await awaitable``, which runs inside the context and waits outside."""
    return (yield from _resumed(context, awaitable.__await__()))


def _around_async_generator(context: Context, function: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
    async def wrapper(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        generator = function(*arguments, **options)
        step = generator.asend(None)
        try:
            while True:
                try:
                    item = await _awaited(context, step)
                except StopAsyncIteration:
                    return
                try:
                    value = yield item
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = generator.athrow(error)
                else:
                    step = generator.asend(value)
        finally:
            await _awaited(context, generator.aclose())

    return wrapper
