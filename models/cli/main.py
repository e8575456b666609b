"""The command line: ``python -m models``, or ``tinygrad-attn`` once installed."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TextIO

from ..console.errors import INTERRUPTED, PIPE_CLOSED, USER_ERROR, CommandError, UserError
from ..parallel.launcher import launched_rank, launched_size, silence_others
from ..setting import short
from .parser import INSTALL, make_parser

__all__ = ["main"]

_LONGEST_MESSAGE = 2_000
# Of numba, with the least number that each can have.
_VARIABLES = {"NUMBA_NUM_THREADS": 1, "NUMBA_DISABLE_JIT": 0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those of the process if None.

    Returns:
        The exit code: 0 for success, 1 for a failed check, 2 for a user's error (one line on stderr), 130 for Ctrl-C,
        141 if the reader of the output has closed the pipe.
    """
    _prepare_streams()
    errors = silence_others()
    try:
        return _run(arguments, errors)
    except KeyboardInterrupt:
        if launched_size() > 1:
            return _fail("interrupted", errors, INTERRUPTED)
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if launched_size() > 1:  # the other processes must not wait for this one
            return _fail("".join(traceback.format_exception(error)), errors)
        raise


def _run(arguments: Sequence[str] | None, errors: TextIO) -> int:
    """See `main`; Ctrl-C is a KeyboardInterrupt."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for word in words:
        if word != word.encode("utf-8", "replace").decode("utf-8"):
            reason = f"the argument {short(word)} is not UTF-8; rename the file, or set the terminal to UTF-8"
            return _fail_in_a_line(reason, errors)
    try:
        _refuse_variables()
        if launched_size() > 1:
            from ..parallel.ranks import join, note_of_threads

            join()
        parsed = make_parser().parse_args(words)
        if launched_size() > 1 and not parsed.on_ranks:
            raise CommandError(f"{parsed.parser.prog} runs in one process; leave out mpirun")
        parsed.quiet |= launched_rank() > 0
        from ..console.compilation import compilation_on_stderr
        from ..console.working import quietly

        if parsed.imports:
            from ..registry import import_file

            for path in parsed.imports:
                import_file(path)
        with warnings.catch_warnings(), quietly() if parsed.quiet else compilation_on_stderr():
            warnings.showwarning = _leave_out if parsed.quiet else _print_note
            if launched_size() > 1 and not parsed.quiet and (note := note_of_threads()):
                _print_note(note)
            return parsed.command(parsed)
    except UserError as error:
        return _fail_in_a_line(str(error), errors)
    except ModuleNotFoundError as error:
        return _fail_in_a_line(f"{error}; the commands need: {INSTALL}", errors)
    except BrokenPipeError:
        return _pipe_closed()
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        advice = "use a smaller model, smaller batches or shorter sentences"
        return _fail_in_a_line(f"there is not enough memory{reason}; {advice}", errors)
    except OSError as error:
        if sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None:  # a closed pipe, there
            return _pipe_closed()
        return _fail_in_a_line(f"{error.filename or 'input or output'}: {error.strerror or error}", errors)


def _refuse_variables() -> None:
    """Raise if numba, once imported, could not read a variable of the environment."""
    for name, least in _VARIABLES.items():
        given = os.environ.get(name, str(least))
        if not (given.strip().isdecimal() and int(given) >= least):
            raise CommandError(f"{name} is {short(given)}; set it to a whole number of at least {least}, or unset it")


def _pipe_closed() -> int:
    """The reader of the output has closed the pipe; Python must not report it again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _fail("the output was closed", sys.stderr, PIPE_CLOSED) if launched_size() > 1 else PIPE_CLOSED


def _fail_in_a_line(message: str, errors: TextIO) -> int:
    # Some messages of the engine are lists.
    line = " ".join(message.split())
    return _fail(line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…", errors)


def _fail(message: str, errors: TextIO, code: int = USER_ERROR) -> int:
    if launched_size() > 1:
        from ..parallel.failure import fail

        return fail(message, code, errors)
    print("error:", message, file=errors)
    return code


def _print_note(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line, without the line of code that it comes from."""
    print(f"note: {message}", file=sys.stderr)


def _leave_out(message: Warning | str, *_: object, **__: object) -> None:
    """Print no warning."""


def _prepare_streams() -> None:
    """Write UTF-8 into files and pipes; prevent errors from closed streams, and from Korean text on a terminal that
    cannot encode it.

    Names of files that are not UTF-8 are written as they are where the stream is UTF-8 and the locale is C.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, open to the end
        elif mode == "w" and hasattr(stream, "reconfigure"):
            if not (stream.isatty() or _encoding_is_chosen()):  # on Windows a code page would be taken
                stream.reconfigure(encoding="utf-8", errors=stream.errors)
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            if stream.errors == "strict" or (stream.errors == "surrogateescape" and not utf8):
                stream.reconfigure(errors="backslashreplace")


def _encoding_is_chosen() -> bool:
    """Whether the user says which encoding output has: by Python's own variables, or by the name of the locale."""
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8") == "0":
        return True
    named = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "").partition(".")[2]
    return bool(named) and named.partition("@")[0].lower().replace("-", "") != "utf8"
