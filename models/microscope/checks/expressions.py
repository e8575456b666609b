"""Properties of a score's expression from which identities of its derivative follow."""

from __future__ import annotations

from tinygrad_attn.nn.scores import Expression

__all__ = ["depends_on_sums", "is_bilinear"]


def is_bilinear(score: Expression | None) -> bool:
    """Whether a score is linear in the numbers of Q and in those of K."""
    return score is not None and _degree(score, "Q") == 1 and _degree(score, "K") == 1


def depends_on_sums(score: Expression | None) -> bool:
    """Whether Q and K occur in sums Q_ta + K_ja alone."""
    if not isinstance(score, tuple):
        return False
    if score[0] in ("Q", "K"):
        return False
    if score[0] == "+" and len(score) == 3 and {_letter(part) for part in score[1:]} == {"Q", "K"}:
        return score[1][-1] == score[2][-1]
    inner = [part for part in score[1:] if isinstance(part, tuple) and {"Q", "K"} & _letters(part)]
    return bool(inner) and all(depends_on_sums(part) for part in inner)


def _letter(expression: Expression) -> str | None:
    return expression[0] if isinstance(expression, tuple) else None


def _letters(expression: Expression) -> set[str]:
    """All that stands first in it or in its parts."""
    if not isinstance(expression, tuple):
        return set()
    return {expression[0]}.union(*(_letters(part) for part in expression[1:]))


def _degree(expression: Expression, letter: str) -> int | None:
    """The degree of an expression in a tensor's numbers; None if it is no homogeneous polynomial of them."""
    if not isinstance(expression, tuple):
        return 0
    head, *parts = expression
    if head == "sum":
        return _degree(parts[1], letter)
    if head in ("+", "-", "*"):
        degrees = [_degree(part, letter) for part in parts]
        if None in degrees:
            return None
        if head == "*":
            return sum(degree for degree in degrees if degree is not None)
        return degrees[0] if len(set(degrees)) == 1 else None
    if head in ("tanh", "square"):
        return 0 if _degree(parts[0], letter) == 0 else None
    return int(head == letter)
