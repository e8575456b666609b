"""How long tests may take: hypothesis profiles, and the marks of rooms that need more than the default command has.

``--hypothesis-profile=thorough`` (or ci, or quick, the default) decides how many examples of a property are tried.
"""

import gc
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from optional import needs_more

import models  # noqa: F401  so that this checkout's models are those tested

_common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
}
for _name, _examples in {"coverage": 5, "quick": 10, "ci": 25, "thorough": 300}.items():
    settings.register_profile(_name, max_examples=_examples, **_common)
settings.load_profile("quick")


def pytest_configure() -> None:
    """What shells start in the background ignores Ctrl-C, and so would the processes that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of a room that has a mark of its name, and those that need more packages."""
    for item in items:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        if room in ("parity", "browser"):
            item.add_marker(room)
        elif needs_more(item.path, getattr(item, "originalname", item.name)):
            item.add_marker("optional")


def pytest_collection_finish() -> None:
    """What is loaded by now stays; the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
