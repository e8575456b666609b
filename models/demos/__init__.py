"""Trained runs that ship with the package, for a look without training: ``load("demo:dates-bahdanau")``.

A folder of this one is a run; `catalog` says what each is and which sentence it opens with, and `make` has trained
them.
"""

from .catalog import DEMOS, Demo, find_demo, folder_of, is_demo

__all__ = ["DEMOS", "Demo", "find_demo", "folder_of", "is_demo"]
