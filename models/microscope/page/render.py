"""The microscope's data as one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from ..record.arrays import as_json
from .bundle import ASSETS, bundle
from .korean import korean
from .mathml import mathml

__all__ = ["embeddable", "render"]

_LANGUAGES = ("en", "ko")
_ICON = (
    "data:image/svg+xml,"
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='8' height='16' fill='%231f5fa8'/%3E"
    "%3Crect x='8' width='8' height='16' fill='%23c25608'/%3E%3C/svg%3E"
)


def render(data: Mapping[str, Any]) -> str:
    """The page that shows ``data`` (see `models.microscope.record.schema.Data`).

    Its content security policy lets run only the script that is in it, and lets it load nothing; a page of a live
    server may ask that server.
    """
    script, style = bundle("app.js"), (ASSETS / "page.css").read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data: blob:",
        "connect-src": "'self'" if data["meta"]["served"] else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    blocks = {
        "data": data,
        "formulas": _typeset(data),
        "strings": _strings(),
    }
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(map(" ".join, policy.items()))}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(data['source']['text'])}</title>",
            f'<link rel="icon" href="{_ICON}">',
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            '<div id="app"></div>',
            *(
                f'<script type="application/json" id="{key}">{embeddable(value)}</script>'
                for key, value in blocks.items()
            ),
            f'<script type="module">{script}</script>',
            "</body>",
            "</html>",
            "",
        ]
    )


def embeddable(value: Any) -> str:
    """JSON that can stand in a script element, whatever is in it: no ``<``, so neither ``</script>`` nor ``<!--``."""
    return as_json(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _typeset(data: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """By language the MathML of every formula; for Korean, of those alone that have words in them."""
    formulas = sorted(_formulas(data))
    return {
        "en": {latex: mathml(latex) for latex in formulas},
        "ko": {latex: mathml(korean(latex)) for latex in formulas if korean(latex) != latex},
    }


def _formulas(data: Mapping[str, Any]) -> set[str]:
    """Every LaTeX formula of the data, and the page's own."""
    own = r"\frac{\partial L}{\partial x} \approx \frac{L(x + \varepsilon) - L(x - \varepsilon)}{2\,\varepsilon}"
    return {own, *_latex(data)}


def _latex(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, str):
                if inner and (key == "latex" or key.endswith("_latex")):  # where there is none, it is empty
                    yield inner
            elif key == "vjp":
                yield from inner.values()
            else:
                yield from _latex(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _latex(inner)


def _strings() -> dict[str, dict[str, str]]:
    return {name: json.loads((ASSETS / f"strings.{name}.json").read_text(encoding="utf-8")) for name in _LANGUAGES}


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
