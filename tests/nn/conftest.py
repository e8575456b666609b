"""Finite differences through a module: with respect to its inputs and to its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tinygrad_attn.nn import Module
from tinygrad_attn.tensor import Tensor


@pytest.fixture
def of_parameters_too() -> Callable[..., Any]:
    """A function that makes, of a module and a function that calls it, one that takes the module's parameters as its
    last arguments, and the list of these."""

    def make(module: Module, run: Callable[..., Any]) -> tuple[Callable[..., Any], list[Tensor]]:
        places = []
        for path, _ in module.named_parameters():
            owner, _, name = path.rpartition(".")
            places.append((dict(module.named_modules())[owner], name))

        def with_parameters(*arguments: Tensor) -> Any:
            split = len(arguments) - len(places)
            for (owner, name), value in zip(places, arguments[split:], strict=True):
                vars(owner)[name] = value  # not a Parameter, which Module would refuse
            return run(*arguments[:split])

        return with_parameters, list(module.parameters())

    return make
