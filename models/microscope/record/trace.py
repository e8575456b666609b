"""Runs a model forward and backward over one example, in float64 and in primitives, and records it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinygrad_attn import unfused
from tinygrad_attn.nn import RMSNorm
from tinygrad_attn.nn import functional as F
from tinygrad_attn.nn.module import Module
from tinygrad_attn.op import Op
from tinygrad_attn.record import Call, Leaf, Output, Record, record
from tinygrad_attn.tensor import Tensor

from ...console.errors import CommandError, UserError
from ...decoding.greedy import greedy
from ...evaluation.scoring import read_and_said
from ...interface import LanguageModel, Translator
from ..checks.gallery import GALLERY, broken_derivative
from .single_tokens import Embedded, find_embedded
from .ways import Ways, find_ways

__all__ = [
    "Traced", "copy_in_float64", "dtype_of", "greedy_translation", "in_float64", "trace", "trace_broken",
    "trace_pass", "trace_with",
]  # fmt: skip

Array = np.ndarray[Any, Any]

_METHODS = ("forward", "encode", "start", "step")


@dataclass
class Traced:
    """One forward and backward pass over one example."""

    model: Module
    """The model, in float64 and in evaluation mode."""
    record: Record
    loss: Call
    """The last op: the mean of the tokens' cross entropies, or what a user's own loss ends in."""
    logits: Array
    """(T, V); (0, 0) with a loss of the user's own."""
    source: Sequence[int] | None
    """S ids; None of a model that has no source."""
    expected: Sequence[int]
    """T ids: what is to be predicted from the symbols read so far; none with a loss of the user's own."""
    read: Output | Leaf | None
    """The ids that the decoder reads, or the text; None if no op of the model read the tensor it was given."""
    derivatives: Mapping[Op, Mapping[str, str]]
    """The formulas of each op's derivatives, by operand, as they were when it ran."""
    ways: Ways | None
    """The gradient of the encoder's states by the way it entered the encoder; None if no states are announced."""
    embedded: Embedded
    """The gradients of single tokens' losses at the embeddings."""
    broken: Sequence[Op] = ()
    """The ops whose derivative was deliberately wrong."""

    def name(self, op: Op) -> str:
        """The op's name, with the prefix "broken_" if its derivative was wrong."""
        return f"broken_{op.name}" if op in self.broken else op.name

    @cached_property
    def forward(self) -> list[Call]:
        """All calls of the forward pass."""
        return [call for call in self.record.calls if not call.during_backward]

    @cached_property
    def calls(self) -> list[Call]:
        """The calls of the model's ops: those of the forward pass without the aliases of announcements."""
        announced = {mark.source.call for mark in self.record.marks}
        return [call for call in self.forward if call not in announced]

    @cached_property
    def numbers(self) -> dict[Call, int]:
        """The number of each of `calls` on the tape."""
        return {call: number for number, call in enumerate(self.calls)}

    def maker(self, source: Output | Leaf | None) -> Output | Leaf | None:
        """The output of one of `calls`, or the leaf, behind a tensor that may be an announcement's alias; or None."""
        while isinstance(source, Output) and source.call not in self.numbers:
            source = source.call.inputs[0]
        return source

    def parameters(self) -> Mapping[str, Leaf]:
        """The parameters that the pass used, by name."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        leaves = {names[id(leaf.tensor)]: leaf for leaf in self.record.leaves if id(leaf.tensor) in names}
        return {name: leaves[name] for name in names.values() if name in leaves}


def in_float64(model: LanguageModel) -> LanguageModel:
    """A copy of the model in float64 and in evaluation mode.

    Raises:
        UserError: it is no `LanguageModel` (of which a `Translator` is one), or lacks one of the methods needed.
    """
    if not isinstance(model, LanguageModel):
        raise UserError(
            f"the microscope looks into a LanguageModel or a Translator (models.interface), which say how a text, or a "
            f"source and its target, are read; {type(model).__name__} is none: derive it from Translator and define "
            f"{', '.join(_METHODS)}, or from LanguageModel and define forward. Any other module needs a loss: "
            "microscope(model, inputs, loss=function of what the model returns)"
        )
    kind = type(model)
    base, methods = (Translator, _METHODS) if isinstance(model, Translator) else (LanguageModel, _METHODS[:1])
    missing = [name for name in methods if getattr(kind, name) is getattr(base, name)]
    if missing:
        raise UserError(f"the microscope needs {kind.__name__} to define {', '.join(missing)}: see models.interface")
    same = copy_in_float64(model)
    assert isinstance(same, LanguageModel)
    return same


def copy_in_float64(model: Module) -> Module:
    """A copy of any module in float64 and in evaluation mode, without gradients."""
    # What a module has kept of an earlier pass is copied as a constant: the output of an op is not copied deeply.
    kept = [x for module in model.modules() for x in vars(module).values() if isinstance(x, Tensor)]
    same: Module = copy.deepcopy(model, {id(x): x.detach().clone() for x in kept if not x.is_leaf})
    for module in same.modules():
        if isinstance(module, RMSNorm) and module.eps is None:  # the eps of the trained dtype, not float64's
            module.eps = float(np.finfo(dtype_of(module if module.weight is not None else model)).eps)
    same = same.to(np.float64).eval()
    same.zero_grad()
    return same


def dtype_of(model: Any) -> str:
    """The dtype of a model's parameters; of several, the one of the most numbers."""
    sizes: dict[str, int] = {}
    for parameter in model.parameters() if isinstance(model, Module) else ():
        sizes[parameter.dtype.name] = sizes.get(parameter.dtype.name, 0) + parameter.numel()
    return max(sizes, key=sizes.__getitem__, default="float64")


def greedy_translation(model: Translator, source: Sequence[int], max_length: int) -> list[int]:
    """The model's own translation, ids without <s> and </s>."""
    ids = np.array([source], dtype=np.int64)
    return greedy(model, ids, np.ones_like(ids, dtype=bool), max_length)[0]


def trace(
    model: LanguageModel, source: Sequence[int] | None, target: Sequence[int], single_tokens: bool = True
) -> Traced:
    """Run the model teacher-forced on ``target`` and differentiate the mean cross entropy of its tokens.

    Args:
        model: in float64 (see `in_float64`).
        source: at least one id; None if the model has no source.
        target: ids without <s> and </s>.
        single_tokens: follow the loss of each token back to the embeddings, too.
    """
    read, expected = read_and_said(model, target)
    given = [] if source is None else [np.array([source], np.int64), np.ones((1, len(source)), bool)]
    said = Tensor(np.array([read], np.int64))

    def forward() -> tuple[Tensor, Tensor]:
        logits = model(*map(Tensor, given), said)
        _check_logits(model, logits, len(expected))
        return F.cross_entropy(logits.squeeze(0), Tensor(np.array(expected, np.int64))), logits

    return trace_pass(model, forward, source, expected, said, single_tokens)


def trace_pass(
    model: Module,
    forward: Callable[[], tuple[Tensor, Tensor | None]],
    source: Sequence[int] | None = None,
    expected: Sequence[int] = (),
    said: Tensor | None = None,
    single_tokens: bool = False,
) -> Traced:
    """Record a forward pass, in primitives, and its backward pass.

    Args:
        model: in float64 (see `copy_in_float64`).
        forward: computes the loss, a scalar, and the logits (1, T, V), if there are such.
        source, expected: see `Traced`.
        said: the ids that the decoder reads, or the text, if there are such.
        single_tokens: see `trace`.
    """
    with record() as recorded, unfused():
        loss, logits = forward()
        loss.backward(retain_graph=True)
    with unfused():
        ways = find_ways(recorded)
    embedded = Embedded([], [], [], [])
    if logits is not None and single_tokens:
        embedded = find_embedded(recorded, logits, expected, {id(parameter) for parameter in model.parameters()})
    made_by = recorded.source_of(loss)
    assert made_by is not None and not isinstance(made_by, Leaf)
    ops = {call.op for call in recorded.calls if not call.during_backward}
    derivatives = {op: op.derivatives() for op in ops}
    return Traced(
        model,
        recorded,
        made_by.call,
        np.empty((0, 0)) if logits is None else logits.array[0],
        source,
        expected,
        None if said is None else recorded.source_of(said),
        derivatives,
        ways,
        embedded,
    )


def _check_logits(model: LanguageModel, logits: Any, length: int) -> None:
    """Refuse what is no (1, T, V) tensor with a gradient."""
    name = f"{type(model).__name__}.forward"
    if not isinstance(logits, Tensor):
        raise UserError(f"{name} must return the logits, a tensor (B, T, V); it returned {type(logits).__name__}")
    if logits.ndim != 3 or logits.shape[:2] != (1, length):
        raise UserError(f"{name} must return logits of shape (1, {length}, V) here; theirs is {logits.shape}")
    if not logits.requires_grad:
        raise UserError(f"{name} returned logits without a gradient: there is nothing to look into")


def trace_broken(model: LanguageModel, source: Sequence[int] | None, target: Sequence[int], name: str) -> Traced:
    """`trace` with a wrong derivative of `models.microscope.checks.gallery.GALLERY`; see `trace_with`."""
    return trace_with(name, lambda: trace(model, source, target), type(model).__name__)


def trace_with(name: str, attempted: Callable[[], Traced], model: str) -> Traced:
    """A traced pass with a wrong derivative of `models.microscope.checks.gallery.GALLERY`.

    Args:
        name: of the wrong derivative.
        attempted: traces the pass.
        model: the name of the model's class.

    Raises:
        CommandError: no such name, or the model does not run its op.
    """

    def attempt(name: str) -> Traced | None:
        with broken_derivative(name) as wrong:
            traced = attempted()
        traced.broken = [op for op in wrong if op in traced.derivatives]
        return traced if traced.broken else None

    traced = attempt(name)
    if traced is None:
        others = [other for other in GALLERY if attempt(other)]
        raise CommandError(
            f"{name}: this {model} runs no {GALLERY[name].op}, so that nothing would be wrong; "
            + (f"of the gallery it has {' and '.join(others)}" if others else "it has nothing of the gallery")
        )
    return traced
