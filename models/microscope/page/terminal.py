"""The microscope in a terminal: the page's numbers as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...console.counts import counted
from ...console.symbols import visible
from ...console.tables import print_table
from ..checks.finite import describe_not_finite
from ..checks.verdict import verdict_of
from ..record.arrays import decoded
from ..record.example import headline
from ..record.schema import Check, Data, Paths, Site, SiteTensor
from ..record.views import Film, Sentences

__all__ = ["print_microscope"]

_SHOWN = ("scores", "weights")
_MISSING = {
    "tokens": "symbols and predictions, since the loss is a number",
    "batch": "the batch but its first item",
    "evaluation": "dropout",
    "outside": "the ops of PyTorch outside attention",
}
_CURVES = {
    ("loss", ""): "loss",
    ("distance", "norm"): "|dL_t/dx| by distance from the token",
    ("distance", "share"): "share of the token's gradient by distance",
    ("position", "norm"): "|dL/dx| by position",
    ("position", "share"): "share of the loss's gradient by position",
    ("entropy", ""): "entropy by head,",
    ("gradient", ""): "|dL/de| by head,",
}
_SPREAD = ("mean", "error", "lower", "median", "upper", "own")
_DIGITS = 6


def print_microscope(data: Data) -> None:
    """Print the summary, the badge, every attention site, the paths of the gradient, and the steps that were kept.

    A site is printed with the norms of all its tensors, and the scores and weights of each head with their gradients.
    """
    meta, check = data["meta"], data["check"]
    print(f"{meta['model']}: {headline(data)}")
    if meta["inputs"] is None:
        print(f"loss {meta['loss']:.{_DIGITS}g}, the mean of -ln p over {counted(len(data['tokens']), 'token')}")
        _print_tokens(data)
    else:
        print(f"loss {meta['loss']:.{_DIGITS}g}; not shown: {', '.join(_MISSING[what] for what in meta['missing'])}")
    _print_badge(check)
    if not data["sites"]:
        print("the model announces no attention (see tinygrad_attn.modes.mark)")
    for site in data["sites"]:
        print(f"\nAttention at {site['id']}, score {site['score']}")
        print_table(
            ["tensor", "shape", "norm", "norm of dL/d", "gradient"],
            [
                [name, "×".join(map(str, tensor["shape"])), _number(tensor["norm"]), *_gradient(tensor)]
                for name, tensor in site["tensors"].items()
            ],
        )
        for head in range(site["heads"]):
            for tensor in _SHOWN:
                _print_tensor(data, site, tensor, head)
    for paths in data["paths"]:
        _print_paths(paths)
    if data["sentences"] is not None:
        _print_sentences(data["sentences"])
    for film in data["films"]:
        _print_film(film)


def _print_sentences(found: Sentences) -> None:
    """The averages over many sentences, a table for each curve."""
    split = {"test": " of the test set", "valid": " of the validation set", "given": ""}[found["split"]]
    print(f"\nAverages over {counted(found['count'], 'sentence')}{split}")
    for curve in found["curves"]:
        of = {"source": ", symbols of the source", "target": ", symbols read of the target or text"}
        print(f"\n{_CURVES[curve['name'], curve['measure']]}{of.get(curve['of'], ' ' + curve['of'])}".rstrip())
        columns = [curve["count"], *(_optional(curve[part]) for part in _SPREAD)]  # type: ignore[literal-required]
        rows = zip(map(str, curve["places"]), *columns, strict=True)
        print_table(["", "n", *_SPREAD[:-1], "this sentence"], [list(map(str, row)) for row in rows])


def _optional(numbers: Sequence[float | None]) -> list[str]:
    return ["" if x is None else _number(x) for x in numbers]


def _print_paths(paths: Paths) -> None:
    """The gradient that reaches each symbol of a source, by way, and that of each layer, by branch."""
    if paths["tokens"]:
        print(f"\nGradient that reaches the encoder's states, {paths['model']} {paths['run']}")
        columns = [*paths["ways"].values(), paths["total"]]
        print_table(
            ["symbol", *paths["ways"], "total"],
            [[visible(symbol), *map(_number, norms)] for symbol, *norms in zip(paths["tokens"], *columns, strict=True)],
        )
    if paths["layers"]:
        print(f"\nGradient at the input of each sublayer, by branch, {paths['model']} {paths['run']}")
        print_table(
            ["layer", "sublayer", "past it", "through it", "total"],
            [
                [layer["module"], layer["sublayer"], *(_number(np.linalg.norm(layer[name])) for name in _BRANCHES)]  # type: ignore[literal-required]
                for layer in reversed(paths["layers"])
            ],
        )
        for layer in reversed(paths["layers"]):
            print(f"\n{layer['module']}, {layer['sublayer']}, symbol by symbol")
            print_table(
                ["symbol", "past it", "through it", "total"],
                [
                    [visible(token), *map(_number, norms)]
                    for token, *norms in zip(layer["tokens"], *(layer[name] for name in _BRANCHES), strict=True)  # type: ignore[literal-required]
                ],
            )


def _print_film(film: Film) -> None:
    """By kept step the loss, and how saturated each site is: means over its heads."""
    print(f"\nOver training, {film['model']} {film['run']}")
    steps = ["best" if frame["step"] is None else f"{frame['step']:,}" for frame in film["frames"]]
    losses = [_number(frame["loss"]) for frame in film["frames"]]
    print_table(["step", "loss"], list(zip(steps, losses, strict=True)))
    for name in [site["site"] for site in film["frames"][0]["sites"]]:
        print(f"\nAttention at {name} over training, means of its heads")
        sites = [next((site for site in frame["sites"] if site["site"] == name), None) for frame in film["frames"]]
        print_table(
            ["step", *_SATURATION.values()],
            [
                [step, *(_mean(site[what]) for what in _SATURATION)]  # type: ignore[literal-required]
                for step, site in zip(steps, sites, strict=True)
                if site is not None
            ],
        )


_SATURATION = {
    "spread": "spread of scores", "entropy": "entropy", "largest": "largest weight", "saturated": "saturated",
    "weights_gradient": "|dL/dweights|", "scores_gradient": "|dL/dscores|",
}  # fmt: skip


def _mean(numbers: Sequence[float | None]) -> str:
    found = [number for number in numbers if number is not None]
    return _number(np.mean(found)) if found else ""


_BRANCHES = ("skip", "branch", "total")


def _print_tokens(data: Data) -> None:
    print_table(
        ["t", "input", "target", "p", "loss"],
        [
            [
                str(t),
                visible(token["read"]),
                visible(token["expected"]),
                _number(token["probability"]),
                _number(token["loss"]),
            ]
            for t, token in enumerate(data["tokens"])
        ],
    )


def _print_badge(check: Check) -> None:
    """The state of the badge, what was compared, and what fails or cannot be resolved, with the reason."""
    print(f"{_SIGNS.get(check['state'], '?')} {verdict_of(check)}: ", end="")
    print(f"{counted(check['compared'], 'gradient')} beside central differences, worst error {check['worst']:.1e};")
    if check["not_finite"]:
        print(f"  {describe_not_finite(check['not_finite'])};")
    for reason, count in check["unresolved_because"].items():
        print(f"  {count} more cannot be resolved by differences: {_REASONS[reason]};")
    for kink in {str(cell["kink"]): cell["kink"] for cell in check["cells"] if cell["kink"]}.values():
        print(f"    a kink of op {kink['call']}, {kink['op']} in {kink['module']}, element {kink['cell']};")
    numbers, ops = counted(check["recomputed"], "number"), counted(check["replayed"], "op")
    print(f"  {numbers} and {ops} again in NumPy, worst error", end=" ")
    print(f"{max(check['recomputed_worst'], check['replayed_worst']):.1e};")
    holding = sum(identity["holds"] for identity in check["identities"])
    print(f"  {holding} of {counted(len(check['identities']), 'identity holds', 'identities hold')}")
    for failure in check["failures"]:
        where = " ".join(str(failure[key]) for key in ("site", "tensor", "cell") if key in failure)
        print(f"  ✗ {failure['kind']}: {where}, error {failure['error']:.1e}")


_SIGNS = {"good": "✓", "bad": "✗"}
_REASONS = {
    "rounding": "the gradient is too small beside the rounding of the loss",
    "kink": "the loss has a kink within the step",
    "curvature": "the loss bends too much within every step",
    "not_finite": "the numbers are not finite",
}


def _gradient(tensor: SiteTensor) -> tuple[str, str]:
    """Its norm, and its state."""
    norm = tensor["gradient_norm"]
    return "" if norm is None else _number(norm), tensor["state"]


def _print_tensor(data: Data, site: Site, tensor: str, head: int) -> None:
    stored = site["tensors"][tensor]
    heads = f", head {head}" if site["heads"] > 1 else ""
    for part, name in (("value", tensor), ("gradient", f"dL/d{tensor}")):
        number = stored[part]  # type: ignore[literal-required]
        print(f"\n{name} at {site['id']}{heads}")
        if number is None:
            print("not there" if part == "value" else f"none: {stored['state']}")
            continue
        rows = decoded(data["arrays"][number])[head]
        queries, keys = map(visible, site["queries"]), map(visible, site["keys"])
        print_table(["", *keys], [[query, *map(_number, row)] for query, row in zip(queries, rows, strict=True)])


def _number(x: float | np.floating) -> str:
    return f"{x:.{_DIGITS}g}"
