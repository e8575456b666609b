"""``python -m models`` in a checkout, ``tinygrad-attn`` once installed."""

import contextlib
import os
import sys

__all__ = ["main"]


def main() -> int:
    """The command line, from its first import on; Ctrl-C ends it with the exit code 130 and without a traceback."""
    code = 130
    with contextlib.suppress(KeyboardInterrupt):
        from tinygrad_attn_models.cli.main import main as run_command

        code = run_command()
    if code == 130:
        # Python ends itself by the signal, whatever the exit code, if the interrupt passed through exec() on its way.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
