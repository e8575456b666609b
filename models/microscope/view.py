"""microscope(): the call from Python, and its result, which can be saved or shown in Jupyter."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_attn.atomic import atomic_path
from tinygrad_attn.nn.module import Module

from ..console.errors import UserError
from ..interface import LanguageModel
from ..runs.folder import Run
from ..setting import short
from .checks.verdict import verdict_of
from .record.arrays import as_json
from .record.build import build
from .record.drawn import Given
from .record.example import headline
from .record.own import Loss, build_own
from .record.schema import LIMIT, Data

__all__ = ["Microscope", "microscope"]


@dataclass(frozen=True, repr=False)
class Microscope:
    """The recorded pass of a model over one pair of sentences or one text. Jupyter displays it as the page."""

    data: Data
    """The data; `models.microscope.record.schema` documents it."""

    def __repr__(self) -> str:
        loss, verdict = self.data["meta"]["loss"], verdict_of(self.data["check"])
        return f"<Microscope {headline(self.data, short)}, loss {loss:.6g}, {verdict}>"

    def html(self) -> str:
        """The page: one self-contained HTML document."""
        from .page.render import render

        return render(dict(self.data))

    def json(self) -> str:
        """The data as JSON."""
        return as_json(self.data)

    def worksheet(self) -> str:
        """The page, opened at the tour's worksheet and its key, to be printed.

        Raises:
            UserError: a module's pass with a loss of its own, which predicts nothing to ask about.
        """
        from .page.render import render

        if not self.data["tokens"]:
            raise UserError("the worksheet asks about predictions; this pass has a loss of your own, and none")
        return render(dict(self.data), opens={"view": "tour", "sheet": "key"})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, or the data alone if the name ends in ``.json``."""
        _write(path, self.json() if Path(path).suffix == ".json" else self.html())

    def save_worksheet(self, path: str | os.PathLike[str]) -> None:
        """Write the page that opens at the worksheet."""
        _write(path, self.worksheet())

    def _repr_html_(self) -> str:
        # In a frame, so that page and notebook do not affect each other.
        frame = 'sandbox="allow-scripts allow-downloads" style="width: 100%; height: 50em; border: 0"'
        return f'<iframe title="microscope" {frame} srcdoc="{html.escape(self.html())}"></iframe>'


def _write(path: str | os.PathLike[str], content: str) -> None:
    with atomic_path(Path(path)) as unfinished:
        unfinished.write_text(content, encoding="utf-8", newline="\n")


def microscope(
    model: Any,
    source: Any,
    target: str | Sequence[int] | None = None,
    *,
    loss: Loss | None = None,
    run: Run | None = None,
    beside: tuple[Run, LanguageModel] | None = None,
    nudge: dict[str, Any] | None = None,
    broken: str | None = None,
    sentences: Given | None = None,
    checkpoints: Mapping[int, Mapping[str, Any]] | None = None,
    limit: int = LIMIT,
) -> Microscope:
    """Record and verify every number of a model's forward and backward pass over one pair or one text.

    The loss is the mean cross entropy of the target's or the text's tokens, teacher-forced, or that of ``loss``. The
    model is not changed::

        microscope(model, (query, memory), loss=lambda output: F.mse_loss(output, wanted))

    Args:
        model: any translator or language model, trained or not; with ``loss`` any `nn.Module`. What its layers announce
            is shown (`tinygrad_attn.modes.mark`): `nn.MultiheadAttention`, `F.scaled_dot_product_attention`, the
            scores of `nn.SCORES` and the layers of a Transformer do.
        source: ids, or a text if ``run`` is given; of a language model the text. With ``loss`` what the module reads: a
            tensor or array, a tuple of several, or a dict of several by name.
        target: likewise; the model's own greedy translation if None. A language model has none.
        loss: a function from what the module returns to a scalar tensor.
        run: the run that the model is from; its tokenizers encode the texts.
        beside: another run and its model of the same kind, say one without attention, for the paths of the gradient.
        nudge: ``{"parameter": name, "index": [i, …], "by": number}``: change one weight first.
        broken: compute with a wrong derivative, one of `models.microscope.checks.gallery.GALLERY`.
        sentences: other sentences to take averages over, with their spread: how many of the run's test set; or a list
            of ``(source, target)`` or of sources, which the model translates, of a language model of texts.
        checkpoints: the model's ``state_dict`` at some steps of its training, as ``{0: …, 100: …}``, for the view Over
            training; if None, those that the run has kept (``training.keep_checkpoints``).
        limit: the most bytes of arrays to keep.

    Raises:
        UserError: no such model, or one that lacks a method or returns other than logits; a loss that is no scalar
            with a gradient; checkpoints that are no dict of state dicts by step.
        CommandError: a sentence that is empty or too long, a text without a run, or a nudge of no such weight.
        DataError: a sentence that is too long for the model.
    """
    options: dict[str, Any] = {"nudge": nudge, "broken": broken, "checkpoints": checkpoints, "limit": limit}
    if _is_of_torch(model):
        raise UserError("microscope: this is a module of PyTorch: use from_torch(module, inputs, loss)")
    if loss is not None:
        if not all(option is None for option in (target, run, beside, sentences)):
            raise UserError("microscope: with a loss of your own there is no target, run, beside or sentences")
        if not isinstance(model, Module):
            raise UserError(f"microscope: the model must be an nn.Module, it is {type(model).__name__}")
        return Microscope(build_own(model, source, loss, **options))
    return Microscope(build(model, source, target, run=run, beside=beside, sentences=sentences, **options))


def _is_of_torch(model: Any) -> bool:
    """Whether it is a module of PyTorch, which is not imported for that."""
    return any(kind.__module__.partition(".")[0] == "torch" for kind in type(model).__mro__)
