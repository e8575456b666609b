"""The tape's source lines: the same in a checkout and where the package is installed, and nobody's folders."""

import os

import pytest
from tinygrad_attn_models.microscope.record.tape import _short


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (os.path.join("models", "luong.py:7"), os.path.join("models", "luong.py:7")),
        (os.path.join("tinygrad_attn_models", "luong.py:7"), os.path.join("models", "luong.py:7")),
        (os.path.join("tinygrad_attn", "nn", "linear.py:7"), os.path.join("tinygrad_attn", "nn", "linear.py:7")),
        (os.path.abspath(os.path.join("somewhere", "own.py:7")), "own.py:7"),
    ],
)
def test_a_line_is_short_and_the_same_wherever_the_package_is(line, shown):
    assert _short(line) == shown
