r"""The LaTeX formulas of attention: one cell of each tensor and its gradient, and the six steps.

Those of the score itself are defined with the score (`tinygrad_attn.nn.SCORES`). Row t is a query, column j a key, c a
channel, a a unit of an additive score; a bar marks the gradient of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from tinygrad_attn.nn import SCORES, Score

__all__ = ["cell_formulas", "step_formulas"]

Step = tuple[str, str | None, list[str], str, str]


def cell_formulas(score: str, local: bool) -> dict[str, tuple[str, str]]:
    """For each tensor of a site the formula of a cell and of its gradient.

    Args:
        score: its name.
        local: whether a Gaussian multiplies the weights.
    """
    kind = SCORES.get(score, Score)
    m = "m" if local else r"\alpha"
    through = r"\bar m_{tj} g_{tj}" if local else r"\textstyle\sum_c \bar c_{tc} V_{jc}"
    formulas = {
        "Q": (r"Q_{tc}", kind.gradient_formulas.get("Q", "")),
        "V": (r"V_{jc}", rf"\bar V_{{jc}} = \textstyle\sum_t {m}_{{tj}} \bar c_{{tc}}"),
        "scores": (
            kind.formula,
            r"\bar e_{tj} = \alpha_{tj} \left(\bar \alpha_{tj} - \textstyle\sum_k \alpha_{tk} \bar \alpha_{tk}\right)",
        ),
        "weights": (
            r"\alpha_{tj} = e^{e_{tj}} / \textstyle\sum_k e^{e_{tk}}",
            rf"\bar \alpha_{{tj}} = {through}",
        ),
        "context": (rf"c_{{tc}} = \textstyle\sum_j {m}_{{tj}} V_{{jc}}", r"\bar c_{tc}"),
        "joined": ("", ""),
        "attentional": ("", ""),
        "logits": ("", r"\bar y_{tk} = \tfrac{1}{T} (p_{tk} - [k = y_t])"),
    }
    if kind.has_keys:
        formulas["K"] = (r"K_{jc}", kind.gradient_formulas.get("K", ""))
    if local:
        formulas["gaussian"] = (
            r"g_{tj} = \exp\left(-(j - p_t)^2 / 2\sigma^2\right)",
            r"\bar g_{tj} = \bar m_{tj} \alpha_{tj}",
        )
        formulas["mixed"] = (
            r"m_{tj} = \alpha_{tj} g_{tj}",
            r"\bar m_{tj} = \textstyle\sum_c \bar c_{tc} V_{jc}",
        )
    return formulas


def step_formulas(score: str, local: bool, outcomes: Mapping[str, tuple[str, str]]) -> list[Step]:
    """The six steps: key, the tensor they make, those they read, and the formulas forward and backward.

    Args:
        score: its name.
        local: whether a Gaussian multiplies the weights.
        outcomes: the formulas that the model announces for the tensors computed from the context; "attentional" is
            among them if a decoder's output follows, and not other heads.
    """
    cells = cell_formulas(score, local)
    mix = ["mixed", "V"] if local else ["weights", "V"]
    attending: list[Step] = [
        (
            "softmax", "weights", ["scores"], r"\alpha_t = \operatorname{softmax}(e_t)",
            r"\bar e_t = \left(\operatorname{diag}(\alpha_t) - \alpha_t \alpha_t^\top\right) \bar \alpha_t",
        ),
        ("weighted_sum", "context", mix, cells["context"][0], f"{cells['weights'][1]}, \\quad {cells['V'][1]}"),
    ]  # fmt: skip
    if score == "scaled_dot" and "attentional" not in outcomes:
        return [*_product_steps(cells), *attending, _HEADS_JOINED]
    read: list[str] = [name for name in ("Q", "K") if name in cells]
    into_scores = ", \\quad ".join(cells[name][1] for name in read if cells[name][1])
    return [
        ("score", "scores", read, cells["scores"][0], into_scores),
        *attending,
        ("concatenation", "joined", ["context"], *outcomes.get("joined", ("", ""))),
        ("attentional", "attentional", ["joined"], *outcomes.get("attentional", ("", ""))),
        (
            "output", "logits", ["attentional"],
            r"y_t = W_y \tilde s_t + b_y, \quad p_t = \operatorname{softmax}(y_t)",
            r"\bar{\tilde s}_t = W_y^\top \bar y_t, \quad \bar y_t = \tfrac{1}{T} (p_t - [y_t])",
        ),
    ]  # fmt: skip


def _product_steps(cells: Mapping[str, tuple[str, str]]) -> list[Step]:
    """A scaled dot product in three steps."""
    return [
        ("product", "scores", ["Q", "K"], r"P = Q K^\top", f"{cells['Q'][1]}, \\quad {cells['K'][1]}"),
        ("scale", "scores", ["Q", "K"], r"e = s P, \quad s = 1/\sqrt{d}", r"\bar P = s\, \bar e"),
        ("mask", "scores", ["scores"], r"e_{tj} = -\infty \text{ where } m_{tj} = 0", r"\bar e_{tj} = 0"),
    ]


_HEADS_JOINED: Step = (
    "joined", "joined", ["context"], r"u = [c^1; \dots; c^h]", r"\bar c^i = \text{part } i \text{ of } \bar u",
)  # fmt: skip
