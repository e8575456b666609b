"""A cell computed in the browser, from the numbers shown and its score's own expression, is the one recorded."""

import numpy as np
import pytest
from looked_at import SOURCE, TARGET, make
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record.arrays import decoded

COMPUTED = {
    "Q": ("gradient",), "K": ("gradient",), "V": ("gradient",), "scores": ("value", "gradient"),
    "weights": ("value", "gradient"), "context": ("value",), "gaussian": (), "mixed": ("value", "gradient"),
    "joined": (), "attentional": (), "logits": (),
}  # fmt: skip
"""Of each tensor what follows from others of the site."""


NAMES = [
    "bahdanau",
    "transformer",
    *(f"luong {score} global" for score in ("dot", "scaled_dot", "general", "location")),
]


@pytest.mark.parametrize("name", [*NAMES, "luong concat local-p"])
def test_what_the_inspector_computes(visit, tmp_path, name):
    data = microscope(make(name), SOURCE, TARGET)
    data.save(tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    site = data.data["sites"][-1]
    for tensor, of_site in site["tensors"].items():
        if tensor == "gaussian":
            continue
        for part in ("value", "gradient"):
            cell = {name: min(1, size - 1) for name, size in zip(("step", "key"), of_site["shape"][1:], strict=True)}
            if site["mask"] is not None and tensor not in ("K", "V"):
                mask = decoded(data.data["arrays"][site["mask"]])[0]
                cell["key"] = int(np.argmax(mask[cell["step"]]))  # of a masked cell there is nothing to compute
            hash = "&".join(f"{key}={x}" for key, x in {"view": "site", "tensor": tensor, "part": part, **cell}.items())
            page.evaluate("(hash) => { location.hash = hash; }", hash)
            page.wait_for_function(
                "([symbol, part]) => document.querySelector('.inspector h2 span')?.className === part",
                arg=[tensor, part],
            )
            page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            assert page.locator(".inspector .verdict.bad").count() == 0, (tensor, part)
            assert page.locator(".inspector .expression").count() == 2 * (part in COMPUTED[tensor]), (tensor, part)
