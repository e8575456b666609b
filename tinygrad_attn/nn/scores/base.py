r"""Score, the base of all attention scores, and SCORES, their registry.

A score of your own is one file, in this folder or anywhere::

    @SCORES.register("cosine")
    class CosineScore(Score):
        formula = r"e_{tj} = \textstyle\sum_i \hat Q_{ti} \hat K_{ji}"

        def scores(self, query, projected):
            query, key = mark("query", query), mark("key", projected)
            return normalize(query, dim=-1) @ normalize(key, dim=-1).mT

Then it can be chosen with ``model.score``, and wherever a score is chosen by name. If it also defines `Score.witness`,
formulas, snippets and recipes, the microscope explains and verifies it like the scores here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from tinygrad_attn.dtypes import default_dtype
from tinygrad_attn.modes import mark
from tinygrad_attn.nn.module import Module
from tinygrad_attn.ops.arguments import layer_input
from tinygrad_attn.ops.shape import squeeze, unsqueeze
from tinygrad_attn.registry import Registry
from tinygrad_attn.tensor import Tensor

__all__ = ["SCORES", "Expression", "Score", "Snippet"]

Array = np.ndarray[Any, Any]

Expression = float | tuple[Any, ...]
"""One number as nested tuples, for the page, which writes it out with the numbers in it and computes it::

    ("Q", "t", "i")                a number of a tensor: Q, K, e (the scores) or de (their gradient), or of a parameter
    ("sum", "i", x)                the sum of x over all queries t, keys j or, with any other letter, channels
    ("*", x, y, …)  ("+", x, y, …)  ("-", x, y)  ("tanh", x)  ("square", x)
"""

Snippet = tuple[str, dict[str, str]]
"""NumPy code that prints one number, and for each name in it "tensor part slice": see
`models.microscope.record.schema.Snippet`."""

S = TypeVar("S", bound="type[Score]")


class _Scores(Registry["type[Score]"]):
    """The scores by name; registering a score sets its ``name``."""

    def register(self, name: str) -> Callable[[S], S]:  # type: ignore[override]
        add = super().register(name)

        def named(score: S) -> S:
            score.name = name
            add(score)
            return score

        return named


SCORES = _Scores("attention score", package=__package__)
"""Every attention score by its name; each of this folder's files defines one."""


class Score(Module):
    r"""A function of each query and each key whose value e_tj, before the softmax, says how well they match.

    A subclass defines `scores`, and `project` if part of the work depends only on the keys. `scores` announces the
    tensors that it compares as "query" and "key", and the parameters in its formula as "parameter" (see
    `tinygrad_attn.modes.mark`). A score that is chosen by name also defines `make`. The other attributes are for the
    microscope. In LaTeX, row t is a query, column j a key, i a channel; Q and K are the announced query and key, q_t
    and h_j what they are computed from, e the scores, λ the announced scale, and a bar marks the gradient of the loss.
    """

    name: ClassVar[str] = ""
    """Its name in `SCORES`."""
    formula: ClassVar[str] = ""
    """LaTeX of one score, :math:`e_{tj} = …`."""
    gradient_formulas: ClassVar[Mapping[str, str]] = {}
    """LaTeX of one element of the gradient of "Q", and of "K" if the score depends on keys."""
    snippets: ClassVar[Mapping[tuple[str, str], Snippet]] = {}
    """For ("scores", "value"), ("Q", "gradient") and ("K", "gradient") the code that computes one number."""
    recipes: ClassVar[Mapping[str, Expression]] = {}
    """The same as expressions: of "scores" at (t, j), of the gradient of "Q" at (t, i), and of "K" at (j, i)."""
    has_keys: ClassVar[bool] = True
    """Whether it depends on the keys."""
    limits_length: ClassVar[bool] = False
    """Whether it scores at most ``max_length`` keys."""

    @classmethod
    def make(cls, query_size: int, key_size: int, size: int, max_length: int, dtype: Any = default_dtype) -> Score:
        """A new score for a config that names it; each score uses the arguments that it needs.

        Args:
            query_size, key_size: the channels of queries and of keys.
            size: the number of units of a score with a hidden layer.
            max_length: the largest number of keys.
            dtype: of all parameters.
        """
        raise NotImplementedError(f"{cls.__name__} has no make, so that no config can choose it")

    def project(self, keys: Tensor) -> Tensor:
        """The part of the work that depends only on the keys (B, S, key_size), for `compare`; by default the keys."""
        return keys

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        """The scores (B, T, S) of (B, T, query_size) and the result of `project`; each subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} has no scores")

    def compare(self, query: Tensor, projected: Tensor) -> Tensor:
        """Score queries against projected keys.

        Args:
            query: (B, query_size) or (B, T, query_size).
            projected: (B, S, …), the result of `project`.

        Returns:
            (B, S) or (B, T, S).

        Raises:
            ValueError: shapes other than these.
        """
        name = type(self).__name__
        query, projected = layer_input(name, "query", query), layer_input(name, "keys", projected)
        if query.ndim not in (2, 3) or projected.ndim != 3 or query.shape[0] != projected.shape[0]:
            raise ValueError(
                f"{name}: query must be (B, D) or (B, T, D) and keys (B, S, D) of the same batch, "
                f"they are {query.shape} and {projected.shape}"
            )
        if query.ndim == 2:
            return squeeze(self.compare(unsqueeze(query, 1), projected), 1)
        return mark("scores", self.scores(query, projected), score=self.name or name)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        """`compare` the query with the keys (B, S, key_size) themselves."""
        return self.compare(query, self.project(keys))

    @staticmethod
    def witness(query: Array, key: Array | None, parameters: Mapping[str, Any]) -> Array | None:
        """The scores computed in NumPy, without the engine, to check the engine; None if not defined.

        Args:
            query: (…, T, C), the announced "query".
            key: (…, S, C), the announced "key"; None if the score does not depend on keys.
            parameters: the announced "parameter" tensors, by symbol; and s, the announced scale, 1 if there is none.

        Returns:
            (…, T, S).
        """
        return None

    @staticmethod
    def witness_gradients(
        gradient: Array, query: Array, key: Array | None, parameters: Mapping[str, Any]
    ) -> dict[str, Array] | None:
        """The gradients of "Q", and of "K" if there are keys, from that of the scores (…, T, S).

        The other arguments are those of `witness`.
        """
        return None
