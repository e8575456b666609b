"""Multi-head attention, whole or in two steps for decoders, and how to see the weights of every head."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_attn.modes import mark
from tinygrad_attn.nn import init
from tinygrad_attn.nn.keys_values import KeysValues, part
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, Parameter
from tinygrad_attn.op import cast
from tinygrad_attn.ops.arguments import as_tensor
from tinygrad_attn.ops.comparison import logical_and, logical_not
from tinygrad_attn.ops.fused.attention import scaled_dot_product_attention
from tinygrad_attn.ops.fused.linear import linear, paired_linear
from tinygrad_attn.ops.fused.multihead import multihead_attention
from tinygrad_attn.ops.joining import cat, chunk
from tinygrad_attn.ops.pointwise import add, where
from tinygrad_attn.ops.reduction import mean
from tinygrad_attn.ops.shape import reshape, squeeze, transpose, unsqueeze
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = ["MultiheadAttention", "merged_padding_mask", "record_attention_weights"]


class MultiheadAttention(Module):
    """Concat(head_1, …, head_h) W_O, where head_i = softmax(Q_i K_iᵀ / √d) V_i over projections of size d = E / h.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2. E: embed_dim, B: batch, L: queries, S: keys.

    Masks are PyTorch's: where a bool mask is **True nobody attends**, a float mask is added to the scores, -inf keeps a
    query from a key. (`tinygrad_attn.nn.attention` and `scaled_dot_product_attention` have it the other way round, the
    latter in PyTorch too.) A query with nothing to attend to gets zeros from every head, where PyTorch gives nan.

    Attributes:
        in_proj_weight: (3E, E), the rows that make queries, keys and values one under the other; Xavier-uniform at
            first. None if ``kdim`` or ``vdim`` differ from E: then there are q_proj_weight (E, E), k_proj_weight
            (E, kdim) and v_proj_weight (E, vdim).
        in_proj_bias: (3E,), zeros at first, or None.
        out_proj: W_O, a `Linear` from E to E; its bias is zero at first.
        recorded_weights: where each call appends its weights (B, heads, L, S), or None: see `record_attention_weights`.

    Args:
        embed_dim: of queries and outputs; the heads share it.
        num_heads: h.
        dropout: the probability of dropping a weight, in training.
        bias: of all projections.
        kdim, vdim: the sizes of keys and values as they come; E if None.
        batch_first: tensors are (B, L, E) and not (L, B, E).
        dtype: of all parameters.

    Raises:
        ValueError: the heads do not divide ``embed_dim``, or ``dropout`` is not a probability.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = default_dtype,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: num_heads {num_heads} does not divide embed_dim {embed_dim}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"MultiheadAttention: dropout must be a probability, got {dropout}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.recorded_weights: list[Tensor] | None = None

        def weight(rows: int, columns: int) -> Parameter:
            return Parameter(np.empty((rows, columns), dtype))

        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight: Parameter | None = weight(3 * embed_dim, embed_dim)
        else:
            self.in_proj_weight = None
            self.q_proj_weight = weight(embed_dim, embed_dim)
            self.k_proj_weight = weight(embed_dim, self.kdim)
            self.v_proj_weight = weight(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(np.empty(3 * embed_dim, dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values anew."""
        self.out_proj.reset_parameters()
        for weight in self._in_weights():
            init.xavier_uniform_(weight)
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from each query to the keys.

        Args:
            query: (L, B, E), or (B, L, E) if ``batch_first``, or (L, E) without a batch.
            key: (S, B, kdim), (B, S, kdim) or (S, kdim).
            value: (S, B, vdim), (B, S, vdim) or (S, vdim).
            key_padding_mask: (B, S), or (S,) without a batch; bool, True where a key is to be ignored, or floats to add
                to its scores.
            need_weights: return the weights too.
            attn_mask: (L, S), or (B·heads, L, S); bool, True where a query may not attend to a key, or floats to add to
                the scores.
            average_attn_weights: return the mean of the weights over all heads.
            is_causal: query i attends to keys 0 to i only, and what the other masks leave of them. PyTorch takes it as
                a hint about ``attn_mask``; here it does it alone too, for less work than a mask.

        Returns:
            The output, of the query's shape, and the weights (B, L, S), or (B, heads, L, S) if not averaged, without B
            if there is no batch; None if not ``need_weights``. They are those that multiplied the values: after
            dropout.

        Raises:
            ValueError: shapes other than these.
            TypeError: a mask of integers.
        """
        if query.ndim == 2:
            at = 0 if self.batch_first else 1
            query, key, value = (unsqueeze(x, at) for x in (query, key, value))
            padding = None if key_padding_mask is None else unsqueeze(as_tensor(key_padding_mask), 0)
            output, weights = self.forward(
                query, key, value, padding, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return squeeze(output, at), None if weights is None else squeeze(weights, 0)
        self._check("query", query, self.embed_dim)
        role = "causal" if is_causal else "self" if query is key else "cross"
        weighted = need_weights or self.recorded_weights is not None or (self.training and self.dropout > 0.0)
        if key is value and self.in_proj_weight is not None and not weighted:
            batch, length = (0, 1) if self.batch_first else (1, 0)
            scores = (query.shape[batch], self.num_heads, query.shape[length], key.shape[length])
            self._check("key", key, self.embed_dim)
            self._check_batch(query.shape[batch], key.shape[batch])
            mask = _merged(key_padding_mask, attn_mask, False, scores, query.dtype)
            if mask is None or mask.dtype == np.bool_:
                heads = self._heads_in_place(query, key, mask, is_causal)
                return self.out_proj(self._joined(heads, role)), None
        if query is key is value and self.in_proj_weight is not None:
            queries, joined = self._queries_and_joined(query)
            memory = KeysValues(joined, joined.shape[1])
        else:
            queries, memory = self._projected(query, 0, 1), self.project_keys_values(key, value)
        self._check_batch(queries.shape[0], memory.joined.shape[0])
        scores = (queries.shape[0], self.num_heads, queries.shape[1], memory.length)
        mask = _merged(key_padding_mask, attn_mask, is_causal, scores, query.dtype)
        causal = is_causal and mask is None
        return self._attend(queries, memory, mask, need_weights, average_attn_weights, causal, role)

    def _heads_in_place(self, query: Tensor, memory: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        """What the heads give, side by side: attended where the projection of all of them has put them."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is memory:
            queries, keys_values = linear(query, weight, bias), None
        else:
            queries, keys_values = paired_linear(query, memory, weight, bias, rows=self.embed_dim)
        return multihead_attention(
            queries, keys_values, mask, heads=self.num_heads, is_causal=is_causal, batch_first=self.batch_first
        )

    def project_keys_values(self, key: Tensor, value: Tensor) -> KeysValues:
        """What of attention depends on keys and values alone, for `attend`; a decoder keeps it from step to step.

        Args:
            key: (S, B, kdim), or (B, S, kdim) if ``batch_first``.
            value: (S, B, vdim), or (B, S, vdim) if ``batch_first``.

        Raises:
            ValueError: shapes other than these.
        """
        self._check("key", key, self.kdim)
        self._check("value", value, self.vdim)
        if key.shape[:2] != value.shape[:2]:
            raise ValueError(
                f"MultiheadAttention: there must be a value for each key, their shapes are {key.shape} and "
                f"{value.shape}"
            )
        if key is value and self.in_proj_weight is not None:
            joined = self._projected(key, 1, 3)
        else:
            joined = cat([self._projected(key, 1, 2), self._projected(value, 2, 3)], -1)
        return KeysValues(joined, joined.shape[1])

    def attend(
        self,
        query: Tensor,
        memory: KeysValues,
        mask: Tensor | None = None,
        need_weights: bool = True,
        average_attn_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """The rest of `forward`, which has the same arguments but for ``mask``, from `merged_padding_mask`: from
        queries with a batch to what is kept."""
        self._check("query", query, self.embed_dim)
        queries = self._projected(query, 0, 1)
        self._check_batch(queries.shape[0], memory.joined.shape[0])
        return self._attend(queries, memory, mask, need_weights, average_attn_weights)

    def attend_to_past(self, x: Tensor, past: KeysValues | None) -> tuple[Tensor, KeysValues]:
        """Causal self-attention, one place of it: what `forward` with ``is_causal`` gives there.

        Args:
            x: (1, B, E), or (B, 1, E) if ``batch_first``.
            past: what the call for the place before returned; None at the first.

        Returns:
            The output, of the shape of ``x``, and all keys and values so far.

        Raises:
            ValueError: shapes other than these, or ``kdim`` or ``vdim`` differ from E.
        """
        self._check("x", x, self.embed_dim)
        if self.in_proj_weight is None or x.shape[1 if self.batch_first else 0] != 1:
            raise ValueError(
                f"MultiheadAttention: attend_to_past reads one place, whose keys and values are of size "
                f"{self.embed_dim}; x has shape {x.shape}, kdim and vdim are {self.kdim} and {self.vdim}"
            )
        queries, joined = self._queries_and_joined(x)
        if past is None:
            past = KeysValues(joined, 1)
        else:
            self._check_batch(queries.shape[0], past.joined.shape[0])
            past = past.extended(joined)
        return self._attend(queries, past, None, need_weights=False, role="causal")[0], past

    # -- projections ---------------------------------------------------------------------------------------------------

    def _in_weights(self) -> list[Parameter]:
        if self.in_proj_weight is not None:
            return [self.in_proj_weight]
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def _projected(self, x: Tensor, first: int, last: int) -> Tensor:
        """``x`` as queries (0), keys (1) and values (2), from ``first`` up to ``last``, side by side by one product:
        (B, length, (last - first) · E)."""
        if self.in_proj_weight is not None:
            weight = self._rows(self.in_proj_weight, first, last)
        else:
            weight = self._in_weights()[first]
        bias = None if self.in_proj_bias is None else self._rows(self.in_proj_bias, first, last)
        return self._exchanged(linear(x, weight, bias))

    def _queries_and_joined(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, length, E), and keys and values (B, length, 2E), of one sequence."""
        projected = self._projected(x, 0, 3)
        return part(projected, 2, 0, self.embed_dim), part(projected, 2, self.embed_dim, 2 * self.embed_dim)

    def _rows(self, parameter: Tensor, first: int, last: int) -> Tensor:
        if (first, last) == (0, 3):
            return parameter
        return part(parameter, 0, first * self.embed_dim, (last - first) * self.embed_dim)

    def _exchanged(self, x: Tensor) -> Tensor:
        """From the layout of inputs and outputs to (B, length, …), or back."""
        return x if self.batch_first else transpose(x, 0, 1)

    def _attend(
        self,
        queries: Tensor,
        memory: KeysValues,
        mask: Tensor | None,
        need_weights: bool,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        role: str = "cross",
    ) -> tuple[Tensor, Tensor | None]:
        """Queries (B, L, E) of all heads, a mask from `_merged`, and the rest as in `forward`."""
        dropout = self.dropout if self.training else 0.0
        weighted = need_weights or self.recorded_weights is not None
        if not weighted and dropout == 0.0 and (mask is None or mask.dtype == np.bool_):
            heads = multihead_attention(queries, memory.all(), mask, heads=self.num_heads, is_causal=is_causal)
            return self.out_proj(self._joined(self._exchanged(heads), role)), None
        keys, values = chunk(memory.all(), 2, -1)
        queries_of_heads, keys, values = (self._split(x) for x in (queries, keys, values))
        found = scaled_dot_product_attention(
            queries_of_heads, keys, values, mask, dropout, is_causal, need_weights=weighted
        )
        heads, weights = found if weighted else (found, None)
        if self.recorded_weights is not None and weights is not None:
            self.recorded_weights.append(weights)
        heads = self._exchanged(reshape(transpose(heads, 1, 2), *queries.shape))
        output = self.out_proj(self._joined(heads, role))
        if not need_weights:
            return output, None
        return output, mean(weights, 1) if average_attn_weights else weights

    def _joined(self, heads: Tensor, role: str) -> Tensor:
        """Announce the heads' contexts side by side."""
        return mark("joined", heads, role=role, batch_first=self.batch_first)

    def _split(self, part: Tensor) -> Tensor:
        """(B, length, E) as (B, heads, length, head_dim)."""
        return transpose(reshape(part, *part.shape[:2], self.num_heads, self.head_dim), 1, 2)

    def _check(self, which: str, x: Tensor, width: int) -> None:
        if x.ndim != 3 or x.shape[-1] != width:
            layout = "(B, length, {})" if self.batch_first else "(length, B, {})"
            raise ValueError(f"MultiheadAttention: {which} must be {layout.format(width)}, it has shape {x.shape}")

    def _check_batch(self, queries: int, keys: int) -> None:
        if queries != keys:
            raise ValueError(
                f"MultiheadAttention: query and key must have the same batch, they have {queries} and {keys}; "
                f"batch_first is {self.batch_first}"
            )

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, batch_first={self.batch_first}"


@contextlib.contextmanager
def record_attention_weights(model: Module) -> Iterator[dict[str, list[Tensor]]]:
    """See the weights of every layer and head inside ``model``::

        with record_attention_weights(model) as weights:
            model(source, target)
        weights["decoder.layers.0.multihead_attn"][-1]  # (B, heads, L, S)

    Yields:
        For the path of each `MultiheadAttention` a list, to which every call of it inside the ``with`` adds its
        weights. They are part of the graph, as all tensors are.
    """
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, MultiheadAttention)]
    before = [module.recorded_weights for _, module in found]
    recorded: dict[str, list[Tensor]] = {path: [] for path, _ in found}
    for path, module in found:
        module.recorded_weights = recorded[path]
    try:
        yield recorded
    finally:
        for (_, module), kept in zip(found, before, strict=True):
            module.recorded_weights = kept


# -- masks -------------------------------------------------------------------------------------------------------------


def merged_padding_mask(key_padding_mask: Any, batch: int, keys: int, dtype: Any) -> Tensor | None:
    """A key_padding_mask (B, S) as `MultiheadAttention.attend` takes it: (B, 1, 1, S), bool and True where a query may
    attend to a key, or floats to add to the scores; None where it keeps nothing from anybody. A decoder makes it once
    for all its steps."""
    mask = _merged(key_padding_mask, None, False, (batch, 1, 1, keys), dtype)
    return None if mask is None or (mask.dtype == np.bool_ and mask.array.all()) else mask


def _merged(
    key_padding_mask: Any, attn_mask: Any, is_causal: bool, scores: tuple[int, ...], dtype: Any
) -> Tensor | None:
    """All masks as one for `scaled_dot_product_attention`: bool, True = may attend, if none of them has floats, else
    floats to add. None if there is no mask, or only the causal one, which needs none."""
    batch, heads, queries, keys = scores
    masks = []
    if key_padding_mask is not None:
        mask = _mask("key_padding_mask", key_padding_mask, [(batch, keys)], dtype)
        masks.append(reshape(mask, batch, 1, 1, keys))
    if attn_mask is not None:
        mask = _mask("attn_mask", attn_mask, [(queries, keys), (batch * heads, queries, keys)], dtype)
        masks.append(reshape(mask, batch, heads, queries, keys) if mask.ndim == 3 else mask)
    if not masks:
        return None
    allowed: Tensor | None = Tensor(np.tri(queries, keys, dtype=np.bool_)) if is_causal else None
    added: Tensor | None = None
    for mask in masks:
        if mask.dtype == np.bool_:
            attended = logical_not(mask)
            allowed = attended if allowed is None else logical_and(allowed, attended)
        else:
            added = mask if added is None else add(added, mask)
    if added is None or allowed is None:
        return allowed if added is None else added
    return where(allowed, added, -math.inf)


def _mask(name: str, given: Any, shapes: list[tuple[int, ...]], dtype: Any) -> Tensor:
    mask = as_tensor(given)
    if mask.dtype != np.bool_ and not mask.is_floating_point():
        raise TypeError(
            f"MultiheadAttention: {name} must be bool (True = do not attend) or floats to add, it is {mask.dtype}"
        )
    if mask.shape not in shapes:
        expected = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"MultiheadAttention: {name} must have shape {expected}, it has {mask.shape}")
    return mask if mask.dtype in (np.bool_, dtype) else cast(mask, dtype=dtype)
