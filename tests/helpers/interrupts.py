"""A KeyboardInterrupt at every instruction of a function and of what it calls."""

import itertools
import opcode
import sys

# After these CPython looks for signals that have come.
_CHECKED = ("CALL", "RESUME", "JUMP_BACKWARD")


def interrupted_everywhere(function, delivered=False):
    """Call ``function`` again and again, interrupted at its first instruction, at its second, … until it ends.

    The beginning of each function counts, too.

    Args:
        function: what to call, without arguments.
        delivered: interrupt only where CPython delivers signals.

    Yields:
        After each interrupted call its KeyboardInterrupt, which still holds every frame.
    """
    for point in itertools.count():
        before = sys.gettrace()
        sys.settrace(_Interrupt(point, delivered).trace)
        try:
            function()
        except KeyboardInterrupt as interrupt:
            yield interrupt
        else:
            return
        finally:
            sys.settrace(before)


class _Interrupt:
    """Comes at one of the instructions that are traced."""

    def __init__(self, point, delivered):
        self.left, self.delivered = point, delivered
        self.last = {}  # the last instruction of each frame; a reference to a frame would keep alive what it holds

    def trace(self, frame, event, argument):
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        before = "RESUME"
        if event == "opcode":
            before = self.last.get(id(frame), "RESUME")
            self.last[id(frame)] = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
        elif event == "call":
            self.last.pop(id(frame), None)
        if event in ("call", "opcode") and (not self.delivered or before.startswith(_CHECKED)):
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            self.left -= 1
        return self.trace
