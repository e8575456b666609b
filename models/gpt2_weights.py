"""Weights to and from GPT-2's layout: the safetensors files of Hugging Face's transformers, and their config.json.

::

    model = load_gpt2("gpt2")                    # a folder with model.safetensors and config.json
    save_gpt2(model, "continued")                # the same, for GPT2LMHeadModel.from_pretrained("continued")

Both sides compute the same numbers. GPT-2 multiplies from the other side: its Conv1D is x W + b with W (in, out), ours,
as PyTorch's Linear, x Wᵀ + b with W (out, in). So every matrix of a block is transposed, and ``attn.c_attn``, the
projections of queries, keys and values side by side, is our ``in_proj_weight``, where they are stacked. The output
layer is the embedding on both sides.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygrad_attn import nn
from tinygrad_attn.atomic import atomic_path
from tinygrad_attn.serialize import load_file, save_file
from tinygrad_attn.tensor import Tensor

from .console.errors import UserError
from .gpt import GPT
from .runs.jsons import parse_json

__all__ = ["from_gpt2", "load_gpt2", "save_gpt2", "to_gpt2"]

Array = np.ndarray[Any, Any]

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_PREFIX, _OUTPUT = "transformer.", "lm_head.weight"
_EMBEDDING, _POSITIONS = "wte.weight", "wpe.weight"
_MASKS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # constants, which old files hold
_BLOCK = re.compile(r"h\.(\d+)\.")
# Our name of each module of a block, and the shape of its weight in widths E; its bias has the last axis.
_MODULES = {
    "ln_1.": ("norm1.", (1,)),
    "attn.c_attn.": ("self_attn.in_proj_", (1, 3)),
    "attn.c_proj.": ("self_attn.out_proj.", (1, 1)),
    "ln_2.": ("norm2.", (1,)),
    "mlp.c_fc.": ("feed_forward.linear1.", (1, 4)),
    "mlp.c_proj.": ("feed_forward.linear2.", (4, 1)),
}
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
# What GPT computes; a config.json that asks for something else is refused, and one without the entry means this.
_FIXED = {
    "model_type": "gpt2",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
_SHOWN = 3  # of many faults
_SAVED = "save the weights and config.json again, together, with GPT2LMHeadModel's save_pretrained"


class Parameter(NamedTuple):
    """A parameter in both layouts."""

    theirs: str
    """Its name in GPT-2, without the prefix."""
    ours: str
    shape: tuple[int, ...]
    """In GPT-2's layout."""


def load_gpt2(path: str | os.PathLike[str], *, heads: int | None = None, dtype: Any = None) -> GPT:
    """A GPT with the weights of a GPT-2, in evaluation mode.

    Args:
        path: a folder with ``model.safetensors`` and ``config.json``, as transformers' ``save_pretrained`` writes it,
            or a safetensors file. Names may begin with ``transformer.`` or not.
        heads: the number of heads, which the weights do not tell, for a file without ``config.json`` beside it. All
            else is then as in GPT-2: the activation gelu_new, eps 1e-5, dropout 0.1.
        dtype: float32 or float64; None: float64 if the file has that, otherwise float32.

    Raises:
        FileNotFoundError: no such file.
        UserError: an array is missing, not expected, or has another shape; a setting in ``config.json`` that GPT cannot
            follow; ``heads`` neither given nor in a ``config.json``.
        ValueError: the file is damaged; see `tinygrad_attn.serialize.load_file`.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        pickles = [name for name in _PICKLES if file.with_name(name).is_file()]
        if pickles:
            raise FileNotFoundError(
                f"there is no {file}, and {pickles[0]} is a pickle, which may run any code when it is read; write the "
                "weights with transformers' GPT2LMHeadModel.from_pretrained(folder).save_pretrained(folder)"
            )
        raise FileNotFoundError(
            f"there is no {file}; transformers' model.save_pretrained(folder, max_shard_size='100GB') writes it, "
            "in one piece"
        )
    config = _read_config(file.with_name(CONFIG), required=Path(path).is_dir())
    arrays, _ = load_file(file)
    try:
        settings = {**_settings(config), "heads": _heads(config, heads)}
        state = from_gpt2(arrays, config)
        vocabulary, width = state["embedding.weight"].shape
        if dtype is None:
            dtype = np.float64 if state["embedding.weight"].dtype == np.float64 else np.float32
        sizes = {"layers": _layers(state), "d_model": width, "context": len(state["positions.weight"])}
        model = GPT(vocabulary, **settings, **sizes, bias=True, dtype=dtype)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    model.load_state_dict(state)
    for norm in _norms(model):
        norm.eps = float(config.get("layer_norm_epsilon", 1e-5))
    return model.eval()


def save_gpt2(model: GPT, path: str | os.PathLike[str]) -> None:
    """Write a GPT as a GPT-2, which ``GPT2LMHeadModel.from_pretrained`` and `load_gpt2` read.

    Biases that the model lacks are written as zeros, with which the logits are the same.

    Args:
        model: with learned positions, LayerNorm, the activation gelu_tanh or gelu, and as many heads of keys as of
            queries.
        path: a folder, made if there is none, for ``model.safetensors`` and ``config.json``; or, if it ends in
            ``.safetensors``, the file of the weights alone.

    Raises:
        UserError: the model has a part that GPT-2 lacks, such as rotary positions; or the folder cannot be made.
        TypeError: no GPT.
        OSError: the files cannot be written.
    """
    if not isinstance(model, GPT):
        raise TypeError(f"save_gpt2: expected a GPT, got {type(model).__name__}; of a run it is load(RUN).module")
    config = _config_of(model)
    arrays = to_gpt2({**_zero_biases(model), **model.state_dict()})
    file = Path(path)
    if file.suffix != ".safetensors":
        if file.exists() and not file.is_dir():
            raise UserError(f"save_gpt2: {file} is a file; name a folder, or a file that ends in .safetensors")
        try:
            file.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"save_gpt2: the folder {file} cannot be made: {error.strerror}; name another") from error
        with atomic_path(file / CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        file /= WEIGHTS
    save_file(arrays, file, {"format": "pt"})


def from_gpt2(arrays: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> dict[str, Array]:
    """Arrays under GPT-2's names and in its layout, weights or their gradients, as a ``state_dict`` of `GPT`.

    Args:
        arrays: V: symbols, T: context, E: width. ``wte.weight`` (V, E), ``wpe.weight`` (T, E), ``ln_f.weight`` (E,),
            ``h.0.attn.c_attn.weight`` (E, 3E) and so on; each name may begin with ``transformer.``. The masks in
            ``h.0.attn.bias`` are left out, as is ``lm_head.weight``, which must equal ``wte.weight``.
        config: what is in ``config.json``; the arrays must have the sizes in it.

    Raises:
        UserError: an array is missing, not expected, or has another shape or dtype; the message names it.
        TypeError: no dict.
    """
    config = config or {}
    given = _without_prefix(arrays)
    blocks = {match[1] for name in given if (match := _BLOCK.match(name))}
    layers = _size(config, "n_layer", max(1, len(blocks)))
    if layers > len(given):
        raise UserError(f"n_layer is {layers}, and there are no more than {len(given)} arrays; {_SAVED}")
    ours = {theirs: own for theirs, own, _ in _parameters(layers)}
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in arrays) else ""
    missing = [prefix + name for name in ours if name not in given]
    unexpected = [written for name, (written, _) in given.items() if name not in ours]
    if missing or unexpected:
        faults = {"missing": missing, "unexpected": unexpected}
        listed = [f"{kind}: {_some(names)}" for kind, names in faults.items() if names]
        raise UserError(f"these are not the arrays of a GPT-2 with n_layer {layers}: {'; '.join(listed)}; {_SAVED}")
    _check_shapes(given, layers, config)
    return {own: _turned(name, given[name][1]) for name, own in ours.items()}


def to_gpt2(state: Mapping[str, Any]) -> dict[str, Array]:
    """The ``state_dict`` of a `GPT`, or gradients by its names, under GPT-2's names and in its layout.

    Args:
        state: tensors or arrays, of a model with ``bias=True``.

    Raises:
        UserError: a name is missing or not GPT-2's, as those of rotary positions or SwiGLU.
        TypeError: no dict.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"to_gpt2: expected a dict, as state_dict() gives it, got {type(state).__name__}")
    theirs = {own: name for name, own, _ in _parameters(_layers(state))}
    missing, unexpected = [own for own in theirs if own not in state], [name for name in state if name not in theirs]
    if missing or unexpected:
        problem = f"it lacks {_some(missing)}" if missing else f"there is no place in it for {_some(unexpected)}"
        raise UserError(
            f"a state_dict has no layout of GPT-2's: {problem}; train with model.bias=true and the learned positions, "
            "norm and heads that are the default"
        )
    arrays = {own: _array(value) for own, value in state.items()}
    return {_PREFIX + name: _turned(name, arrays[own]) for own, name in theirs.items()}


def _parameters(layers: int, *, symbols: int = 0, context: int = 0, width: int = 0) -> Iterator[Parameter]:
    """Every parameter of a GPT-2 of these sizes."""
    yield Parameter(_EMBEDDING, "embedding.weight", (symbols, width))
    yield Parameter(_POSITIONS, "positions.weight", (context, width))
    modules = [
        (f"h.{i}.{name}", f"blocks.{i}.{own}", axes) for i in range(layers) for name, (own, axes) in _MODULES.items()
    ]
    for name, own, axes in [*modules, ("ln_f.", "norm.", (1,))]:
        shape = tuple(times * width for times in axes)
        yield Parameter(f"{name}weight", f"{own}weight", shape)
        yield Parameter(f"{name}bias", f"{own}bias", shape[-1:])


def _turned(name: str, array: Array) -> Array:
    """From one layout to the other: the matrix of a Conv1D, ``c_attn``, ``c_proj`` or ``c_fc``, is transposed."""
    return array.T if ".c_" in name and array.ndim == 2 else array


def _without_prefix(arrays: Mapping[str, Any]) -> dict[str, tuple[str, Array]]:
    """By name without the prefix: the name as given, and the array. Masks and a tied output layer are left out."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"from_gpt2: expected a dict of arrays by GPT-2's names, got {type(arrays).__name__}")
    given: dict[str, tuple[str, Array]] = {}
    for written, value in arrays.items():
        name = written.removeprefix(_PREFIX)
        if name in given:
            raise UserError(f"{name} is there twice, with the prefix {_PREFIX!r} and without; remove one")
        if not _MASKS.fullmatch(name):
            given[name] = written, _array(value)
    if _OUTPUT in given:
        written, output = given.pop(_OUTPUT)
        _, embedding = given.setdefault(_EMBEDDING, (written, output))  # of two tied arrays a file may hold either
        if not np.array_equal(output, embedding, equal_nan=True):
            raise UserError(
                f"{written} differs from {_EMBEDDING}: the output layer of a GPT is its embedding; tie them "
                "(tie_word_embeddings) and train again"
            )
    return given


def _check_shapes(given: Mapping[str, tuple[str, Array]], layers: int, config: Mapping[str, Any]) -> None:
    """Raise unless all arrays have the config's sizes, or where it has none those of the two embeddings."""
    for name in (_EMBEDDING, _POSITIONS):
        written, array = given[name]
        if array.ndim != 2 or 0 in array.shape:
            raise UserError(f"{written} has the shape {array.shape}, expected a matrix; {_SAVED}")
    (symbols, width), (context, _) = given[_EMBEDDING][1].shape, given[_POSITIONS][1].shape
    sizes = {
        "symbols": _size(config, "vocab_size", symbols),
        "context": _size(config, "n_positions", context),
        "width": _size(config, "n_embd", width),
    }
    if (inner := config.get("n_inner")) not in (None, 4 * sizes["width"]):
        raise UserError(f"{CONFIG} has n_inner {inner!r}; in a GPT it is 4 n_embd, {4 * sizes['width']}")
    for name, _, expected in _parameters(layers, **sizes):
        written, array = given[name]
        if array.shape != expected:
            turned = ".c_" in name and array.shape == expected[::-1]
            fix = "transpose it: GPT-2's matrices are (in, out)" if turned else _SAVED
            raise UserError(f"{written} has the shape {array.shape}, expected {expected}; {fix}")
        if array.dtype.kind != "f":
            raise UserError(f"{written} is {array.dtype}, expected floats; save the model in float32")


def _read_config(file: Path, required: bool) -> dict[str, Any]:
    """What is in ``config.json``; nothing if there is none and none is needed."""
    if not file.is_file():
        if required:
            raise FileNotFoundError(
                f"there is no {file}, which has the number of heads; give load_gpt2 the file {WEIGHTS} and heads="
            )
        return {}
    try:
        config = parse_json(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}; save it again") from None
    if not isinstance(config, dict):
        raise UserError(f"{file} must hold an object in braces; save it again")
    return config


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `GPTSettings` that do not depend on the weights.

    Raises:
        UserError: the config asks for what GPT does not compute.
    """
    for key, computed in _FIXED.items():
        if (asked := config.get(key, computed)) != computed:
            raise UserError(f"{CONFIG} has {key} {asked!r}; a GPT computes as with {computed!r}, and nothing else")
    activation = config.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise UserError(f"{CONFIG} has activation_function {activation!r}; a GPT has {', '.join(_ACTIVATIONS)}")
    if type(eps := config.get("layer_norm_epsilon", 1e-5)) not in (int, float) or not 0 <= eps < 1:
        raise UserError(f"{CONFIG} has layer_norm_epsilon {eps!r}; expected a number such as 1e-05")
    dropouts = {key: config.get(key, 0.1) for key in _DROPOUTS}
    if len(set(map(repr, dropouts.values()))) > 1:
        listed = ", ".join(f"{key} {value!r}" for key, value in dropouts.items())
        raise UserError(f"{CONFIG} has {listed}; a GPT drops the same share everywhere, so make them equal")
    return {"activation": _ACTIVATIONS[activation], "dropout": dropouts["resid_pdrop"]}


def _heads(config: Mapping[str, Any], given: int | None) -> int:
    if "n_head" not in config:
        if given is None:
            raise UserError(
                f"the weights do not tell the number of heads; put {CONFIG} beside the file, or give heads="
            )
        return _size({"heads": given}, "heads", 1)
    heads = _size(config, "n_head", 1)
    if given not in (None, heads):
        raise UserError(f"heads is {given!r}, and {CONFIG} has n_head {heads}; leave heads out")
    return heads


def _size(config: Mapping[str, Any], key: str, otherwise: int) -> int:
    size = config.get(key, otherwise)
    if type(size) is not int or size < 1:
        raise UserError(f"{key} is {size!r}; expected a whole number of 1 or more")
    return size


def _config_of(model: GPT) -> dict[str, Any]:
    """The ``config.json`` of a model.

    Raises:
        UserError: it has a part that GPT-2 lacks.
    """
    settings = model.settings
    activations = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    plain: dict[str, tuple[object, ...]] = {
        "norm": ("layer",),
        "positions": ("learned",),
        "kv_heads": (0, settings.heads),
        "qk_norm": (False,),
        "activation": tuple(activations),
    }
    for name, allowed in plain.items():
        if (value := getattr(settings, name)) not in allowed:
            listed = " or ".join(map(repr, allowed))
            raise UserError(f"save_gpt2: model.{name} is {value!r}; GPT-2 knows {listed} alone: train with it")
    epsilons = {norm.eps for norm in _norms(model)}
    if len(epsilons) > 1:
        raise UserError(f"save_gpt2: the norms have different eps {sorted(epsilons)}; GPT-2 has one for all")
    return {
        **_FIXED,
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": len(model.embedding.weight),
        "n_positions": settings.context,
        "n_embd": settings.d_model,
        "n_layer": settings.layers,
        "n_head": settings.heads,
        "activation_function": activations[settings.activation],
        "layer_norm_epsilon": epsilons.pop(),
        **dict.fromkeys(_DROPOUTS, settings.dropout),
        "dtype": str(np.dtype(model.embedding.weight.dtype)),
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _zero_biases(model: GPT) -> dict[str, Array]:
    """Zeros for every bias that a GPT-2 of this size has."""
    dtype, parameters = model.embedding.weight.dtype, _parameters(model.settings.layers, width=model.settings.d_model)
    return {own: np.zeros(shape, dtype) for _, own, shape in parameters if own.endswith("bias")}


def _layers(state: Mapping[str, Any]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("blocks.")})


def _norms(model: GPT) -> list[nn.LayerNorm]:
    return [module for module in model.modules() if isinstance(module, nn.LayerNorm)]


def _array(value: Any) -> Array:
    """A tensor of this package or of PyTorch, or an array, as an array."""
    if isinstance(value, Tensor):
        return value.array
    if callable(detach := getattr(value, "detach", None)):
        value = detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has none
            value = value.float()
    return np.asarray(value)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
