"""Random calls of all ops and layers beside PyTorch: ``python tests/fuzz/calls.py [--calls 10000] [--seed 0]``.

Each call takes a sample of an op or a layer and, more often than not, spoils it: another shape or dtype, nan, a stride,
a NumPy scalar, None or text for an operand or an option. Then it must hold that

- what both compute is equal, values and gradients;
- an error of ours begins with the name of what was called, without the words of NumPy, numba or Python;
- no call takes longer than two minutes: the script ends with the traceback of the one that does.

The report counts what was compared, and lists every failure with the number that draws it again (``--only NUMBER``).
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.samples import Draw, Sample

__all__ = ["Outcome", "call_number", "run"]

OPS = ta.registered_ops()
FOREIGN = re.compile(
    r"could not be broadcast|ufunc|not aligned|has no attribute|not subscriptable|unexpected keyword|[Nn]umba|"
    r"unsupported operand|is not iterable|cannot reshape array|positional argument|setting an array element|"
    r"only integer scalar|object is not callable|cannot unpack|invalid literal|dtype\('O'\)|not supported between"
)
HOSTILE: list[Any] = [
    None, "x", -1, 0, 2, 7, 1.5, float("nan"), True, [0], (), (0, 1), {}, np.int64(1), np.float32(0.5), np.bool_(True),
    np.array([0, 1]), 2**40, complex(1, 1), object(),
]  # fmt: skip


ON_PURPOSE = {
    r"cross_entropy|CrossEntropyLoss|NLLLoss": r"not .*nan",  # every target ignored: 0 here
    r"scaled_dot_product_attention|MultiheadAttention": r"not .*nan",  # every key masked: 0 here
    r"binary_cross_entropy|BCELoss": r"gradient 1 .*not .*inf",  # linear in the target, as is the clamped loss
    r"masked_fill": r"<- bool\(",  # a number becomes True in PyTorch; here bools become numbers
    r"kl_div|KLDivLoss": r"gradient 1 .*not .*nan",  # a target of 0: y ln y has the gradient 0 there
    r"scatter": r"gradient 1",  # the same index twice: the last one gets the gradient
    r"prod": r"not .*nan",  # an infinite factor: the product of the others
    r"RNN|vector_norm": r"gradient",  # of nan: 0 past a relu; nan for all whose norm is nan
    r"std|var": r"gradient .*(dim=\(\)|correction=1099511627776)",  # PyTorch divides as if over no axis
}
"""What differs from PyTorch on purpose, by names and by what tells it, both as regular expressions."""


class Outcome(NamedTuple):
    """How a call ended: "equal", "on purpose" otherwise, "ours alone", "theirs alone", "both refuse", "no peer", or in
    capitals what is wrong."""

    name: str
    kind: str
    text: str = ""


# -- what is called ----------------------------------------------------------------------------------------------------


def spoil_array(draw: Draw, x: np.ndarray) -> Any:
    """An operand made another: in shape, dtype, values, layout or kind."""
    kind = draw.integer(0, 9)
    if kind == 0:
        return x[None]
    if kind == 1:
        return x.sum() if x.dtype.kind == "f" else x.reshape(-1)
    if kind == 2:
        return np.concatenate([x, x], -1) if x.ndim else np.stack([x, x])
    if kind == 3:
        return x[..., :0] if x.ndim else x
    if kind in (4, 5):
        return x.astype(draw.choice([np.float32, np.int64, np.uint8, np.bool_]))
    if kind == 6 and x.dtype.kind == "f" and x.size:
        spoiled = x.copy()
        spoiled.flat[0] = draw.choice([np.nan, np.inf, -np.inf, 0.0])
        return spoiled
    if kind == 7:
        return np.asfortranarray(x)
    return draw.choice(HOSTILE) if kind == 8 else x


def spoiled(draw: Draw, sample: Sample) -> Sample:
    """A sample in which nothing, an operand or an option was made another."""
    operands, options = list(sample.operands), dict(sample.options)
    for _ in range(draw.choice([0, 1, 1, 2])):
        arrays = [i for i, operand in enumerate(operands) if isinstance(operand, np.ndarray)]
        if options and draw.boolean():
            name = draw.choice(sorted(options))
            value = options[name]
            scalars = {int: np.int64, float: np.float64, bool: np.bool_}
            same = scalars[type(value)](value) if type(value) in scalars else value
            options[name] = same if draw.boolean() else draw.choice(HOSTILE)
        elif arrays:
            i = draw.choice(arrays)
            operands[i] = spoil_array(draw, operands[i])
    return Sample(tuple(operands), options)


LAYERS: dict[str, tuple[dict[str, list[Any]], Callable[[Draw], tuple[Any, ...]]]] = {
    "Linear": ({"in_features": [3], "out_features": [2, 0], "bias": [True, False]}, lambda d: (d.floats((2, 3)),)),
    "LayerNorm": ({"normalized_shape": [3, (2, 3)], "bias": [True, False]}, lambda d: (d.floats((4, 2, 3)),)),
    "Embedding": ({"num_embeddings": [5], "embedding_dim": [3]}, lambda d: (d.integers((2, 3), 0, 4),)),
    "RNN": ({"input_size": [3], "hidden_size": [2], "num_layers": [1, 2], "nonlinearity": ["tanh", "relu"],
             "bidirectional": [False, True], "batch_first": [False, True]}, lambda d: (d.floats((4, 2, 3)),)),
    "GRU": ({"input_size": [3], "hidden_size": [2], "num_layers": [1, 2], "bias": [True, False],
             "bidirectional": [False, True], "batch_first": [False, True]}, lambda d: (d.floats((4, 2, 3)),)),
    "LSTM": ({"input_size": [3], "hidden_size": [2], "num_layers": [1, 2], "bias": [True, False],
              "bidirectional": [False, True], "batch_first": [False, True]}, lambda d: (d.floats((4, 2, 3)),)),
    "GRUCell": ({"input_size": [3], "hidden_size": [2]}, lambda d: (d.floats((4, 3)), d.floats((4, 2)))),
    "RNNCell": ({"input_size": [3], "hidden_size": [2]}, lambda d: (d.floats((4, 3)), d.floats((4, 2)))),
    "LSTMCell": ({"input_size": [3], "hidden_size": [2]}, lambda d: (d.floats((4, 3)),)),
    "MultiheadAttention": (
        {"embed_dim": [4], "num_heads": [1, 2], "bias": [True, False], "batch_first": [False, True]},
        lambda d: (d.floats((3, 2, 4)), *[d.floats((5, 2, 4))] * 2),
    ),
    "TransformerEncoderLayer": (
        {"d_model": [4], "nhead": [2], "dim_feedforward": [3], "dropout": [0.0], "activation": ["relu", "gelu"],
         "norm_first": [False, True], "batch_first": [False, True]}, lambda d: (d.floats((3, 2, 4)),),
    ),
    "TransformerDecoderLayer": (
        {"d_model": [4], "nhead": [2], "dim_feedforward": [3], "dropout": [0.0], "norm_first": [False, True]},
        lambda d: (d.floats((3, 2, 4)), d.floats((5, 2, 4))),
    ),
    "MSELoss": ({"reduction": ["mean", "sum", "none"]}, lambda d: (d.floats((2, 3)), d.floats((2, 3)))),
    "L1Loss": ({"reduction": ["mean", "sum", "none"]}, lambda d: (d.floats((2, 3)), d.floats((2, 3)))),
    "SmoothL1Loss": ({"beta": [1.0, 0.5, 0.0]}, lambda d: (d.floats((2, 3)), d.floats((2, 3)))),
    "HuberLoss": ({"delta": [1.0, 0.5]}, lambda d: (d.floats((2, 3)), d.floats((2, 3)))),
    "BCEWithLogitsLoss": ({"reduction": ["mean", "sum"]}, lambda d: (d.floats((2, 3)), d.floats((2, 3), 0.0, 1.0))),
    "BCELoss": ({"reduction": ["mean", "sum"]}, lambda d: (d.floats((2, 3), 0.1, 0.9), d.floats((2, 3), 0.0, 1.0))),
    "KLDivLoss": ({"reduction": ["mean", "batchmean"]}, lambda d: (d.floats((2, 3)), d.floats((2, 3), 0.1, 1.0))),
    "NLLLoss": ({"ignore_index": [-100, 1]}, lambda d: (d.floats((2, 3)), d.integers((2,), 0, 2))),
    "CrossEntropyLoss": (
        {"label_smoothing": [0.0, 0.1], "ignore_index": [-100, 1]}, lambda d: (d.floats((2, 3)), d.integers((2,), 0, 2))
    ),
    **{name: ({}, lambda d: (d.floats(d.shape()),)) for name in ("ReLU", "GELU", "SiLU", "Tanh", "Sigmoid", "ELU")},
    "Softmax": ({"dim": [0, -1, 1]}, lambda d: (d.floats((2, 3)),)),
}  # fmt: skip


# -- how it is called --------------------------------------------------------------------------------------------------


def in_torch(value: Any) -> Any:
    """An argument as PyTorch takes it."""
    if isinstance(value, np.ndarray):
        return torch.tensor(np.array(value, order="C"))
    if isinstance(value, np.generic):
        return value.item()  # PyTorch takes np.int64(-1) for 0 in places
    if isinstance(value, tuple):
        return tuple(in_torch(item) for item in value)
    return value


def torch_op(name: str) -> Callable[..., Any] | None:
    """PyTorch's function of an op's name, if its arguments are the same."""
    own = {"dropout", "cast", "linear", "gru", "rnn", "lstm", "index", "alias", "split", "masked_softmax", "topk"}
    if name in own:
        return None
    if name == "binary_cross_entropy":  # of each element
        return lambda x, y: torch.nn.functional.binary_cross_entropy(x, y, reduction="none")
    if name in ("cat", "stack"):
        return lambda *operands, dim=0: getattr(torch, name)(operands, dim)
    if name == "einsum":
        return lambda *operands, equation: torch.einsum(equation, *operands)
    if name in ("reshape", "expand", "repeat", "permute", "flip"):
        option = {"permute": "dims", "flip": "dims", "repeat": "repeats"}.get(name, "shape")
        return lambda x, **options: getattr(torch.Tensor, name)(x, options[option])
    if name == "layer_norm":
        F = torch.nn.functional
        return lambda x, weight, bias, normalized_shape, eps: F.layer_norm(x, normalized_shape, weight, bias, eps)
    if name == "vector_norm":
        return torch.linalg.vector_norm
    for home in (torch, torch.nn.functional, torch.Tensor):
        if hasattr(home, name):
            return getattr(home, name)
    return None


def attempt(call: Callable[..., Any], operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
    try:
        return call(*operands, **options)
    except Exception as error:
        return error


def leaves(value: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def differ(found: np.ndarray, expected: np.ndarray, single: bool = False) -> bool:
    if found.shape != expected.shape:
        return True
    if found.dtype.kind != "f" or expected.dtype.kind != "f":
        return not np.array_equal(found, expected)
    tolerance = 1e-8 if found.dtype == expected.dtype == np.float64 and not single else 2e-4
    # After an overflow it depends on the order of operations whether infinity or nan remains.
    found, expected = (np.where(np.isinf(x), np.nan, x) for x in (found, expected))
    finite = expected[np.isfinite(expected)]
    size = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
    return not np.allclose(found, expected, rtol=tolerance, atol=tolerance * size, equal_nan=True)


def compared(ours: Any, theirs: Any, inputs: list[tuple[Any, Any]]) -> str:
    """What differs between two results, in words; empty if nothing does."""
    mine, other = leaves(ours), leaves(theirs)
    if len(mine) != len(other):
        return f"{len(mine)} results, not {len(other)}"
    single = any(x.dtype == np.float32 for x, _ in inputs)
    seeds, losses, their_losses = np.random.default_rng(0), [], []
    for x, y in zip(mine, other, strict=True):
        if differ(x.array, y.detach().numpy(), single):
            return f"value {x.array.tolist()!r:.150}, not {y.detach().numpy().tolist()!r:.150}"
        if x.requires_grad and y.requires_grad:
            seed = np.asarray(seeds.standard_normal(x.shape))
            losses.append((x * ta.tensor(seed, dtype=x.dtype)).sum())
            their_losses.append((y * torch.tensor(seed, dtype=y.dtype)).sum())
    if losses:
        sum(losses[1:], losses[0]).backward()
        sum(their_losses[1:], their_losses[0]).backward()
        for number, (x, y) in enumerate(inputs):
            if (x.grad is None) != (y.grad is None):
                continue  # None and zeros are one gradient
            if x.grad is not None and differ(x.grad.array, y.grad.numpy(), single):
                return f"gradient {number} {x.grad.tolist()!r:.150}, not {y.grad.tolist()!r:.150}"
    return ""


def judged(name: str, owners: tuple[str, ...], ours: Any, theirs: Any, inputs: list[tuple[Any, Any]]) -> Outcome:
    """The outcome of a call of both."""
    if isinstance(ours, Exception):
        text = str(ours).lstrip("'\"")
        if FOREIGN.search(text) or not text.startswith(owners) or isinstance(ours, AttributeError):
            return Outcome(name, "BARE", f"{type(ours).__name__}: {text:.160}")
        return Outcome(name, "both refuse" if isinstance(theirs, Exception) else "theirs alone", text[:160])
    if theirs is None or isinstance(theirs, Exception):
        return Outcome(name, "no peer" if theirs is None else "ours alone")
    try:
        wrong = compared(ours, theirs, inputs)
    except RuntimeError as error:
        if re.search("not implemented|does not require grad|invalid gradient|Found dtype", str(error)):
            return Outcome(name, "ours alone")
        return Outcome(name, "WRONG", f"{type(error).__name__}: {error}"[:160])
    return Outcome(name, "WRONG", wrong) if wrong else Outcome(name, "equal")


def prepared(operands: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[tuple[Any, Any]]]:
    """Operands as both libraries take them, and the pairs of those that require a gradient."""
    mine, other, pairs = [], [], []
    for operand in operands:
        if isinstance(operand, np.ndarray) and operand.dtype.kind in "fiub":
            x, y = ta.Tensor(operand.copy(order="K")), in_torch(operand)
            if operand.dtype.kind == "f":
                x.requires_grad_()
                y.requires_grad_()
                pairs.append((x, y))
            mine.append(x)
            other.append(y)
        else:
            mine.append(operand)
            other.append(in_torch(operand))
    return mine, other, pairs


def call_op(draw: Draw, name: str) -> Outcome:
    op = OPS[name]
    assert op.samples is not None
    sample = spoiled(draw, op.samples(draw))
    mine, other, pairs = prepared(sample.operands)
    ours = attempt(op, tuple(mine), sample.options)
    peer = torch_op(name)
    options = {key: in_torch(value) for key, value in sample.options.items()}
    theirs = None if peer is None else attempt(peer, tuple(other), options)
    outcome = judged(name, (f"{name}:", f"{name} "), ours, theirs, pairs)
    return outcome._replace(text=f"{outcome.text}  <- {sample!s:.200}" if outcome.text else "")


def call_layer(draw: Draw, name: str) -> Outcome:
    choices, inputs = LAYERS[name]
    options = {option: draw.choice(values) for option, values in choices.items()}
    sample = Sample(inputs(draw))
    if draw.boolean():
        sample = spoiled(draw, sample)
    elif options and draw.integer(0, 2) == 2:
        options[draw.choice(sorted(options))] = draw.choice(HOSTILE)
    layer = attempt(getattr(nn, name), (), {**options})
    if isinstance(layer, Exception):
        outcome = judged(name, (f"{name}:",), layer, None, [])
        return outcome._replace(text=f"{outcome.text}  <- {options}")
    peer = attempt(getattr(torch.nn, name), (), options)
    if isinstance(peer, Exception):
        return Outcome(name, "ours alone")
    state = {key: torch.tensor(value.array.copy()) for key, value in layer.state_dict().items()}
    peer.load_state_dict(state)
    layer, peer = layer.to(np.float64), peer.double()
    layer.train(), peer.train()
    mine, other, pairs = prepared(sample.operands)
    ordered = dict(peer.named_parameters())
    pairs += [(parameter, ordered[key]) for key, parameter in layer.named_parameters()]
    ours, theirs = attempt(layer, tuple(mine), {}), attempt(peer, tuple(other), {})
    outcome = judged(name, (f"{name}:", *OWNERS), ours, theirs, pairs)
    return outcome._replace(text=f"{outcome.text}  <- {options} {sample!s:.150}" if outcome.text else "")


OWNERS = tuple(f"{name}:" for name in (*OPS, "MultiheadAttention", "nll_loss", "mse_loss", "l1_loss", "huber_loss",
                                       "smooth_l1_loss", "kl_div", "binary_cross_entropy_with_logits"))  # fmt: skip
NAMES = [(call_op, name) for name in OPS if OPS[name].samples] + [(call_layer, name) for name in LAYERS] * 2


def call_number(seed: int, number: int) -> Outcome:
    """The call of this number, always the same for a seed."""
    generator = np.random.default_rng([seed, number])
    draw = Draw(lambda low, high: int(generator.integers(low, high + 1)))
    ta.manual_seed(number)
    call, name = NAMES[number % len(NAMES)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(draw, name)


def run(seed: int, numbers: range) -> tuple[collections.Counter[str], list[str]]:
    """Counts of the outcomes, and the failures."""
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    for number in numbers:
        faulthandler.dump_traceback_later(120, exit=True)  # a call of the first compiles its kernels
        try:
            outcome = call_number(seed, number)
        except Exception as error:
            outcome = Outcome(NAMES[number % len(NAMES)][1], "FUZZ", repr(error)[:200])
        if any(re.fullmatch(n, outcome.name) and re.search(how, outcome.text) for n, how in ON_PURPOSE.items()):
            outcome = outcome._replace(kind="on purpose") if outcome.kind == "WRONG" else outcome
        counts[outcome.kind] += 1
        if outcome.kind.isupper():
            failures.append(f"{number} {outcome.name} {outcome.kind}: {outcome.text}")
    faulthandler.cancel_dump_traceback_later()
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    first, last = (0, given.calls) if given.only is None else (given.only, given.only + 1)
    counts, failures = run(given.seed, range(first, last))
    print("\n".join(failures))
    print(", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
