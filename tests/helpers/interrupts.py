"""A KeyboardInterrupt at every instruction of a function and of what it calls; and the contexts of a package."""

import functools
import importlib
import inspect
import itertools
import opcode
import pkgutil
import sys

# After these CPython looks for signals that have come.
_CHECKED = ("CALL", "RESUME", "JUMP_BACKWARD")


def interrupted_everywhere(function, delivered=False, within=""):
    """Call ``function`` again and again, interrupted at its first instruction, at its second, … until it ends.

    The beginning of each function counts, too.

    Args:
        function: what to call, without arguments.
        delivered: interrupt only where CPython delivers signals.
        within: only in code whose file's name begins with this, or with one of these.

    Yields:
        After each interrupted call its KeyboardInterrupt, which still holds every frame.
    """
    for point in itertools.count():
        before = sys.gettrace()
        sys.settrace(_Interrupt(point, delivered, within).begin)
        try:
            function()
        except KeyboardInterrupt as interrupt:
            yield interrupt
        else:
            return
        finally:
            sys.settrace(before)


class _Interrupt:
    """Comes after so many instructions that are traced. Its methods are called millions of times, and so do little.

    They are no closures: CPython 3.11 was seen to crash as it called one to trace.
    """

    __slots__ = ("delivered", "left", "within")

    def __init__(self, left, delivered, within):
        self.left, self.delivered, self.within = left, delivered, within

    def come(self):
        if self.left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        self.left -= 1

    def begin(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(self.within):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.come()
        return _Delivered(self, _checked_in(frame.f_code)).trace if self.delivered else self.trace

    def trace(self, frame, event, argument):
        if event == "opcode":
            if self.left == 0:
                self.come()
            self.left -= 1
        return self.trace


class _Delivered:
    """Traces one frame: an interrupt comes only after instructions after which CPython looks for signals."""

    __slots__ = ("before", "checked", "interrupt")

    def __init__(self, interrupt, checked):
        self.interrupt, self.checked, self.before = interrupt, checked, True

    def trace(self, frame, event, argument):
        if event == "opcode":
            if self.before:
                self.interrupt.come()
            self.before = self.checked[frame.f_lasti]
        return self.trace


@functools.cache
def _checked_in(code):
    """By the place of an instruction, whether CPython looks for signals after it."""
    return [opcode.opname[byte].startswith(_CHECKED) for byte in code.co_code]


def contexts_of(package):
    """The names of all functions and classes of a package that make contexts for ``with``: base classes are left out.

    A function makes one if ``context`` or contextlib's ``contextmanager`` decorates it.
    """
    found = set()
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            for thing in vars(importlib.import_module(module.name)).values():
                if getattr(thing, "__module__", None) == module.name:
                    found |= set(_contexts_in(thing))
    return found


def _contexts_in(thing):
    code = getattr(thing, "__code__", None)
    if code is not None and code.co_qualname in ("context.<locals>.make", "contextmanager.<locals>.helper"):
        yield thing.__qualname__
    elif inspect.isclass(thing):
        enters = [base for base in thing.__mro__ if "__enter__" in vars(base)]
        if enters and enters[0].__module__.startswith("tinygrad_attn") and not thing.__subclasses__():
            yield thing.__qualname__
        for part in vars(thing).values():
            if getattr(part, "__qualname__", "").startswith(f"{thing.__qualname__}."):  # defined in the class
                yield from _contexts_in(part)
