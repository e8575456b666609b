r"""Computes the LaTeX of an elementwise rule with NumPy, to check the rule's expression.

`tinygrad_attn.formula` checks that a formula and its code have the same variables. This module checks that they have
the same value, where the formula has only sums, products, quotients, powers, roots, known functions and Iverson
brackets ``[x > y]``. Two factors beside each other are multiplied element by element, as with ``\odot``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinygrad_attn.formula import EQUALS, SEPARATOR, SYMBOL, bindings, parse_symbol, split
from tinygrad_attn.op import Op

__all__ = ["Unsupported", "evaluate", "evaluate_rule"]

Value = Any
_FUNCTIONS: dict[str, Callable[[Value], Value]] = {
    r"\ln": np.log,
    r"\exp": np.exp,
    r"\sin": np.sin,
    r"\cos": np.cos,
    r"\tanh": np.tanh,
    r"\sigma": lambda x: 1.0 / (1.0 + np.exp(-x)),
    r"\operatorname{sign}": np.sign,
}
_RELATIONS = {">": np.greater, "<": np.less, "=": np.equal, r"\ge": np.greater_equal, r"\le": np.less_equal}
_SPACE = re.compile(r"(?:\s|\\[,;!]|\\textstyle|\\left|\\right)*")
_NUMBER = re.compile(r"\d+")
_END = re.compile(r"[+\-)}\]|,=<>]|\\[lg]e\b|$")


class Unsupported(ValueError):
    """A formula has notation that this module cannot compute."""


def evaluate_rule(op: Op, operand: str, values: Mapping[str, Value]) -> Value:
    """The value of the formula of an operand's rule.

    Args:
        op: the op.
        operand: the operand's name.
        values: operands and options by name, ``z`` and ``g``, or ``z[0]``, ``g[0]``, … of several outputs.

    Raises:
        Unsupported: the formula has notation that this module cannot compute.
    """
    bound, formula = bindings(op), op.rules[operand].formula
    if r"\text{" in formula:
        raise Unsupported(f"words in {formula!r}")
    defined: dict[str, str] = {}
    known: dict[str, Value] = {}
    for text in (op.formula, *(rule.formula for rule in op.rules.values()), formula):
        for clause in split(text, SEPARATOR):
            left, *right = split(clause, EQUALS)
            if right:
                defined[left.strip()] = right[0]

    def value_of(key: str) -> Value:
        names = bound.get(key, ())
        if len(names) == 1 and isinstance(values.get(names[0]), (np.ndarray, float, int)):
            return values[names[0]]
        if key not in known:
            if names or key not in defined:
                raise Unsupported(f"no value for {key}")
            known[key] = evaluate(defined.pop(key), value_of)  # popped: a definition in terms of itself has no value
        return known[key]

    *_, first = split(split(formula, SEPARATOR)[0], EQUALS)[:2]
    return evaluate(first, value_of)


def evaluate(latex: str, value_of: Callable[[str], Value]) -> Value:
    """The value of a LaTeX expression, given the value of each symbol.

    Raises:
        Unsupported: it has notation that this module cannot compute.
    """
    reader = _Reader(latex, value_of)
    with np.errstate(all="ignore"):
        value = reader.sum()
    if reader.rest():
        raise Unsupported(f"cannot compute {reader.rest()!r} of {latex!r}")
    return value


class _Reader:
    """A parser that reads an expression from left to right and computes its value."""

    def __init__(self, text: str, value_of: Callable[[str], Value]) -> None:
        self.text, self.value_of, self.at = text, value_of, 0

    def rest(self) -> str:
        """The text not read yet, without leading space."""
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return self.text[self.at :]

    def take(self, *beginnings: str) -> str:
        """Read the first of ``beginnings`` that the rest starts with, and return it; empty if none does."""
        rest = self.rest()
        for each in beginnings:
            if rest.startswith(each) and not (each[-1].isalpha() and rest[len(each) : len(each) + 1].isalpha()):
                self.at += len(each)
                return each
        return ""

    def expect(self, closing: str) -> None:
        if not self.take(closing):
            raise Unsupported(f"no {closing} before {self.rest()!r}")

    def sum(self) -> Value:
        value = -self.product() if self.take("-") else self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = value + term if sign == "+" else value - term
        return value

    def product(self) -> Value:
        value = self.power()
        while not _END.match(self.rest()):
            if self.take("/"):
                value = value / self.power()
            else:
                self.take(r"\odot", r"\cdot")
                value = value * self.power()
        return value

    def power(self) -> Value:
        function = self.take(*_FUNCTIONS)
        if function:
            exponent = self.group() if self.take("^") else 1
            return _FUNCTIONS[function](self.power()) ** exponent
        if re.match(r"e\^", self.rest()):
            self.at += 2
            return np.exp(self.group())
        value = self.atom()
        return value ** self.group() if self.take("^") else value

    def atom(self) -> Value:
        if number := _NUMBER.match(self.rest()):
            self.at += number.end()
            return float(number[0])
        if opening := self.take("(", "[", "|"):
            value = self.comparison() if opening == "[" else self.sum()
            self.expect({"(": ")", "[": "]", "|": "|"}[opening])
            return np.abs(value) if opening == "|" else value
        if self.take(r"\tfrac", r"\frac"):
            above = self.group()
            return above / self.group()
        if self.take(r"\sqrt"):
            return np.sqrt(self.group())
        if self.take(r"\pi"):
            return np.pi
        return self.symbol()

    def comparison(self) -> Value:
        left, holds = self.sum(), True
        while relation := self.take(*_RELATIONS):
            right = self.sum()
            holds, left = holds & _RELATIONS[relation](left, right), right
        return np.asarray(holds, np.float64)

    def group(self) -> Value:
        """An argument in braces, or one digit or symbol."""
        if self.take("{"):
            value = self.sum()
            self.expect("}")
            return value
        if self.rest()[:1].isdigit():
            self.at += 1
            return float(self.text[self.at - 1])
        return self.atom()

    def symbol(self) -> Value:
        found = SYMBOL.match(self.rest())
        if found is None:
            raise Unsupported(f"cannot compute {self.rest()!r}")
        self.at += found.end()
        return self.value_of(str(parse_symbol(found)))
