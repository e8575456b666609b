"""Child: a process that does not outlive a failed test."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any


class Child(subprocess.Popen):
    """A process that is killed where its block ends with an error, such as a failed assertion, with its whole session
    if it began one. `subprocess.Popen` would wait for it, and what nobody stops would be waited for for ever."""

    def __init__(self, *arguments: Any, start_new_session: bool = False, **options: Any) -> None:
        super().__init__(*arguments, start_new_session=start_new_session, **options)
        self._leads = start_new_session

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None:
            os.killpg(self.pid, signal.SIGKILL) if self._leads else self.kill()
        super().__exit__(kind, value, traceback)
