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
from comparing import DTYPES, compared
from peers import mask_rows, peer_of

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
    # Every target ignored: the mean is 0.
    r"cross_entropy|CrossEntropyLoss|NLLLoss": (
        r"value \[finite for nan\] float64 0\.0, not float64 nan"
        r"|gradient \d \[finite for nan\] .*ignore_index=.* with nan"
    ),
    # The mask is applied with where: what it hides may be nan.
    r"scaled_dot_product_attention|multihead_attention|rnn|gru|lstm|attention_gru(_step)?": (
        r"\[finite for nan\] .*(is_causal=True|bool\().* with (nan|inf)"
        r"|second gradient .*\[nan for finite\] .*bool\(.* with (nan|inf)"
        r"|gradient .*scale=(1099511627776|nan)"  # the difference of products of 1e12
        r"|gradient .*\[nan for finite\] .*is_causal=True.* with inf"  # an infinite value times a weight of 0
    ),
    # An energy of -inf hides a key as a mask does; and an infinite gradient times a weight of 0 is nan.
    r"(multihead_attention|scaled_dot_product_attention|attention_gru(_step)?)": (
        r"\[finite for nan\] .* with inf|gradient .*\[nan for finite\] .*bool\(.* with (nan|inf)"
    ),
    # A layer of float64 parameters computes in float64.
    r"RMSNorm": r"value float64 .*, not float32 .*float32\(",
    r"rms_norm": r"value float64 .*, not float32 .*(float32\(.*float64\(|float64\(.*float32\()",
    # An infinite factor: which of inf and nan comes of it depends on the order of the products.
    r"layer_norm|add_layer_norm": r"gradient .*\[-?inf for nan\] .* with inf",
    # Linear in the target, as is the clamped loss.
    r"binary_cross_entropy|BCELoss": r"gradient \d \[finite for -?inf\].* with 0",
    # A target of 0: y ln y has the gradient 0 there.
    r"kl_div|KLDivLoss": r"gradient \d \[finite for nan\].* with 0",
    # A number that the integers do not hold makes floats.
    r"masked_fill": (
        r"value float32 .*, not (u?int\d+|bool) .*(0\.5|1\.5|nan)|value float64 .*, not float32 .*float32\(\)"
    ),
    # The same index twice: the last one gets the gradient.
    r"scatter": r"gradient \d float.* with repeats|value float32 .*, not (u?int\d+|bool) .*(0\.5|1\.5|nan)",
    # PyTorch's gradient divides as if over no axis.
    r"std|var": (r"gradient 0 .*(dim=\(\)|correction=(7|1099511627776)|for inf\] .* with nan)|value .*correction=nan"),
    r"all|any": r"value bool .*, not uint8 .*<- uint8\(",
    # Of two dtypes the larger, not the input's.
    r"HuberLoss|BCEWithLogitsLoss|SmoothL1Loss": (
        r"value float64 .*, not float32 .*(float32\(.*float64\(|float64\(.*float32\()"
    ),
    r"bmm|matmul": r"value float64 .*, not (float32|bool|u?int\d+) .*(, 0\)|\(0, |, 0, )",
    # The product of the others, where PyTorch divides the product by the element.
    r"prod": r"gradient 0 \[finite for nan\] .* with (inf|nan)",
    r"softplus": r"second gradient .*threshold=nan",
    # At nan PyTorch's loop over single elements passes the gradient, as here, and its vectors do not.
    r"elu|ELU": r"gradient 0 \[(finite for nan|nan for finite)\].* with nan",
    r"RNN|rnn(_step)?": r"gradient .*'relu'.* with (nan|inf)",
    r"pow": r"second gradient 0 \[finite for nan\].* with 0",
}
"""What differs from PyTorch on purpose, by names and by what tells it, both as regular expressions."""


class Outcome(NamedTuple):
    """How a call ended: "equal", "on purpose" otherwise, "ours alone", "theirs alone", "both refuse", "no peer", or in
    capitals what is wrong."""

    name: str
    kind: str
    text: str = ""


# -- what is called ----------------------------------------------------------------------------------------------------


PRIVATE = {"indices", "key", "widths"}
"""Options that only the public functions of an op make, from arguments of theirs."""


def spoil_array(draw: Draw, x: np.ndarray) -> Any:
    """An operand made another: in shape, dtype, values, layout or kind."""
    kind = draw.integer(0, 11)
    if kind == 0:
        return x[None]
    if kind == 1:
        return x.sum() if x.dtype.kind == "f" else x.reshape(-1)
    if kind == 2:
        return np.concatenate([x, x], -1) if x.ndim else np.stack([x, x])
    if kind == 3:
        return x[..., :0] if x.ndim else x
    if kind in (4, 5):
        return x.astype(draw.choice(DTYPES))
    if kind == 6 and x.dtype.kind == "f" and x.size:
        special = x.copy()
        special.flat[draw.integer(0, x.size - 1)] = draw.choice([np.nan, np.inf, -np.inf, 0.0, -0.0])
        return special
    if kind == 7:
        return np.asfortranarray(x)
    if kind == 8:
        return draw.choice(HOSTILE)
    if kind == 9 and x.ndim:  # every second element of a longer array, backwards
        return np.ascontiguousarray(np.repeat(x, 2, -1)[..., ::-1])[..., ::-2] if x.shape[-1] else x
    if kind == 10:
        return np.broadcast_to(x, (2, *x.shape))
    return x[(0,) * x.ndim] if kind == 11 and x.size else x  # a NumPy scalar


def as_numpy(draw: Draw, value: Any) -> Any:
    """An option as NumPy's scalar or array of the same value."""
    if isinstance(value, tuple) and value and all(type(item) is int for item in value):
        return draw.choice([list(value), tuple(map(np.int64, value)), np.array(value)])
    if type(value) is int and abs(value) > 255:
        return np.int64(value) if abs(value) < 2**63 else value
    scalars: dict[type, list[Any]] = {
        int: [np.int64, np.int32, np.uint8],
        float: [np.float64, np.float32],
        bool: [np.bool_],
    }
    kinds = scalars.get(type(value), [])
    if type(value) is int and value < 0:
        kinds = kinds[:2]
    return draw.choice([*kinds, np.array])(value) if kinds else value


def spoiled(draw: Draw, sample: Sample) -> Sample:
    """A sample in which nothing, an operand or an option was made another."""
    operands, options = list(sample.operands), dict(sample.options)
    for _ in range(draw.choice([0, 1, 1, 2])):
        arrays = [i for i, operand in enumerate(operands) if isinstance(operand, np.ndarray)]
        if options.keys() - PRIVATE and draw.boolean():
            name = draw.choice(sorted(options.keys() - PRIVATE))
            value = options[name]
            options[name] = as_numpy(draw, value) if draw.boolean() else draw.choice(HOSTILE)
        elif arrays:
            i = draw.choice(arrays)
            operands[i] = spoil_array(draw, operands[i])
    return Sample(tuple(operands), options)


LAYERS: dict[str, tuple[dict[str, list[Any]], Callable[[Draw], tuple[Any, ...]]]] = {
    "Linear": ({"in_features": [3], "out_features": [2, 0], "bias": [True, False]}, lambda d: (d.floats((2, 3)),)),
    "LayerNorm": ({"normalized_shape": [3, (2, 3)], "bias": [True, False]}, lambda d: (d.floats((4, 2, 3)),)),
    "RMSNorm": ({"normalized_shape": [3, (2, 3)], "eps": [None, 0.1], "elementwise_affine": [True, False]},
                lambda d: (d.floats((4, 2, 3)),)),
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


def as_option(value: Any) -> Any:
    """An option as PyTorch takes it: an array without axes is a number."""
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else in_torch(value)


def attempt(call: Callable[..., Any], operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
    try:
        return call(*operands, **options)
    except Exception as error:
        return error


def judged(
    name: str, owners: tuple[str, ...], ours: Any, theirs: Any, inputs: list[tuple[Any, Any]], second: bool = False
) -> Outcome:
    """The outcome of a call of both."""
    if isinstance(ours, Exception):
        text = str(ours).lstrip("'\"")
        if FOREIGN.search(text) or not text.startswith(owners) or isinstance(ours, AttributeError):
            return Outcome(name, "BARE", f"{type(ours).__name__}: {text:.160}")
        return Outcome(name, "both refuse" if isinstance(theirs, Exception) else "theirs alone", text[:160])
    if theirs is None or isinstance(theirs, Exception):
        return Outcome(name, "no peer" if theirs is None else "ours alone")
    try:
        wrong = compared(ours, theirs, inputs, second)
    except RuntimeError as error:
        # PyTorch's own backward fails, as of pow with an exponent of bools.
        if re.search(
            "not implemented|does not require grad|invalid gradient|Found dtype|bool tensor|ASSERT", str(error)
        ):
            return Outcome(name, "ours alone")
        return Outcome(name, "WRONG", f"{type(error).__name__}: {error}"[:160])
    return Outcome(name, "WRONG", wrong) if wrong else Outcome(name, "equal")


def prepared(draw: Draw, operands: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[tuple[Any, Any]]]:
    """Operands as both libraries take them, and the pairs of those that require a gradient."""
    mine, other, pairs = [], [], []
    for operand in operands:
        if isinstance(operand, np.ndarray) and operand.dtype.kind in "fiub":
            x, y = ta.Tensor(operand if 0 in operand.strides else operand.copy(order="K")), in_torch(operand)
            if operand.dtype.kind == "f" and draw.integer(0, 5):
                x.requires_grad_()
                y.requires_grad_()
                pairs.append((x, y))
            mine.append(x)
            other.append(y)
        else:
            mine.append(operand)
            other.append(in_torch(operand))
    return mine, other, pairs


def remarks(sample: Sample) -> str:
    """What of the operands' values tells a difference that is on purpose."""
    arrays = [np.asarray(operand) for operand in sample.operands if isinstance(operand, (np.ndarray, np.generic))]
    floats = [x for x in arrays if x.dtype.kind == "f"]
    found = {
        "nan": any(np.isnan(x).any() for x in floats),
        "inf": any(np.isinf(x).any() for x in floats),
        "0": any((x == 0).any() for x in arrays if x.dtype.kind in "fiu"),
        "repeats": any(len(np.unique(x)) < x.size for x in arrays[1:] if x.dtype.kind in "iu"),
    }
    return "".join(f" with {name}" for name, there in found.items() if there)


def call_op(draw: Draw, name: str) -> Outcome:
    op = OPS[name]
    assert op.samples is not None
    sample = spoiled(draw, op.samples(draw))
    mine, other, pairs = prepared(draw, sample.operands)
    ours = attempt(op, tuple(mine), sample.options)
    peer = peer_of(name)
    options = {key: as_option(value) for key, value in sample.options.items()}
    theirs = None if peer is None else attempt(peer, tuple(other), options)
    outcome = judged(name, (f"{name}:", f"{name} "), ours, theirs, pairs, draw.integer(0, 2) == 0)
    return outcome._replace(text=f"{outcome.text}  <- {sample!s:.200}{remarks(sample)}" if outcome.text else "")


MASKS = {
    "MultiheadAttention": [("attn_mask", "key_padding_mask", "is_causal", 0, 1)],
    "TransformerEncoderLayer": [("src_mask", "src_key_padding_mask", "is_causal", 0, 0)],
    "TransformerDecoderLayer": [("tgt_mask", "tgt_key_padding_mask", "tgt_is_causal", 0, 0),
                                ("memory_mask", "memory_key_padding_mask", "memory_is_causal", 0, 1)],
}  # fmt: skip
"""The names of each attention's masks in a layer's arguments, and the positions of the queries' and keys' operands."""


def draw_masks(draw: Draw, name: str, options: dict[str, Any], operands: tuple[Any, ...]) -> dict[str, Any]:
    """Arguments with masks, of bools or floats, of all heads or each, that may leave a query without a key."""
    masks: dict[str, Any] = {}
    heads = options.get("num_heads", options.get("nhead"))
    for attn_mask, key_padding_mask, is_causal, queries, keys in MASKS[name]:
        shapes = [operands[i].shape[:2] for i in (queries, keys)]
        (batch, length), (_, size) = shapes if options.get("batch_first") else [shape[::-1] for shape in shapes]
        if draw.boolean():
            mask = ~draw.mask(draw.choice([(length, size), (batch * heads, length, size)]))
            masks[attn_mask] = draw.choice([mask, mask, np.where(mask, -np.inf, draw.floats(mask.shape))])
        if draw.boolean():
            masks[key_padding_mask] = ~draw.mask((batch, size))
        masks[is_causal] = draw.boolean()
    if name == "MultiheadAttention":
        masks.update(need_weights=draw.boolean(), average_attn_weights=draw.boolean())
    return masks


def call_layer(draw: Draw, name: str) -> Outcome:
    choices, inputs = LAYERS[name]
    options = {option: draw.choice(values) for option, values in choices.items()}
    sample = Sample(inputs(draw))
    masks: dict[str, Any] = {}
    if name in MASKS and draw.integer(0, 2):
        masks = draw_masks(draw, name, options, sample.operands)
    elif draw.boolean():
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
    dropped = options.get("dropout", 0.0) != 0.0  # other elements in PyTorch
    layer.train(not dropped), peer.train(not dropped)
    mine, other, pairs = prepared(draw, sample.operands)
    ordered = dict(peer.named_parameters())
    pairs += [(parameter, ordered[key]) for key, parameter in layer.named_parameters()]
    if masks:
        mask_rows(peer)
    given = {key: ta.Tensor(mask) if isinstance(mask, np.ndarray) else mask for key, mask in masks.items()}
    ours = attempt(layer, tuple(mine), given)
    theirs = attempt(peer, tuple(other), {key: in_torch(mask) for key, mask in masks.items()})
    outcome = judged(name, (f"{name}:", *OWNERS), ours, theirs, pairs)
    return outcome._replace(
        text=f"{outcome.text}  <- {options} {masks or ''} {sample!s:.150}{remarks(sample)}" if outcome.text else ""
    )


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
