r"""Binds the symbols of a rule's LaTeX to the arguments of its code, and checks that they agree.

A *symbol* is a letter with its accent, primes and subscript: ``x``, ``\bar z``, ``\hat x``, ``h'``, ``\delta_n``.
`check_formulas` follows each symbol of a rule's formula to names that the rule's expression takes as arguments:

- An operand or option of one letter, or named like a Greek one (``alpha``), has that letter. The first operand is ``x``
  if none is called so.
- The symbol on the left of the op's formula, ``z = …``, is the output, named ``z``; with a bar it is the output's
  gradient, ``g``. An op with several outputs has a formula for each: their left sides are ``z[0]``, ``z[1]``, …, with
  a bar ``g[0]``, ….
- ``@op(symbols={"W": "weight", "M": ("mask", "is_causal"), "c": "z[1]"})`` binds other symbols; a text in a formula,
  ``\text{padding}``, may be bound too.
- A symbol that a formula of the op defines, ``\quad \bar a = \bar z \odot \phi'(a)``, stands for the symbols of its
  definition.
- A subscript belongs to the symbol if that is defined or bound with it. Otherwise its letters are indices, which need
  no name, here and in the rest of the formula.

Numbers, :math:`\pi`, the e of :math:`e^x`, text, named functions, and Greek letters before a bracket, as in
:math:`\sigma(x)`, are no symbols. The arguments in `UNWRITTEN`, such as shapes and axes, need no symbol: formulas write
positions as indices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tinygrad_attn.op import Op, Rule

__all__ = [
    "EQUALS",
    "SEPARATOR",
    "SYMBOL",
    "UNWRITTEN",
    "FormulaError",
    "Symbol",
    "bindings",
    "check_formulas",
    "parse_symbol",
    "split",
    "stands_for_gradient",
]

UNWRITTEN = frozenset(
    {
        "shapes",
        "dtypes",
        "position",
        "needs",
        "dim",
        "dims",
        "dim0",
        "dim1",
        "dim2",
        "normalized_shape",
        "batch_first",
        "sizes",
    }
)

_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi varphi chi "
    "psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
).split()
_LETTER = rf"(?:\\(?:{'|'.join(_GREEK)})(?![A-Za-z])|[A-Za-z])"
SYMBOL = re.compile(
    rf"(?P<base>\\(?:bar|hat|tilde)\s*(?:\{{\s*{_LETTER}\s*\}}|{_LETTER})|{_LETTER})(?P<primes>'*)"
    r"(?:_(?P<subscript>\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|.))?"
)
_TEXT = re.compile(r"\\text\{[^{}]*\}")
_NAMES = re.compile(r"\\(?:operatorname|mathrel|mathrm)\{[^{}]*\}")
EQUALS = re.compile("=")
SEPARATOR = re.compile(r"[,;]?\s*\\quad|[,;]\s*\\;")


class FormulaError(ValueError):
    """A formula and its code do not agree."""


class Symbol(NamedTuple):
    """A letter with its accent and primes, its subscript, and whether a bracket follows it."""

    base: str
    subscript: str
    applied: bool = False

    def __str__(self) -> str:
        return self.base + (f"_{{{self.subscript}}}" if self.subscript else "")


def parse_symbol(found: re.Match[str]) -> Symbol:
    """The symbol of a match of `SYMBOL`."""
    base, subscript = re.sub(r"[{}\s]", "", found["base"]), (found["subscript"] or "").strip("{}").strip()
    return Symbol(re.sub(r"^(\\(?:bar|hat|tilde))", r"\1 ", base) + found["primes"], subscript)


def _symbols(latex: str) -> Iterator[Symbol]:
    """The symbols of a formula, and its texts, in order."""
    latex = _NAMES.sub(" ", latex)
    position = 0
    while position < len(latex):
        text = _TEXT.match(latex, position)
        if text is not None:
            yield Symbol(text[0], "")
            position = text.end()
            continue
        found = SYMBOL.match(latex, position)
        if found is None:
            command = re.match(r"\\[A-Za-z]+", latex[position:])
            position += len(command[0]) if command else 1
            continue
        symbol = parse_symbol(found)
        after = latex[found.end() : found.end() + 1]
        if not (symbol.base == "e" and after == "^"):
            applied = after == "(" and symbol.base.startswith("\\") and " " not in symbol.base
            yield symbol._replace(applied=applied)
        position = found.end()


def _clauses(latex: str) -> Iterator[tuple[list[Symbol], list[Symbol]]]:
    r"""For each of the formulas that ``\quad`` separates: the symbols it defines (its left side), and the others."""
    for clause in split(latex, SEPARATOR):
        left, *right = split(clause, EQUALS)
        if right and not re.sub(r"\\[,;]|[(),\s]", "", SYMBOL.sub("", left)):
            yield list(_symbols(left)), [symbol for part in right for symbol in _symbols(part)]
        else:
            yield [], list(_symbols(clause))


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of ``text`` between separators; a separator inside a bracket does not count."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        found = separator.match(text, position) if depth == 0 else None
        if found:
            parts.append(text[start:position])
            start = position = found.end()
            continue
        depth += (text[position] in "{[(") - (text[position] in "}])")
        position += 1
    return [*parts, text[start:]]


# -- what the symbols of an op stand for -------------------------------------------------------------------------------


@dataclass
class _Vocabulary:
    """The names that an op's symbols are bound to, and the definitions in its formulas."""

    bound: dict[str, tuple[str, ...]]
    defined: dict[str, list[Symbol]]
    indices: frozenset[str]

    def knows(self, key: str) -> bool:
        return key in self.bound or key in self.defined


def _vocabulary(op: Op, rule: Rule) -> _Vocabulary:
    """The vocabulary of one rule; where two formulas define a symbol, the rule's own definition counts."""
    bound = bindings(op)
    formulas = [op.formula, *(each.formula for each in op.rules.values() if each is not rule), rule.formula]
    defined: dict[str, list[Symbol]] = {}
    for formula in formulas:
        defined |= _definitions(op, formula)
    subscripts = {letter.base for formula in formulas for symbol in _symbols(formula) for letter in _letters(symbol)}
    return _Vocabulary(bound, defined, frozenset(x for x in subscripts if re.fullmatch("[a-z]", x)))


def _definitions(op: Op, formula: str) -> dict[str, list[Symbol]]:
    """The definition of each symbol that a formula defines; a subscript that is a symbol of the op belongs to it."""
    clauses = [clause for each in (op.formula, formula) for clause in _clauses(each)]
    plain = {symbol.base for left, _ in clauses for symbol in left if not symbol.subscript} | set(bindings(op))
    defined: dict[str, list[Symbol]] = {}
    for left, right in _clauses(formula):
        for symbol in left:
            labelled = any(letter.base in plain for letter in _symbols(symbol.subscript))
            defined.setdefault(str(symbol) if labelled else symbol.base, []).extend(right)
    return defined


def _letters(symbol: Symbol) -> Iterator[Symbol]:
    """The symbols in a subscript, and in theirs."""
    for letter in _symbols(symbol.subscript):
        yield letter
        yield from _letters(letter)


def bindings(op: Op) -> dict[str, tuple[str, ...]]:
    """For each symbol the names that it is bound to."""
    bound: dict[str, tuple[str, ...]] = {}
    for name in (*op.operands, *op.defaults):
        if len(name) == 1:
            bound[name] = (name,)
        elif name in _GREEK:
            bound[f"\\{name}"] = (name,)
    bound.setdefault("x", (op.operands[0],))
    several = op.outputs is not None and op.outputs > 1
    outputs = [left[0] for left, _ in _clauses(op.formula) if left][: op.outputs if several else 1]
    bound.setdefault("z", ("z",))
    for index, symbol in enumerate(outputs):
        key = str(symbol) if several else symbol.base
        bound[key] = (f"z[{index}]" if several else "z",)
    for key, names in op.symbols.items():
        bound[str(next(_symbols(key)))] = (names,) if isinstance(names, str) else tuple(names)
    gradients = {
        _barred(key): tuple(name.replace("z", "g", 1) for name in names)
        for key, names in bound.items()
        if re.fullmatch(r"z(\[\d+\])?", names[0])
    }
    return {**gradients, **bound}


def _barred(key: str) -> str:
    return f"\\bar {key}"


# -- the checks --------------------------------------------------------------------------------------------------------


def check_formulas(op: Op) -> None:
    """Check that each rule of ``op`` is an expression whose arguments are those that its formula's symbols stand for.

    Raises:
        FormulaError: a rule has a formula but no expression; a symbol of its formula stands for no argument of the
            expression; the expression has an argument that no symbol stands for; or a formula defines a symbol that
            has another meaning, there or in another rule.
    """
    everywhere: dict[str, list[Symbol]] = {}
    for operand, rule in op.rules.items():
        where = f"{op.name}.vjp({operand!r}), {rule.formula}: "
        vocabulary = _vocabulary(op, rule)
        if rule.function is None:
            raise FormulaError(f"{where}the formula has no expression; give the rule as a function of tensors")
        _check_definitions(vocabulary, rule, where)
        for key, right in _definitions(op, rule.formula).items():
            if everywhere.setdefault(key, right) != right:
                raise FormulaError(f"{where}another rule of the op defines {key} in another way")
        covered = _covered(vocabulary, rule, where)
        missing = {name for name in rule.names if name not in UNWRITTEN and name not in covered}
        if missing:
            raise FormulaError(
                f"{where}the expression takes {', '.join(sorted(missing))}, which no symbol of the formula stands for"
            )


def _check_definitions(vocabulary: _Vocabulary, rule: Rule, where: str) -> None:
    """Check that a formula does not define a symbol that is the gradient of an output."""
    for left, _ in _clauses(rule.formula):
        for symbol in left:
            names = vocabulary.bound.get(str(symbol)) or vocabulary.bound.get(symbol.base, ("",))
            if _root(names[0]) == "g":
                raise FormulaError(
                    f"{where}{symbol} is {names[0]}, the gradient that an output gets from its uses; a formula may "
                    "not define it again"
                )


def stands_for_gradient(op: Op, operand: str, output: int) -> bool:
    """Whether the rule's formula has a symbol for the gradient of the output of that number."""
    rule = op.rules[operand]
    return f"g[{output}]" in _covered(_vocabulary(op, rule), rule, "")


def _covered(vocabulary: _Vocabulary, rule: Rule, where: str) -> set[str]:
    """The names that the symbols of a rule's formula stand for.

    Raises:
        FormulaError: a symbol stands for no argument of the expression.
    """
    covered: set[str] = set()
    seen: set[str] = set()

    def follow(symbol: Symbol, inside: bool = False) -> None:
        keys = (str(symbol), symbol.base, symbol.base.rstrip("'") if symbol.applied else symbol.base)
        key = next((k for k in keys if vocabulary.knows(k)), None)
        if key is None:
            if symbol.applied or inside or symbol.base in vocabulary.indices or symbol.base.startswith(r"\text"):
                return
            raise FormulaError(f"{where}{symbol} stands for nothing")
        if key == symbol.base:
            for letter in _symbols(symbol.subscript):
                follow(letter, inside=True)
        if key in seen:
            return
        seen.add(key)
        taken = [name for name in vocabulary.bound.get(key, ()) if _root(name) in rule.names]
        if taken:
            covered.update(taken, map(_root, taken))
        elif key in vocabulary.defined:
            for part in vocabulary.defined[key]:
                follow(part)
        elif not inside and key not in vocabulary.indices:
            names = ", ".join(vocabulary.bound[key])
            raise FormulaError(f"{where}{symbol} stands for {names}, which the expression does not take")

    for left, right in _clauses(rule.formula):
        for symbol in left:
            for letter in _symbols(symbol.subscript):
                follow(letter, inside=True)
        for symbol in right:
            follow(symbol)
    return covered


def _root(name: str) -> str:
    """The argument that an indexed name belongs to: ``g`` for ``g[1]``."""
    return name.partition("[")[0]
