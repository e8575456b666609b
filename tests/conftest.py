"""Hypothesis profiles: ``--hypothesis-profile=thorough`` (or ci, the default) decides how long properties are tried."""

from hypothesis import HealthCheck, settings

import models  # noqa: F401  so that this checkout's models are those tested

_common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
}
settings.register_profile("ci", max_examples=25, **_common)
settings.register_profile("coverage", max_examples=5, **_common)
settings.register_profile("thorough", max_examples=300, **_common)
settings.load_profile("ci")
