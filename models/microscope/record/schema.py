"""The schema of the microscope's data: ``microscope(…).data``, the page's JSON, the server's answer.

Arrays are stored once, in ``data["arrays"]``, under an id that everything else refers to: little endian, C order,
base64, so that every bit is kept, nan and infinities too. Single numbers are JSON numbers, which Python writes with all
their digits, or, if a model has diverged, the strings "NaN", "Infinity" and "-Infinity"; None (null) stands for a
missing number.

Batch axes are dropped (there is one sentence). Tensors of attention have the axes (heads, rows, columns), with one head
in the recurrent models: rows are queries, or keys for K and V, columns are keys, or channels.

Stored are the tensors of every attention site in full, and the parameters that a cell's formula needs, the decoder's
tensors around attention, the logits, and all parameters with their uses, as long as all arrays together stay below
``kept["limit"]`` bytes. Arrays that do not fit are dropped in the order of `PRIORITIES`, the last first, and of equal
priority those farthest from the loss, so that the attention of the last layers stays; their names are in
``kept["dropped"]``. Masks are dropped last. Of the tape only shapes, norms and states are stored.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from .views import OfModule, StepTaken, Views

__all__ = [
    "LIMIT", "PRIORITIES", "SCHEMA", "Cell", "Check", "Data", "Identity", "Kink", "LayerPaths", "Leaving", "Meta",
    "NotFinite", "Paths", "Sentence", "Site", "SiteTensor", "Snippet", "Step", "StoredArray", "TapeOp",
    "Token",
]  # fmt: skip

SCHEMA = "tinygrad_attn.microscope/2"
LIMIT = 10_500_000
"""The most bytes of all arrays together; base64 makes them a third larger."""

PRIORITIES = ("site", "weight", "decoder", "logits", "parameter", "film")
"""The groups of arrays, the most important first."""

State = Literal["value", "zero", "none", "nan"]
"""The states of a gradient: with values, exactly zero throughout, missing (it never arrived), with a nan."""


class StoredArray(TypedDict):
    """An array: little endian, C order."""

    dtype: Literal["float64", "float32", "bool", "int64"]
    """float32 where that loses nothing, as of trained weights; bool has a byte an element."""
    shape: list[int]
    base64: str


class Sentence(TypedDict):
    """A sequence of symbols, shown as text whatever they look like."""

    text: str
    tokens: list[str]
    """A name for each symbol: of one that the vocabulary does not have, what the reader wrote, as in "☃ (<unk>)"."""
    ids: list[int]


class Token(TypedDict):
    """The model's prediction at one position of the target, or of a text."""

    read: str
    """The symbol that the decoder reads, ``<s>`` at first; of a language model, the text's first symbol at first."""
    expected: str
    """The symbol to predict."""
    expected_id: int
    """Its id: its column in the logits."""
    loss: float
    """-ln p(expected)."""
    probability: float
    """NaN where the logits are not finite."""
    predicted: list[tuple[str, float]]
    """The likeliest symbols with their probabilities, at most five."""


class Meta(OfModule):
    """Facts about the model, its run, and the options of the call."""

    model: str
    """The class: "Bahdanau"."""
    config: dict[str, Any]
    """The model section of the run's config; empty for a model without a run."""
    run: str
    """The name of the run's folder; empty without one."""
    seed: int | None
    commit: str
    """The commit of the code that trained the run."""
    parameters: int
    """The number of the model's parameters."""
    dtype: str
    """The dtype of the computation: "float64"."""
    trained_dtype: str
    """The dtype of the model's own parameters: "float32"."""
    loss: float
    """The mean of the tokens' losses, which is differentiated."""
    target_from: Literal["given", "greedy"]
    """Whether the reader gave the target, or the text, or the model translated greedily."""
    broken: str | None
    """The name of the gallery's broken derivative, if one is shown."""
    nudge: dict[str, Any] | None
    """The change made to a weight: see `models.microscope.record.rerun.Rerun`."""
    step: StepTaken | None
    """The step that the weights have taken, if one was asked for."""
    nudgeable: list[dict[str, Any]]
    """``{"name", "shape"}`` of every parameter."""
    served: dict[str, str] | None
    """``{"token"}`` when a live server made the page; None for one that stands alone."""


class SiteTensor(TypedDict):
    """One tensor of an attention site, and its gradient *through this site*.

    If a tensor has other uses too (s and h in Luong's models, which are K and V at once), the gradient is the sum of
    the contributions along the edges of this site only.
    """

    axes: list[str]
    """Three of "head", "query", "key", "channel", "symbol"."""
    shape: list[int]
    value: str | None
    """The id of an array, None if dropped."""
    gradient: str | None
    """The id of an array of the same shape, None if dropped or not reached: ``state`` tells."""
    state: State
    norm: float
    gradient_norm: float | None
    latex: str
    """The formula of one cell."""
    gradient_latex: str
    """The formula of one cell of the gradient."""
    calls: list[int]
    """The ops that made it, as indices of the tape; empty for an input or a parameter."""


class Leaving(TypedDict):
    """A gradient that leaves a step backward: that of a tensor which the step reads."""

    tensor: str
    latex: str
    """The formula of the gradient; empty if it arrives from outside."""


class Step(TypedDict):
    """A step of attention."""

    key: str
    """score, softmax, window (of local-p), weighted_sum, concatenation, attentional, output; of the Transformer
    product, scale, mask, softmax, weighted_sum, joined. A model has those whose tensors it announces."""
    tensor: str
    """What the step makes: one of the site's tensors, or one of two that the page computes: product = scores / scale,
    whose gradient is the scores' times scale; and masked, the scores with -inf where the mask is False."""
    latex: str
    """The formula of ``tensor``."""
    backward: list[Leaving]
    """The gradients that leave the step, of the tensors that it reads. The first of the last step is that of its own
    ``tensor``, which arrives from the loss or from outside."""
    calls: list[int]


class Site(TypedDict):
    """An attention site: one attention module of the model; the recurrent models' decoder steps are its rows."""

    id: str
    """The module's path: "attention", "encoder.layers.0.self_attn"."""
    role: Literal["cross", "self", "causal"]
    score: str
    """A name in `tinygrad_attn.nn.SCORES`, or the class of a score that is not there."""
    module: str
    layer: int | None
    heads: int
    scale: float
    """The factor of Q·K; 1 without scaling."""
    queries: list[str]
    """A label for each row."""
    keys: list[str]
    """A label for each column."""
    tensors: dict[str, SiteTensor]
    """Q, K (missing for the location score), V, scores, weights, context; with local-p gaussian and mixed = weights ·
    gaussian; joined; attentional and logits."""
    mask: str | None
    """The id of a bool array (1 or heads, queries, keys), True where a query may attend; None if all may."""
    weights: dict[str, str | None]
    """Parameters that formulas need, by name: v (of additive and concat, a number for each channel), W (of
    location, a row for each key)."""
    recipes: dict[str, Any]
    """How the numbers that depend on the score are computed: of "scores" at (t, j), of the gradient of "Q" at (t, i),
    of that of "K" at (j, i), as expressions (`tinygrad_attn.nn.scores.Expression`, its tuples as lists). Empty for a
    score that has none."""
    context_at: int | None
    """The channel of joined at which the first head's context begins, those of the others following; None if joined is
    missing, or does not have the contexts as they are."""
    steps: list[Step]


class Identity(TypedDict):
    """An equation between numbers of one site that holds for any right derivative."""

    site: str
    name: str
    """softmax_rows_sum_to_zero, masked_are_zero, inner_products_agree, values_sum_as_outputs, additive_sums_agree, …"""
    latex: str
    holds: bool
    worst: float
    """The largest difference, divided by the size of the compared numbers."""
    tolerance: float


class Kink(TypedDict):
    """An op whose derivative jumps, as relu's does at 0, within the step of a difference."""

    call: int | None
    """Its number on the tape."""
    op: str
    module: str
    cell: list[int]
    """The element that is on another side of the kink."""


class Cell(TypedDict):
    """A sampled element of a gradient beside its central difference."""

    site: str
    tensor: str
    head: int
    row: int
    column: int
    gradient: float
    difference: float
    """(L(x + eps) - L(x - eps)) / 2 eps, by running every op after it again."""
    left: float
    """(L(x) - L(x - eps)) / eps."""
    right: float
    """(L(x + eps) - L(x)) / eps."""
    plus: float
    """L(x + eps)."""
    minus: float
    """L(x - eps)."""
    eps: float
    error: float
    """|gradient - difference| / the largest of the gradient's elements and the difference."""
    uncertainty: float
    """How far the difference may be from the derivative: by the rounding of the loss, and where another step was
    needed by what the step changes."""
    largest: float
    """The gradient's largest element."""
    resolved: bool
    """Whether the difference is certain enough to tell; else ``reason`` says why not."""
    reason: Literal["", "rounding", "kink", "curvature", "not_finite"]
    """Why it cannot be resolved: the gradient is smaller than what the loss's rounding lets a difference see; a kink is
    inside the step; the loss bends too much within every step that is large enough; the pass is not finite."""
    kink: Kink | None
    """The first op with a kink in the step, if there is one."""
    holds: bool
    """Whether they agree, or cannot be resolved."""


class NotFinite(TypedDict):
    """Where NaNs and infinities come from."""

    what: Literal["weight", "input", "op", "gradient"]
    """A weight, an input or constant, the result of an op, or the gradient that an op sends back."""
    name: str
    """Of the weight or of the op."""
    call: int | None
    """The op's number on the tape."""
    module: str
    step: int | None
    cell: list[int]
    """The first element that is not finite."""
    value: str
    """That element: "nan", "inf" or "-inf"."""
    count: int
    """How many elements of the array are not finite."""
    reaches: bool
    """Whether the loss or a gradient is not finite either. If not, all numbers shown are right."""


class Check(TypedDict):
    """The verification badge."""

    state: Literal["good", "bad", "not_finite"]
    """Bad means a wrong derivative, or a wrong number. Where the pass is not finite nothing can be verified, and
    ``not_finite`` tells the source."""
    ok: bool
    """Whether the state is good."""
    not_finite: NotFinite | None
    compared: int
    """How many of ``cells`` are resolved."""
    worst: float
    """The largest of their errors."""
    tolerance: float
    unresolved: int
    """How many are not, and do not count as compared."""
    unresolved_because: dict[str, int]
    """How many by each reason of `Cell`."""
    rounding: float
    """How far the roundings of all ops together may have moved the loss. A gradient that moves the loss by less than
    that within a step cannot be seen in a difference."""
    recomputed: int
    """How many numbers of the sites were recomputed in plain NumPy, from the numbers before them."""
    recomputed_worst: float
    """The largest error, in proportion to the terms that the number was computed from (see `checks.rounding`)."""
    recomputed_tolerance: float
    replayed: int
    """How many ops of the tape were recomputed in plain NumPy, forward and backward."""
    replayed_worst: float
    unknown_ops: list[str]
    """The ops on the tape without a NumPy version in `checks.ops`; normally none."""
    identities: list[Identity]
    cells: list[Cell]
    failing: int
    """How many checks fail."""
    failures: list[dict[str, Any]]
    """``{"kind": "difference|recomputed|replayed|identity", "site", "tensor", "part", "cell", "call", "expected",
    "found", "error"}``, without the keys that do not apply; at most twenty, in turns of each kind the largest error. An
    error of None is nan."""


class TapeOp(TypedDict):
    """One op of the forward pass, in order; its index in ``data["tape"]`` is its number."""

    op: str
    """A key of ``data["ops"]``."""
    module: int
    """An index into ``data["modules"]``."""
    step: int | None
    """The time step: of the encoder in the encoder, of the decoder in the decoder."""
    line: int
    """An index into ``data["lines"]``."""
    shape: list[int]
    dtype: str
    norm: float | None
    """Of the output; None for booleans and integers."""
    gradient_norm: float | None
    state: State
    inputs: list[int | str | None]
    """For each operand the op that made it; the name of a parameter or an input; None for other constants."""
    edges: list[float | None]
    """For each operand the norm of this op's contribution to its gradient, before summation."""
    site: NotRequired[str]
    """The site it belongs to."""
    tensor: NotRequired[str]
    """Which of the site's tensors it makes."""


class LayerPaths(TypedDict):
    """The gradient at the input x of one sublayer with a residual connection, by branch: for every symbol its norm.

    As vectors skip + branch = total.
    """

    module: str
    """The layer."""
    sublayer: str
    """self_attention, attention (to the source), feed_forward."""
    tokens: list[str]
    skip: list[float]
    """Past the sublayer, through the residual connection."""
    branch: list[float]
    """Through the sublayer (and its norm, where that comes first)."""
    total: list[float]


class Paths(TypedDict):
    """For every symbol of the source the norm of the gradient of its encoder state, by the way it entered the encoder.

    The gradient enters one way at a time, at every symbol, and flows on through the encoder's own steps. The norms are
    those of vectors whose sum is the gradient, with the norm ``total``. Of a model that announces no encoder states, as
    a language model, which has none, ``tokens``, ``ways`` and ``total`` are empty, and there are ``layers`` alone.
    """

    run: str
    model: str
    tokens: list[str]
    ways: dict[str, list[float]]
    """By way: value, through the weighted sums; key, through the scores; start, through the state that the decoder
    starts with. Those that the model has; and other, if something came by none that the model announces."""
    total: list[float]
    off: float
    """The largest element of the sum of the parts minus the gradient, divided by the gradient's largest."""
    layers: list[LayerPaths]
    """The sublayers with a residual connection, in the order of the forward pass; empty for models without."""
    loss: float


class Snippet(TypedDict):
    """NumPy code that computes one cell of a gradient from numbers that the page shows.

    The code of a cell is: ``import numpy as np``, a line ``name = np.array(numbers)`` for every one of ``needs``, then
    ``code``, which ends by printing the result (see `models.microscope.checks.snippets.render_snippet`).
    """

    score: str
    """The name of the score it is for; "any" for all."""
    tensor: str
    part: Literal["value", "gradient"]
    needs: dict[str, list[str]]
    """For each name [tensor, part, slice], with respect to the selected cell (head, row, column).

    part: value or gradient of a tensor of the site; weight, of the site's ``weights``; mask, the site's. slice: row and
    query_row are the tensor's row at the cell's row; column and key_column its column at the cell's *row* (the cell is
    of K or V, whose rows are keys); key_row its row at the cell's column; channel its column at the cell's column;
    element its element at the cell (of a weight, at the cell's column); all the whole.
    Tensors that are none: scale (the site's number), column (the cell's column itself), mixture (mixed where the site
    has it, else weights); gaussian is 1.0 where the site has none, and a mask of None all True.
    """
    code: str


class Data(Views):
    """Everything; `models.microscope.record.views.Views` has what the views beyond attention show."""

    schema: Literal["tinygrad_attn.microscope/2"]
    meta: Meta
    source: Sentence | None
    """None of a language model, which has none."""
    target: Sentence
    """Without <s> and </s>. Of a language model, the text; with a loss of the user's own, the inputs, no symbols."""
    translation: Sentence | None
    """The model's own greedy translation; None of a language model."""
    tokens: list[Token]
    """One for each place of the target, </s> included; of a text, for each symbol but the first, which is given."""
    symbols: list[str]
    """The target's symbols by id: the names of the logits' columns."""
    check: Check
    sites: list[Site]
    """Empty for seq2seq."""
    paths: list[Paths]
    """The paths of this run, and of the run beside it if there is one."""
    ops: dict[str, dict[str, Any]]
    """By name ``{"latex", "vjp": {operand: latex}}``, as they were used: wrong derivatives of the gallery too."""
    modules: list[str]
    lines: list[str]
    tape: list[TapeOp]
    snippets: list[Snippet]
    kept: dict[str, Any]
    """``{"limit", "bytes", "dropped": [names]}``."""
    arrays: dict[str, StoredArray]
