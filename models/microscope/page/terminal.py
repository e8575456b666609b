"""The microscope in a terminal: the page's numbers as tables."""

from __future__ import annotations

import numpy as np

from ...console.tables import print_table
from ..record.arrays import decoded
from ..record.schema import Data, Site, SiteTensor

__all__ = ["print_microscope"]

_SHOWN = ("scores", "weights")
_DIGITS = 6


def print_microscope(data: Data) -> None:
    """Print the summary, the badge, every attention site, and the paths to the encoder.

    A site is printed with the norms of all its tensors, and the scores and weights of each head with their gradients.
    """
    meta, check = data["meta"], data["check"]
    print(f"{meta['model']}: {data['source']['text']} → {data['target']['text']}")
    print(f"loss {meta['loss']:.{_DIGITS}g}, the mean of -ln p over {len(data['tokens'])} tokens")
    print_table(
        ["t", "reads", "should say", "p", "loss"],
        [
            [str(t), token["read"], token["expected"], _number(token["probability"]), _number(token["loss"])]
            for t, token in enumerate(data["tokens"])
        ],
    )
    verdict = "✓ every number checked out" if check["ok"] else f"✗ {check['failing']:,} checks fail"
    print(f"{verdict}: {check['compared']} gradients beside central differences, worst error {check['worst']:.1e};")
    if check["unresolved"]:
        print(f"  {check['unresolved']} more are of gradients below {check['floor']:.0e}, too small for differences;")
    print(f"  {check['recomputed']:,} numbers and {check['replayed']:,} ops again in NumPy, worst error", end=" ")
    print(f"{max(check['recomputed_worst'], check['replayed_worst']):.1e};")
    holding = sum(identity["holds"] for identity in check["identities"])
    print(f"  {holding} of {len(check['identities'])} identities hold")
    for failure in check["failures"]:
        where = " ".join(str(failure[key]) for key in ("site", "tensor", "cell") if key in failure)
        print(f"  ✗ {failure['kind']}: {where}, error {failure['error']:.1e}")
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
        print(f"\nGradient that reaches the encoder's states, {paths['model']} {paths['run']}")
        print_table(
            ["symbol", "value", "score", "recurrence", "total"],
            [
                [symbol, *map(_number, norms)]
                for symbol, *norms in zip(
                    paths["tokens"], paths["value"], paths["score"], paths["recurrence"], paths["total"], strict=True
                )
            ],
        )


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
        print_table(
            ["", *site["keys"]], [[query, *map(_number, row)] for query, row in zip(site["queries"], rows, strict=True)]
        )


def _number(x: float | np.floating) -> str:
    return f"{x:.{_DIGITS}g}"
