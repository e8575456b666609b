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
        within: only in code whose file's name begins with this.

    Yields:
        After each interrupted call its KeyboardInterrupt, which still holds every frame.
    """
    for point in itertools.count():
        before = sys.gettrace()
        sys.settrace(_interrupt(point, delivered, within))
        try:
            function()
        except KeyboardInterrupt as interrupt:
            yield interrupt
        else:
            return
        finally:
            sys.settrace(before)


def _interrupt(left, delivered, within):
    """A function for `sys.settrace` that interrupts after so many instructions that are traced.

    It is called for every instruction before, millions of times, and so does little.
    """

    def come():
        nonlocal left
        if left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        left -= 1

    def begin(frame, event, argument):
        if not frame.f_code.co_filename.startswith(within):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        come()
        return after_checks(_checked_in(frame.f_code)) if delivered else everywhere

    def everywhere(frame, event, argument):
        nonlocal left
        if event == "opcode":
            if left == 0:
                come()
            left -= 1
        return everywhere

    def after_checks(checked):
        before = True

        def trace(frame, event, argument):
            nonlocal before
            if event == "opcode":
                if before:
                    come()
                before = checked[frame.f_lasti]
            return trace

        return trace

    return begin


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
