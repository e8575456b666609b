"""Einstein summation: products and sums over axes that are named by letters.

The gradient of an einsum is an einsum: the output's gradient replaces the operand, and the operand's letters become
the output. Two cases need an additional operand::

    "ij,jk->ik" toward x:   "ik,jk->ij"           g and the other operand
    "ij->i"     toward x:   "i,j->ij"             a vector of ones, where no other operand has a summed axis
    "ii->i"     toward x:   "i,iα->iα"            an identity matrix, where one operand names an axis twice
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn.kernels.sums import sum_over
from tinygrad_attn.op import op
from tinygrad_attn.ops.matmul import product
from tinygrad_attn.ops.quiet import quiet
from tinygrad_attn.ops.reduction import total_dtype
from tinygrad_attn.public import public
from tinygrad_attn.samples import Draw, ErrorSample, Sample
from tinygrad_attn.tensor import Tensor

__all__ = ["einsum"]

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


# -- the equation ------------------------------------------------------------------------------------------------------


class _Equation(NamedTuple):
    """An equation with a letter for every axis: ``...`` spelled out, the output explicit, and each letter's size."""

    inputs: tuple[str, ...]
    output: str
    sizes: dict[str, int]


@functools.lru_cache(maxsize=1024)
def _parse(equation: str, shapes: tuple[Shape, ...]) -> _Equation:
    """Read ``equation`` for operands of ``shapes``.

    Raises:
        ValueError: the equation is malformed or does not fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: the equation {equation!r} has {len(terms)} terms for {len(shapes)} operands")
    for term in [*terms, right]:
        if not all(letter.isalpha() for letter in term.replace("...", "", 1)):
            raise ValueError(f"einsum: {term!r} in {equation!r} may hold letters and one ellipsis (...) only")

    spare = _unused(equation)
    # As broadcasting has it, the axes under the ellipses are counted from the right.
    hidden = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True)]
    ellipsis = "".join(itertools.islice(spare, max(0, *hidden)))
    inputs = []
    for number, (term, shape, count) in enumerate(zip(terms, shapes, hidden, strict=True)):
        if count < 0 or (count > 0 and "..." not in term):
            raise ValueError(f"einsum: {term!r} names {len(shape) - count} axes, operand {number} has shape {shape}")
        inputs.append(term.replace("...", ellipsis[len(ellipsis) - count :]))
    if arrow:
        output = right.replace("...", ellipsis)
    else:
        letters = left.replace("...", "").replace(",", "")
        output = ellipsis + "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    for letter in output:
        if output.count(letter) > 1:
            raise ValueError(f"einsum: the output of {equation!r} names {letter!r} twice")
        if not any(letter in term for term in inputs):
            raise ValueError(f"einsum: the output of {equation!r} names {letter!r}, which no operand has")
    return _Equation(tuple(inputs), output, _sizes(equation, inputs, shapes))


def _sizes(equation: str, inputs: list[str], shapes: tuple[Shape, ...]) -> dict[str, int]:
    """The size of each letter's axes; an axis of size 1 broadcasts to the size in other operands."""
    sizes: dict[str, int] = {}
    holders: dict[str, int] = {}
    for number, (term, shape) in enumerate(zip(inputs, shapes, strict=True)):
        for letter, size in zip(term, shape, strict=True):
            if size != shape[term.index(letter)]:
                first = shape[term.index(letter)]
                raise ValueError(f"einsum: {letter!r} in {equation!r} has sizes {first} and {size} in operand {number}")
            known = sizes.get(letter, 1)
            if size != known and size != 1 and known != 1:
                raise ValueError(
                    f"einsum: {letter!r} in {equation!r} has size {known} in operand {holders[letter]} "
                    f"and {size} in operand {number}"
                )
            if letter not in sizes or size != 1:
                sizes[letter], holders[letter] = size, number
    return sizes


def _unused(equation: str) -> Iterator[str]:
    """Letters that ``equation`` does not use: Greek letters, then the characters after them."""
    return (chr(code) for code in itertools.count(ord("α")) if chr(code).isalpha() and chr(code) not in equation)


# -- on arrays ---------------------------------------------------------------------------------------------------------


class _Term(NamedTuple):
    """An array and the letters of its axes, each once."""

    letters: str
    array: Array

    def summed(self, keep: set[str]) -> _Term:
        """This term without the axes whose letters are not in ``keep``."""
        axes = tuple(axis for axis, letter in enumerate(self.letters) if letter not in keep)
        if not axes:
            return self
        total = sum_over(self.array, axes, dtype=self.array.dtype)
        return _Term("".join(letter for letter in self.letters if letter in keep), np.asarray(total))

    def ordered(self, letters: str) -> Array:
        """The array, as a view, with its axes in the order of ``letters`` and an axis of size 1 for each it lacks."""
        array = self.array.transpose([self.letters.index(letter) for letter in letters if letter in self.letters])
        return array[(..., *(slice(None) if letter in self.letters else None for letter in letters))]


def _term(letters: str, array: Array, sizes: dict[str, int]) -> _Term:
    """The diagonal where a letter repeats, without the axes of size 1 that broadcast (the product broadcasts them)."""
    if len(set(letters)) < len(letters):
        once = "".join(dict.fromkeys(letters))
        array = np.einsum(array, [once.index(letter) for letter in letters], list(range(len(once))))
        letters = once
    stretching = tuple(axis for axis, letter in enumerate(letters) if array.shape[axis] != sizes[letter])
    return _Term("".join(c for axis, c in enumerate(letters) if axis not in stretching), array.squeeze(stretching))


def _pair(x: _Term, y: _Term, keep: set[str]) -> _Term:
    """The product of two terms, summed over the letters that are not in ``keep``."""
    x, y = x.summed(keep | set(y.letters)), y.summed(keep | set(x.letters))
    batch = "".join(letter for letter in x.letters if letter in y.letters and letter in keep)
    depth = "".join(letter for letter in x.letters if letter in y.letters and letter not in keep)
    rows = "".join(letter for letter in x.letters if letter not in y.letters)
    columns = "".join(letter for letter in y.letters if letter not in x.letters)
    result = batch + rows + columns
    if not depth:
        return _Term(result, np.asarray(x.ordered(result) * y.ordered(result)))
    sizes = dict(zip(x.letters + y.letters, x.array.shape + y.array.shape, strict=True))
    batch_shape, *merged = (tuple(sizes[letter] for letter in letters) for letters in (batch, rows, depth, columns))
    height, inner, width = (math.prod(shape) for shape in merged)
    z = product(
        x.ordered(batch + rows + depth).reshape(*batch_shape, height, inner),
        y.ordered(batch + depth + columns).reshape(*batch_shape, inner, width),
    )
    return _Term(result, z.reshape(tuple(sizes[letter] for letter in result)))


def _cheapest(terms: list[_Term], sizes: dict[str, int]) -> tuple[int, int]:
    """The two terms whose product takes the fewest multiplications; the first such pair."""

    def work(pair: tuple[int, int]) -> int:
        return math.prod(sizes[letter] for letter in set(terms[pair[0]].letters + terms[pair[1]].letters))

    return min(itertools.combinations(range(len(terms)), 2), key=work)


# -- the op ------------------------------------------------------------------------------------------------------------

_EQUATIONS = [
    "ij->ji", "ij,jk->ik", "ij,jk", "ii->i", "ii", "ij->", "ij->i", "i,i", "i,j->ji", "->", ",i->i",
    "bij,bjk->bik", "bhid,bhjd->bhij", "ij,jk,kl->il", "iij,jk->ki",
    "ij,ij->i", "ij,ij->ij", "i,ij,ik->kj", "iji->j", "ii,jj->ij", "i,i,i->",
    "...ij,...jk->...ik", "...i->...", "i...->...i", "...,...", "...ij->ij", "b...i,i->b...",
]  # fmt: skip


def _samples(draw: Draw) -> Sample:
    equation = draw.choice(_EQUATIONS)
    sizes = {letter: draw.integer(0, 3) for letter in sorted(set(filter(str.isalpha, equation)))}
    ellipsis = draw.shape((0, 2), (0, 3))
    operands = []
    for term in equation.partition("->")[0].split(","):
        before, dots, after = term.partition("...")
        stretched = {c for c in sorted(set(term)) if term.count(c) == 1 and draw.integer(0, 5) == 5}
        sides = [tuple(1 if letter in stretched else sizes[letter] for letter in side) for side in (before, after)]
        operands.append(draw.floats((*sides[0], *(draw.broadcastable(ellipsis) if dots else ()), *sides[1])))
    return Sample(tuple(operands), {"equation": equation})


def _error(equation: str, *shapes: Shape, match: str) -> ErrorSample:
    return ErrorSample(tuple(np.ones(shape) for shape in shapes), {"equation": equation}, ValueError, match)


@op(
    r"z_{\text{output}} = \textstyle\sum_{\text{other letters}} \prod_n x_n",
    samples=_samples,
    errors=[
        _error("ij,jk->ik", (2, 3), match="2 terms for 1 operands"),
        _error("ij->i", (2,), match=r"'ij' names 2 axes, operand 0 has shape \(2,\)"),
        _error("i...->i", (), match=r"names 1 axes, operand 0 has shape \(\)"),
        _error("i->ii", (2,), match="names 'i' twice"),
        _error("i->k", (2,), match="names 'k', which no operand has"),
        _error("ij,jk->ik", (2, 3), (4, 2), match="'j' in 'ij,jk->ik' has size 3 in operand 0 and 4 in operand 1"),
        _error("ii->i", (2, 3), match="'i' in 'ii->i' has sizes 2 and 3 in operand 0"),
        _error("i.j->ij", (2, 3), match="letters and one ellipsis"),
        _error("i1->i", (2, 3), match="letters and one ellipsis"),
        _error("......", (2, 3), match="letters and one ellipsis"),
        _error("i->i->i", (2,), match="letters and one ellipsis"),
    ],
    symbols={r"\text{letters not in }": "equation"},
)
@quiet
def _einsum(*operands: Array, equation: str) -> Array:
    """`einsum` with its operands first."""
    for number, operand in enumerate(operands):
        if not isinstance(operand, np.ndarray):
            raise TypeError(f"einsum: operand {number} must be a tensor, it is the number {operand!r}")
        if operand.dtype == np.bool_:
            raise TypeError(f"einsum: operand {number} is bool; convert it to a float or integer dtype")
    inputs, output, sizes = _parse(equation, tuple(operand.shape for operand in operands))
    if len(operands) == 1 and not set(inputs[0]) <= set(output):  # a sum alone, and so in the dtype of sums
        operands = (operands[0].astype(total_dtype(operands[0]), copy=False),)
    terms = [_term(letters, operand, sizes) for letters, operand in zip(inputs, operands, strict=True)]
    while len(terms) > 1:
        first, second = _cheapest(terms, sizes)
        y, x = terms.pop(second), terms.pop(first)
        terms.append(_pair(x, y, set(output).union(*(term.letters for term in terms))))
    return terms[0].summed(set(output)).ordered(output)


def _toward_operand(
    multiply: Callable[..., Any], g: Any, operands: Any, shapes: tuple[Shape, ...], position: int, equation: str
) -> Any:
    inputs, output, sizes = _parse(equation, shapes)
    spare = _unused("".join([*inputs, output]))
    factors = [(output, g), *((inputs[n], operands[n]) for n in range(len(inputs)) if n != position)]
    target = ""
    for letter, size in zip(inputs[position], shapes[position], strict=True):
        if letter in target:
            again = next(spare)
            factors.append((letter + again, np.eye(sizes[letter], dtype=g.dtype)))
            target += again
            continue
        target += letter
        # Another operand may have the letter with an axis of size 1 only, which gives no axis of this operand's size.
        found = {factor.shape[letters.index(letter)] for letters, factor in factors if letter in letters}
        if size not in found and (size != 1 or not found):
            factors.append((letter, np.ones(size, g.dtype)))
    terms = ",".join(letters for letters, _ in factors)
    return multiply(*(factor for _, factor in factors), equation=f"{terms}->{target}")


_einsum.vjp(
    "operands",
    r"\bar x_n = \textstyle\sum_{\text{letters not in } x_n} \bar z \prod_{m \ne n} x_m",
    partial(_toward_operand, _einsum),
    partial(_toward_operand, _einsum.forward),
)


@public("ta")
def einsum(equation: str, *operands: Any) -> Tensor:
    """Products of any number of tensors, summed over axes, as Einstein's notation has it.

    ``"ij,jk->ik"`` is the matrix product: letters name the operands' axes; axes of one name are multiplied, and those
    that the output does not name are summed. A letter that one operand names twice takes its diagonal. ``...`` stands
    for any number of axes, which broadcast. Without ``->`` the output is the ellipsis and, sorted, the letters that
    occur once. Of more than two operands, those whose product is cheapest are multiplied first.

    Args:
        equation: the names of the axes, a comma-separated term for each operand, and after ``->`` the result's.
        operands: tensors, or one list of them. An axis of size 1 broadcasts to the size of its letter in the others.

    Returns:
        The sum of products; a view of the operand if there is only one and no axis is summed.

    Raises:
        ValueError: a malformed equation, or one that does not fit the operands' number, axes or sizes.
        TypeError: an equation that is no string (PyTorch's lists of numbers are not supported), or a bool operand.
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: equation must be a string, got {type(equation).__name__}; name the axes by letters")
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise ValueError("einsum: at least one operand is needed")
    return _einsum(*operands, equation=equation)
