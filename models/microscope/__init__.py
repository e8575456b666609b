"""The backprop microscope: every number of a model's forward and backward pass.

::

    run, model = Run.load("runs/dates")
    microscope(model, "Friday, 23 January 1981", run=run).save("page.html")

`models.microscope.record.schema` documents the data; `models.microscope.checks.badge` says how it is verified.
"""

from .from_torch import from_torch
from .view import Microscope, microscope

__all__ = ["Microscope", "from_torch", "microscope"]
