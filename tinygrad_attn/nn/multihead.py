"""MultiheadAttention, with a cache for decoders; record_attention_weights, for every head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_attn.checked import Count, FloatDtype, Probability, Size, checked
from tinygrad_attn.contexts import context, undone_by
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import init
from tinygrad_attn.nn.attention_masks import merge_masks
from tinygrad_attn.nn.counting import empty_parameter
from tinygrad_attn.nn.kv_cache import KVCache, part
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, Parameter
from tinygrad_attn.nn.norm import RMSNorm
from tinygrad_attn.nn.positional import RotaryPositionalEncoding, kept_alibi
from tinygrad_attn.ops.arguments import as_tensor, layer_input
from tinygrad_attn.ops.fused.linear import linear, paired_linear
from tinygrad_attn.ops.fused.multihead import attend_heads
from tinygrad_attn.ops.fused.rotary import rotary
from tinygrad_attn.ops.joining import cat, split
from tinygrad_attn.ops.pointwise import add
from tinygrad_attn.ops.reduction import mean
from tinygrad_attn.ops.shape import reshape, squeeze, transpose, unsqueeze
from tinygrad_attn.tensor import Tensor, default_dtype

__all__ = ["MultiheadAttention", "check_heads", "record_attention_weights"]

_QK_EPS = 1e-6  # as in Hugging Face's models


class MultiheadAttention(Module):
    """Concat(head_1, …, head_h) W_O, where head_i = softmax(Q_i K_iᵀ / √d) V_i over projections of size d = E / h.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2. E: embed_dim, B: batch, L: queries, S: keys.
    `tinygrad_attn.ops.fused.attention.weights_and_output` has the steps of one head, which run inside `unfused()`.

    Masks are PyTorch's: a bool mask is **True where a query may not attend** to a key; a float mask is added to the
    scores, so that -inf masks a key. (In `tinygrad_attn.nn.attention` and `scaled_dot_product_attention` True means
    that it may attend, in the latter as in PyTorch.) A query whose keys are all masked gets zeros from every head,
    where PyTorch gives nan if it returns weights.

    Attributes:
        in_proj_weight: (E + 2C, E), the projections of queries, keys and values stacked, C = E unless heads share keys;
            initially Xavier-uniform. None if ``kdim`` or ``vdim`` differ from E: then there are q_proj_weight (E, E),
            k_proj_weight (C, kdim) and v_proj_weight (C, vdim).
        in_proj_bias: (E + 2C,), initially zeros, or None.
        q_norm, k_norm: an `RMSNorm` over a head's d elements each, or None.
        out_proj: W_O, a `Linear` from E to E; its bias is initially zero.
        recorded_weights: a list to which each call appends its weights (B, heads, L, S), or None: see
            `record_attention_weights`.

    Args:
        embed_dim: E, the size of queries and outputs, divided among the heads.
        num_heads: h.
        dropout: the probability of dropping a weight, in training.
        bias: of all projections.
        kdim, vdim: the sizes of the keys and values before projection; E if None.
        batch_first: tensors are (B, L, E) and not (L, B, E).
        dtype: of all parameters.
        num_kv_heads: the number of heads of keys and values, each shared by h / num_kv_heads heads of queries that
            follow each other (Ainslie et al., "GQA", 2023; with 1 Shazeer, "Fast Transformer Decoding", 2019); C is
            their size together. h if None.
        qk_norm: normalise the queries and keys of every head, so that no score grows without bound (Henry et al.,
            "Query-Key Normalization for Transformers", 2020; by root mean square as in Qwen3).
        rotary: turns queries and keys by their positions, after ``qk_norm``.
        alibi: add `alibi_bias` to the scores.

    Raises:
        ValueError: the heads do not divide ``embed_dim``, ``num_kv_heads`` does not divide ``num_heads``, or ``rotary``
            is for heads of another size.
    """

    @checked
    def __init__(
        self,
        embed_dim: Count,
        num_heads: Count,
        dropout: Probability = 0.0,
        bias: bool = True,
        *,
        kdim: Size | None = None,
        vdim: Size | None = None,
        batch_first: bool = False,
        dtype: FloatDtype = default_dtype,
        num_kv_heads: Count | None = None,
        qk_norm: bool = False,
        rotary: RotaryPositionalEncoding | None = None,
        alibi: bool = False,
    ) -> None:
        super().__init__()
        check_heads(type(self).__name__, {"embed_dim": embed_dim, "num_heads": num_heads}, num_kv_heads, rotary)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = embed_dim // num_heads
        self.kv_size = num_kv_heads * self.head_dim
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.recorded_weights: list[Tensor] | None = None

        def weight(rows: int, columns: int) -> Parameter:
            return empty_parameter((rows, columns), dtype)

        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight: Parameter | None = weight(embed_dim + 2 * self.kv_size, embed_dim)
        else:
            self.in_proj_weight = None
            self.q_proj_weight = weight(embed_dim, embed_dim)
            self.k_proj_weight = weight(self.kv_size, self.kdim)
            self.v_proj_weight = weight(self.kv_size, self.vdim)
        self.in_proj_bias = empty_parameter(embed_dim + 2 * self.kv_size, dtype) if bias else None
        self.q_norm = RMSNorm(self.head_dim, _QK_EPS, dtype=dtype) if qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, _QK_EPS, dtype=dtype) if qk_norm else None
        self.rotary = rotary
        self.alibi = alibi
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        self.out_proj.reset_parameters()
        for norm in (self.q_norm, self.k_norm):
            if norm is not None:
                norm.reset_parameters()
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
            is_causal: query i attends only to keys 0 to i, unless the other masks mask them too. In PyTorch this is a
                hint about ``attn_mask``; here it works without one, and is faster than a mask.

        Returns:
            The output, of the query's shape, and the weights (B, L, S), or (B, heads, L, S) if not averaged, without B
            if there is no batch; None if not ``need_weights``. The weights are those that multiplied the values, after
            dropout.

        Raises:
            ValueError: shapes other than these.
            TypeError: a mask of integers.
        """
        query, key, value = self._inputs(query=query, key=key, value=value)
        if query.ndim == 2:
            at = 0 if self.batch_first else 1
            batched = {id(x): unsqueeze(x, at) for x in (query, key, value)}
            query, key, value = (batched[id(x)] for x in (query, key, value))
            padding = None if key_padding_mask is None else unsqueeze(as_tensor(key_padding_mask), 0)
            output, weights = self.forward(
                query, key, value, padding, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return squeeze(output, at), None if weights is None else squeeze(weights, 0)
        self._check("query", query, self.embed_dim)
        projected, memory = self._prepared(*self._project(query, key, value))
        batch, length = (0, 1) if self.batch_first else (1, 0)
        self._check_batch(query.shape[batch], key.shape[batch])
        shape = (query.shape[batch], self.num_heads, query.shape[length], key.shape[length])
        mask = merge_masks(key_padding_mask, attn_mask, shape, query.dtype)
        role = "cross" if query is not key else "causal" if is_causal else "self"
        heads, weights = self._attend(projected, memory, mask, role, self.batch_first, need_weights, is_causal)
        return self.out_proj(heads), _averaged(weights, average_attn_weights)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
        """For self-attention queries, keys and values concatenated, and None; else the queries, and keys and values."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key is value and weight is not None:
            return linear(query, weight, bias), None
        if key is value and weight is not None:
            self._check("key", key, self.embed_dim)
            return paired_linear(query, key, weight, bias, rows=self.embed_dim)
        return self._projected(query, 0, 1), self._project_keys_values(key, value)

    def _prepared(self, queries: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What `_project` returns, with queries and keys normalised, and turned by their positions."""
        if not self._prepares:
            return queries, memory
        if memory is None:
            return self._prepared_heads(queries, self.num_heads, self.num_kv_heads, 0, self.batch_first), None
        return (
            self._prepared_heads(queries, self.num_heads, 0, 0, self.batch_first),
            self._prepared_heads(memory, 0, self.num_kv_heads, 0, self.batch_first),
        )

    @property
    def _prepares(self) -> bool:
        return self.q_norm is not None or self.rotary is not None

    def _prepared_heads(self, projected: Tensor, queries: int, keys: int, start: int, batch_first: bool) -> Tensor:
        """A projection to so many heads of queries, then of keys, and then of values, with queries and keys normalised,
        and turned by their positions from ``start`` on."""
        heads = reshape(projected, *projected.shape[:2], projected.shape[2] // self.head_dim, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k, v = split(heads, [queries, keys, heads.shape[2] - queries - keys], 2)
            heads = cat(
                [norm(part) if norm else part for norm, part in ((self.q_norm, q), (self.k_norm, k), (None, v))], 2
            )
        if self.rotary is not None:
            heads = heads if batch_first else transpose(heads, 0, 1)
            heads = rotary(heads, start, self.rotary.base, -3, queries + keys)
            heads = heads if batch_first else transpose(heads, 0, 1)
        return reshape(heads, *projected.shape)

    def _attend(
        self, projected: Tensor, memory: Tensor | None, mask: Tensor | None, role: str, batch_first: bool,
        need_weights: bool, is_causal: bool = False, start: int = 0,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The concatenated outputs of the heads, and their weights (B, heads, L, S) if needed.

        ``start`` is the position of the first query.
        """
        recorded = self.recorded_weights
        mask, bias = (mask, None) if mask is None or mask.dtype == np.bool_ else (None, mask)
        if self.alibi:
            axis = 1 if batch_first else 0
            queries, keys = projected.shape[axis], (projected if memory is None else memory).shape[axis]
            distances = Tensor(kept_alibi(self.num_heads, queries, keys, start, projected.dtype))
            bias = distances if bias is None else add(bias, distances)
        heads, weights = attend_heads(
            projected, memory, mask, bias, heads=self.num_heads, groups=self.num_heads // self.num_kv_heads,
            is_causal=is_causal, batch_first=batch_first,
            dropout_p=self.dropout if self.training else 0.0, need_weights=need_weights or recorded is not None,
        )  # fmt: skip
        if recorded is not None and weights is not None:
            recorded.append(weights)
        return mark("joined", heads, role=role, batch_first=batch_first), weights if need_weights else None

    def project_keys_values(self, key: Tensor, value: Tensor) -> KVCache:
        """Projected keys and values for `attend`; a decoder computes them once for all its steps.

        Args:
            key: (S, B, kdim), or (B, S, kdim) if ``batch_first``.
            value: (S, B, vdim), or (B, S, vdim) if ``batch_first``.

        Raises:
            ValueError: shapes other than these.
        """
        joined = self._exchanged(self._project_keys_values(key, value))
        if self._prepares:
            joined = self._prepared_heads(joined, 0, self.num_kv_heads, 0, True)
        return KVCache(joined, joined.shape[1])

    def _project_keys_values(self, key: Tensor, value: Tensor) -> Tensor:
        """Keys and values concatenated on the last axis, in the layout of ``key``."""
        self._check("key", key, self.kdim)
        self._check("value", value, self.vdim)
        if key.shape[:2] != value.shape[:2]:
            raise ValueError(
                f"MultiheadAttention: there must be a value for each key, their shapes are {key.shape} and "
                f"{value.shape}"
            )
        if key is value and self.in_proj_weight is not None:
            return self._projected(key, 1, 3)
        return cat([self._projected(key, 1, 2), self._projected(value, 2, 3)], -1)

    def attend(
        self,
        query: Tensor,
        memory: KVCache,
        mask: Tensor | None = None,
        need_weights: bool = True,
        average_attn_weights: bool = True,
        start: int = 0,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from queries (with a batch), the first at position ``start``, to a cache; else as `forward`.

        ``mask`` is the result of `tinygrad_attn.nn.attention_masks.merge_padding_mask`.
        """
        self._check("query", query, self.embed_dim)
        queries = self._exchanged(self._projected(query, 0, 1))
        self._check_batch(queries.shape[0], memory.joined.shape[0])
        if self._prepares:
            queries = self._prepared_heads(queries, self.num_heads, 0, start, True)
        heads, weights = self._attend(queries, memory.all(), mask, "cross", True, need_weights, start=start)
        return self.out_proj(self._exchanged(heads)), _averaged(weights, average_attn_weights)

    def attend_to_past(self, x: Tensor, past: KVCache | None) -> tuple[Tensor, KVCache]:
        """Causal self-attention at the next positions, with the result of `forward` with ``is_causal`` at these.

        Args:
            x: (L, B, E), or (B, L, E) if ``batch_first``: one position, or several, as of a prompt.
            past: the cache that the call for the positions before returned; None at the first.

        Returns:
            The output, of the shape of ``x``, and all keys and values so far, as they are attended to: normalised and
            turned.

        Raises:
            ValueError: shapes other than these, or ``kdim`` or ``vdim`` differ from E.
        """
        self._check("x", x, self.embed_dim)
        if self.in_proj_weight is None:
            raise ValueError(
                "MultiheadAttention: attend_to_past reads keys and values of one size with x; kdim and vdim are "
                f"{self.kdim} and {self.vdim}"
            )
        start = 0 if past is None else past.length
        projected = self._exchanged(self._projected(x, 0, 3))
        if self._prepares:
            projected = self._prepared_heads(projected, self.num_heads, self.num_kv_heads, start, True)
        length, size = projected.shape[1], self.embed_dim
        queries, joined = part(projected, 2, 0, size), part(projected, 2, size, 2 * self.kv_size)
        if past is None:
            past = KVCache(joined, length)
        else:
            self._check_batch(queries.shape[0], past.joined.shape[0])
            past = past.extended(joined)
        # The last position attends to every earlier one, so that one alone needs no mask.
        mask = Tensor(np.tri(length, past.length, start, dtype=np.bool_)) if start and length > 1 else None
        causal = not start and length > 1
        heads, _ = self._attend(queries, past.all(), mask, "causal", True, False, causal, start)
        return self.out_proj(self._exchanged(heads)), past

    # -- projections ---------------------------------------------------------------------------------------------------

    def _in_weights(self) -> list[Parameter]:
        if self.in_proj_weight is not None:
            return [self.in_proj_weight]
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def _projected(self, x: Tensor, first: int, last: int) -> Tensor:
        """Project ``x`` by one product to queries (0), keys (1) and values (2), from ``first`` up to ``last``.

        They are concatenated on the last axis.
        """
        if self.in_proj_weight is not None:
            weight = self._rows(self.in_proj_weight, first, last)
        else:
            weight = self._in_weights()[first]
        bias = None if self.in_proj_bias is None else self._rows(self.in_proj_bias, first, last)
        return linear(x, weight, bias)

    def _rows(self, parameter: Tensor, first: int, last: int) -> Tensor:
        if (first, last) == (0, 3):
            return parameter
        starts = (0, self.embed_dim, self.embed_dim + self.kv_size, self.embed_dim + 2 * self.kv_size)
        return part(parameter, 0, starts[first], starts[last] - starts[first])

    def _exchanged(self, x: Tensor) -> Tensor:
        """Between the layout of inputs and outputs and (B, length, …), in either direction."""
        return x if self.batch_first else transpose(x, 0, 1)

    @staticmethod
    def _inputs(**inputs: Any) -> Iterator[Tensor]:
        return (layer_input("MultiheadAttention", name, x) for name, x in inputs.items())

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
        shared = "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        alibi = ", alibi=True" if self.alibi else ""
        return f"{self.embed_dim}, {self.num_heads}{shared}, batch_first={self.batch_first}{alibi}"


def check_heads(
    name: str, sizes: Mapping[str, int], num_kv_heads: int | None, rotary: RotaryPositionalEncoding | None
) -> None:
    """Check that heads share the width evenly, queries the heads of keys, and that ``rotary`` is for such heads.

    Args:
        name: of the layer that was given these arguments.
        sizes: the width and the number of heads, by the names of the layer's arguments.
        num_kv_heads, rotary: as in `MultiheadAttention`.

    Raises:
        ValueError: they do not fit.
    """
    (width_name, width), (heads_name, heads) = sizes.items()
    if width % heads:
        raise ValueError(f"{name}: {heads_name} {heads} does not divide {width_name} {width}")
    if num_kv_heads is not None and heads % num_kv_heads:
        raise ValueError(f"{name}: num_kv_heads {num_kv_heads} does not divide {heads_name} {heads}")
    if rotary is not None and rotary.dim != width // heads:
        raise ValueError(f"{name}: rotary must be for heads of size {width // heads}, it is for {rotary.dim}")


def _averaged(weights: Tensor | None, average: bool) -> Tensor | None:
    return mean(weights, 1) if weights is not None and average else weights


@context
def record_attention_weights(model: Module) -> Iterator[dict[str, list[Tensor]]]:
    """Record the weights of every layer and head of ``model``::

        with record_attention_weights(model) as weights:
            model(source, target)
        weights["decoder.layers.0.multihead_attn"][-1]  # (B, heads, L, S)

    Yields:
        For the path of each `MultiheadAttention` a list, to which every call of it inside the ``with`` appends its
        weights. They are part of the graph, so gradients flow through them.
    """
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, MultiheadAttention)]
    before = [module.recorded_weights for _, module in found]
    recorded: dict[str, list[Tensor]] = {path: [] for path, _ in found}

    def restore() -> None:
        for (_, module), kept in zip(found, before, strict=True):
            module.recorded_weights = kept

    with undone_by(restore):
        for path, module in found:
            module.recorded_weights = recorded[path]
        yield recorded
