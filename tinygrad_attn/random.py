"""The package's random number generator: manual_seed, get_state, set_state.

All random numbers here come from `generator()`, so that a seed determines a run, and a state stored in a checkpoint
continues it with the same bits. Initial weights are drawn from it. Dropout draws a key, from which
`tinygrad_attn.kernels.philox` makes the bits of a whole call.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tinygrad_attn.public import public

__all__ = ["generator", "get_state", "manual_seed", "new_key", "set_state"]

# Seeded by the operating system, so that runs without manual_seed() differ.
_generator = np.random.Generator(np.random.PCG64())


def generator() -> np.random.Generator:
    """The generator. `manual_seed` and `set_state` change this object in place, so a reference to it stays valid."""
    return _generator


def new_key() -> int:
    """A key for `tinygrad_attn.kernels.philox`, drawn from the generator: 63 bits, to be given to one call of an op."""
    return int(_generator.bit_generator.random_raw()) >> 1


@public("ta")
def manual_seed(seed: int) -> np.random.Generator:
    """Restart the generator from ``seed``.

    Returns:
        The generator.

    Raises:
        TypeError: the seed is not an integer.
        ValueError: the seed is negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"manual_seed: seed must be an integer, got {seed!r}")
    if seed < 0:
        raise ValueError(f"manual_seed: seed must not be negative, got {seed}")
    _generator.bit_generator.state = np.random.PCG64(int(seed)).state
    return _generator


def get_state() -> dict[str, Any]:
    """The generator's state: a dictionary of strings and Python integers (of 128 bits), ready for ``json.dumps``."""
    return copy.deepcopy(dict(_generator.bit_generator.state))


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned.

    Raises:
        ValueError: the state is not one of this generator.
    """
    try:
        _generator.bit_generator.state = state
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"set_state: not a state of {type(_generator.bit_generator).__name__}: {error}") from None
