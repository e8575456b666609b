r"""The LaTeX formulas of attention: of one number of each tensor and of its gradient, and the steps of which they are.

Those of the score are defined with the score (`tinygrad_attn.nn.SCORES`), those of what a model computes from the
context are announced by the model (`tinygrad_attn.modes.MARKS`). Every letter means one thing, which the page's legend
explains: row t is a query, column j a key, k another key, i a channel, n a symbol of the vocabulary, m another; a bar
marks the gradient of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tinygrad_attn.nn import SCORES, Score

__all__ = ["Shown", "step_formulas", "tensor_formulas"]

Formulas = dict[str, tuple[str, str]]
StepFormulas = tuple[str, str, str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Shown:
    """What a site has, as far as its formulas depend on it."""

    score: str
    """The name of its score."""
    masked: bool = False
    """Whether some keys are masked."""
    local: bool = False
    """Whether a Gaussian multiplies the weights."""
    scale: str = r"1/\sqrt{d_k}"
    r"""The definition of λ, if the score has one."""
    context_at: bool = True
    """Whether the context is a part of the joined vectors, as it is."""
    rest: bool = False
    """Whether the context is used by more than the joined vectors."""
    outcomes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The tensors that are computed from the context, each with the announced formulas of it and of its gradient."""

    @property
    def kind(self) -> type[Score]:
        return SCORES.get(self.score, Score)

    @property
    def by_product(self) -> bool:
        """Whether its score has three steps, as in multi-head attention: product, scale, mask."""
        return self.score == "scaled_dot" and "attentional" not in self.outcomes


def tensor_formulas(shown: Shown) -> Formulas:
    """For each tensor of a site the formula of one number of it and of its gradient; empty for an input of the site."""
    mixed = r"\beta" if shown.local else r"\alpha"
    through = r"\textstyle\sum_i \bar c_{ti} V_{ji}"
    raised, total = r"\exp(e_{tj})", r"\textstyle\sum_k \exp(e_{tk})"
    if shown.masked:
        raised, total = rf"M_{{tj}} {raised}", r"\textstyle\sum_k M_{tk} \exp(e_{tk})"
    formulas = {
        "Q": ("", shown.kind.gradient_formulas.get("Q", "")),
        "V": ("", rf"\bar V_{{ji}} = \textstyle\sum_t {mixed}_{{tj}} \bar c_{{ti}}"),
        "scores": (_defined(shown.kind.formula, shown.scale), rf"\bar e_{{tj}} = {_JACOBIAN}"),
        "weights": (
            rf"\alpha_{{tj}} = {raised} / {total}",
            rf"\bar \alpha_{{tj}} = {through}",
        ),
        "context": (rf"c_{{ti}} = \textstyle\sum_j {mixed}_{{tj}} V_{{ji}}", _of_context(shown)),
    }
    if shown.kind.has_keys:
        formulas["K"] = ("", shown.kind.gradient_formulas.get("K", ""))
    if shown.local:
        formulas["weights"] = formulas["weights"][0], r"\bar \alpha_{tj} = \bar \beta_{tj} G_{tj}"
        formulas["gaussian"] = (_GAUSSIAN, r"\bar G_{tj} = \bar \beta_{tj} \alpha_{tj}")
        formulas["mixed"] = (r"\beta_{tj} = \alpha_{tj} G_{tj}", rf"\bar \beta_{{tj}} = {through}")
    if shown.by_product:
        formulas["joined"] = (r"u_t = [c_t^1; \dots; c_t^H]", "")
    for tensor, (value, gradient) in shown.outcomes.items():
        if tensor == "logits":
            value, gradient = _joined(value, _PREDICTION), _OF_LOSS
        formulas[tensor] = (value or formulas.get(tensor, ("", ""))[0], gradient)
    return formulas


def step_formulas(shown: Shown) -> list[StepFormulas]:
    """The steps: key, the tensor that the step makes and its formula, and the gradients that leave the step backward.

    Each of these is a tensor that the step reads, and the formula of its gradient. The gradient of what the last step
    makes stands there too: it is the first.
    """
    formulas = tensor_formulas(shown)

    def step(key: str, makes: str, *reads: str) -> StepFormulas:
        return key, makes, formulas[makes][0], [(read, formulas[read][1]) for read in reads if read in formulas]

    steps = _product_steps(shown) if shown.by_product else [step("score", "scores", "Q", "K")]
    if not shown.by_product:
        steps.append(step("softmax", "weights", "scores"))
    if shown.local:
        steps.append(step("window", "mixed", "weights", "gaussian"))
    steps.append(step("weighted_sum", "context", "mixed" if shown.local else "weights", "V"))
    made = "context"
    for tensor, key in (("joined", "joined" if shown.by_product else "concatenation"), *_AFTER):
        if tensor in shown.outcomes:
            steps.append(step(key, tensor, made))
            made = tensor
    steps[-1][3].insert(0, (made, formulas[made][1]))
    return steps


_AFTER = (("attentional", "attentional"), ("logits", "output"))
_JACOBIAN = r"\alpha_{tj} \left(\bar \alpha_{tj} - \textstyle\sum_k \alpha_{tk} \bar \alpha_{tk}\right)"
_GAUSSIAN = r"G_{tj} = \exp\left(-(j - \mu_t)^2 / (2 \sigma^2)\right)"
_PREDICTION = r"p_{tn} = \exp(o_{tn}) / \textstyle\sum_m \exp(o_{tm})"
_OF_LOSS = r"\bar o_{tn} = (p_{tn} - [n = y_t]) / T"


def _product_steps(shown: Shown) -> list[StepFormulas]:
    """A scaled dot product in three steps, and the softmax after the mask."""
    hidden = r"\text{ where } M_{tj} = 1, \text{ else } {-\infty}" if shown.masked else ""
    open_ = "M_{tj} " if shown.masked else ""
    return [
        (
            "product", "product", r"P_{tj} = \textstyle\sum_i Q_{ti} K_{ji}",
            [
                ("Q", r"\bar Q_{ti} = \textstyle\sum_j \bar P_{tj} K_{ji}"),
                ("K", r"\bar K_{ji} = \textstyle\sum_t \bar P_{tj} Q_{ti}"),
            ],
        ),
        (
            "scale", "scores", _defined(r"e_{tj} = \lambda P_{tj}", shown.scale),
            [("product", r"\bar P_{tj} = \lambda \bar e_{tj}")],
        ),
        (
            "mask", "masked", rf"\hat e_{{tj}} = e_{{tj}}{hidden}",
            [("scores", rf"\bar e_{{tj}} = {open_}\bar{{\hat e}}_{{tj}}")],
        ),
        (
            "softmax", "weights", r"\alpha_{tj} = \exp(\hat e_{tj}) / \textstyle\sum_k \exp(\hat e_{tk})",
            [("masked", rf"\bar{{\hat e}}_{{tj}} = {_JACOBIAN}")],
        ),
    ]  # fmt: skip


def _of_context(shown: Shown) -> str:
    if "joined" not in shown.outcomes or not shown.context_at:
        return ""
    return r"\bar c_t = [\bar u_t]_c" + (r" + \bar r_t" if shown.rest else "")


def _defined(formula: str, scale: str) -> str:
    """The formula, with a definition of λ if λ is in it."""
    return _joined(formula, rf"\lambda = {scale}") if r"\lambda" in formula else formula


def _joined(*formulas: str) -> str:
    return r", \quad ".join(formula for formula in formulas if formula)
