"""The schema of what the views beyond attention show: the parts of `models.microscope.record.schema.Data` named below.

Arrays are ids of ``data["arrays"]``, as everywhere; None for one that was dropped for size, or is not there.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from tinygrad_attn.record import GradientState

__all__ = [
    "Block", "Curve", "EmbeddedSide", "Embeddings", "Film", "Frame", "FrameSite", "Heads", "Layers", "Lens",
    "LensToken", "OfModule", "OptimizerStep", "Parameter", "Part", "Sentences", "Stack", "StepTaken", "Sublayer",
    "UseGroup", "Views", "Vocabulary",
]  # fmt: skip


class Block(TypedDict):
    """Rows of a parameter that are a matrix of their own: W^Q of an ``in_proj_weight``, a gate of an LSTM."""

    name: str
    rows: list[int]
    """The first, and the one after the last."""
    norm: float
    gradient_norm: float | None


class UseGroup(TypedDict):
    """Uses of a parameter by one op of one module: at every time step, at every position.

    What each term adds to the gradient is the matrix left_n right_nᵀ, in the rows ``rows`` of the parameter; a vector
    is a column.
    """

    op: str
    module: str
    of: Literal["source", "target", ""]
    """Which symbols ``positions`` counts; empty if it counts neither."""
    rows: list[int] | None
    """The first row that it uses, and the one after the last."""
    left: str | None
    """(N, rows). Like ``right`` None if the parameter is too large, or if an op adds no products of vectors."""
    right: str | None
    """(N, columns)."""
    calls: list[int]
    """For each term the op on the tape."""
    positions: list[int]
    """For each term its symbol, or its time step."""
    shares: list[float]
    """For each term ⟨its matrix, gradient⟩ / ‖gradient‖²: how much of the gradient it is. They add up to 1."""
    norms: list[float]


class Parameter(TypedDict):
    """A parameter, its gradient, and every use of it."""

    name: str
    shape: list[int]
    rows: list[int] | None
    """The rows kept, of a matrix of which only some have a gradient, as of an embedding; None for all."""
    row_names: list[str] | None
    """The symbols that the kept rows belong to, if they belong to symbols."""
    value: str | None
    """As a matrix, a vector as a column."""
    gradient: str | None
    """As recorded. None where the page computes it from the uses, or if it was dropped."""
    norm: float
    gradient_norm: float | None
    state: GradientState
    blocks: list[Block]
    """Empty if the rows are one matrix."""
    uses: list[UseGroup]
    off: float
    """The largest element of the sum of all uses minus the gradient, in proportion to the gradient's largest."""


class EmbeddedSide(TypedDict):
    """The symbols of the source, or those that the decoder reads, or of a text."""

    names: list[str]
    norms: str | None
    """(tokens, symbols): ‖∂L_t/∂x_j‖, of the loss L_t of one token and the embedding x_j of one symbol."""
    effects: str | None
    """(tokens, symbols): ⟨x_j, ∂L_t/∂x_j⟩; above zero, a larger x_j raises the loss of token t."""
    total_norms: list[float]
    """‖∂L/∂x_j‖, of the loss itself, the mean of the L_t."""
    total_effects: list[float]
    """⟨x_j, ∂L/∂x_j⟩."""
    erased: list[float] | None
    """By how much the loss really changes if x_j is replaced by zeros; None of long texts."""


class Embeddings(TypedDict):
    """The gradient at the embeddings, through everything that follows them."""

    tokens: list[int]
    """The rows: tokens of the target, all of them unless there are very many; then those of the largest loss."""
    sides: dict[str, EmbeddedSide]
    """By name "source" and "target", those that the model embeds; of a text "target" alone."""


class Part(TypedDict):
    """What comes to the input of attention through one of its maps."""

    name: str
    """Q, K or V."""
    norm: float


class Sublayer(TypedDict):
    """A sublayer with a residual connection, y = x + F(x). All numbers are norms over all positions, or shares."""

    module: str
    """The layer."""
    sublayer: str
    """self_attention, attention (to the source), feed_forward."""
    input: float
    """‖x‖."""
    added: float
    """‖F(x)‖."""
    arrives: float
    """‖∂L/∂y‖."""
    total: float
    """‖∂L/∂x‖."""
    skip: float
    """Of the gradient past the sublayer."""
    branch: float
    """Of the gradient through it."""
    skip_share: float
    """⟨that past it, ∂L/∂x⟩ / ‖∂L/∂x‖²; with ``branch_share`` 1."""
    branch_share: float
    norm_input: float | None
    """Of the gradient at the input of the layer norm; None without one."""
    norm_output: float | None
    """Of the gradient at its output."""
    parts: list[Part]
    """Of attention."""


class Stack(TypedDict):
    """Layers on top of each other, such as those of the encoder."""

    name: str
    sublayers: list[Sublayer]
    """In the order of the forward pass."""


class Layers(TypedDict):
    """The gradient through all layers of a run."""

    run: str
    model: str
    loss: float
    norm_first: bool | None
    """Whether the norms are inside the sublayers (pre-norm), or around the sums (post-norm); None without norms."""
    stacks: list[Stack]


class Heads(TypedDict):
    """The heads of one attention site, beside each other."""

    site: str
    entropy: list[float]
    """Of each head: the mean over queries of −Σ α ln α, in nats."""
    gradient_norms: list[float]
    """Of each head ‖∂L/∂e‖."""
    weights_alike: list[list[float]]
    """The cosine between the weights of each two heads, as matrices."""
    gradients_alike: list[list[float]] | None
    """The cosine between the gradients of their scores; None if there is none."""


class LensToken(TypedDict):
    """A state at one token, read through the output layer."""

    says: list[tuple[str, float]]
    """The likeliest symbols with their probabilities, if the output layer read this state."""
    expected: float
    """The probability of the symbol to predict."""
    asks: list[tuple[str, float]]
    """The largest elements of −W ∂L/∂x: the symbols whose logits would grow most along −∂L/∂x."""
    drops: list[tuple[str, float]]
    """The smallest."""
    asks_expected: float
    """That of the symbol to predict."""


class Lens(TypedDict):
    """The state after a sublayer, for every token."""

    name: str
    """The layer, as in "layers.0"; empty for embeddings, and for the output layer's own input."""
    sublayer: str
    """As in `Sublayer`; "embeddings", or "output" of a model without residual connections."""
    tokens: list[LensToken]


class Vocabulary(TypedDict):
    """The states that the output layer can read, the first first."""

    normed: bool
    """Whether the model's last norm was applied to each state."""
    states: list[Lens]


class OptimizerStep(TypedDict):
    """Steps of one optimiser of several sizes, each from the weights as they are."""

    optimizer: str
    """sgd or adam."""
    slope: float
    """⟨g, d⟩ of the gradient and the step's direction: the loss is predicted to change by rate · slope."""
    rates: list[float]
    losses: list[float]
    """The loss after the step of each rate."""


class StepTaken(TypedDict):
    """A step that the weights have taken before the pass that is shown."""

    optimizer: str
    rate: float
    before: float
    """The loss before."""
    predicted: float
    """The loss after it, to first order."""


class Curve(TypedDict):
    """A number of every sentence at several places, with its spread over the sentences that have it."""

    name: Literal["loss", "distance", "position", "entropy", "gradient"]
    """loss: of the sentence. distance: ‖∂L_t/∂x_j‖, of token t's loss and the embedding of symbol j, the mean over all
    that are so many symbols apart; 0 is the symbol that was read last. position: ‖∂L/∂x_j‖ by j. entropy and gradient:
    of an attention's heads, as in `Heads`."""
    of: str
    """"source" or "target" (of a text, too), the symbols; of a head the site; of the loss empty."""
    measure: Literal["norm", "share", ""]
    """Of distance and position: the norm, or its share of the sum over all symbols, of token t or of L."""
    places: list[int]
    """The distances, positions or heads."""
    values: str | None
    """(sentences, places), nan for none."""
    count: list[int]
    """For each place the sentences that have it."""
    mean: list[float | None]
    error: list[float | None]
    """The standard error of the mean; None of a single sentence."""
    lower: list[float | None]
    """The first quartile."""
    median: list[float | None]
    upper: list[float | None]
    """The third quartile."""
    own: list[float | None]
    """The number of the sentence that is shown; None where it has none."""
    below: list[int | None]
    """How many sentences have a smaller one."""


class Sentences(TypedDict):
    """Averages over many sentences, among which the one that is shown may stand."""

    count: int
    split: Literal["test", "valid", "given"]
    """What they were drawn from; or given."""
    left_out: int
    """How many could not be read, or had no finite loss."""
    texts: list[tuple[str | None, str]]
    """For each its source, None of a text, and its target or the text."""
    curves: list[Curve]


class FrameSite(TypedDict):
    """What one attention site does in a frame. Lists are by head, and take the mean over the queries that have several
    keys to choose from; None where there is no such query, or no gradient."""

    site: str
    weights: str | None
    """(heads, queries, keys)."""
    gradient: str | None
    """∂L/∂e, likewise."""
    spread: list[float | None]
    """The standard deviation of a query's scores."""
    entropy: list[float | None]
    """−Σ α ln α, in nats."""
    room: list[float | None]
    """The largest entropy that there could be: the logarithm of the number of keys."""
    largest: list[float | None]
    """The largest weight of a query."""
    saturated: list[float | None]
    """The share of queries whose largest weight is at least ``Film["saturated_at"]``."""
    weights_gradient: list[float | None]
    """‖∂L/∂α‖, without masked keys."""
    scores_gradient: list[float | None]
    """‖∂L/∂e‖."""


class Frame(TypedDict):
    """The pass with the weights of one step of training."""

    step: int | None
    """None of the weights that the other views show, if they are those of no kept step."""
    shown: bool
    """Whether the other views show these weights."""
    loss: float
    losses: list[float]
    """By token."""
    sites: list[FrameSite]
    norms: list[float]
    """‖W‖ of each of ``Film["parameters"]``."""
    gradient_norms: list[float | None]
    """‖∂L/∂W‖, likewise."""


class Film(TypedDict):
    """The same sentence with the weights that a run kept while it was trained."""

    run: str
    model: str
    saturated_at: float
    parameters: list[str]
    frames: list[Frame]
    """In the order of their steps; one that has no step is the last."""


class Views(TypedDict):
    """The parts of the data by view."""

    films: list[Film]
    """Of this run, and of the run beside it; those that have kept checkpoints."""

    layers: list[Layers]
    """Of this run, and of the run beside it; those that announce residual connections."""
    steps: list[OptimizerStep]
    """For each optimiser; empty of a pass that is not finite."""
    heads: list[Heads]
    """Of each site."""
    vocabulary: Vocabulary | None
    """None of a model that has no announced linear output layer."""
    embeddings: Embeddings | None
    """None of a model that looks no embeddings up."""
    sentences: Sentences | None
    """None where no averages were asked for."""
    parameters: list[Parameter]
    """Those that the pass used, in the model's order."""


class OfModule(TypedDict):
    """The facts of a module with a loss of the user's own, part of `models.microscope.record.schema.Meta`."""

    inputs: list[str] | None
    """What it was given, as "x: float64 (2, 5, 8)"; None of other models."""
    missing: list[str]
    """What cannot be shown of it, by the keys of the page's words: tokens, batch, evaluation, outside."""
