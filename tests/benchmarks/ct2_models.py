"""A run's Transformer as a CTranslate2 model: the same weights, converted and nothing else changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.converters.converter import Converter
from ctranslate2.specs import common_spec, transformer_spec
from tinygrad_attn_models.runs.folder import BEST, Run

from tinygrad_attn.nn.positional import sinusoids

__all__ = ["LONGEST", "convert"]

LONGEST = 1024
"""How many places get position vectors."""

Array = np.ndarray[Any, Any]


def convert(folder: Path, out: Path) -> None:
    """Write the best weights of a run as a CTranslate2 model, in which symbols are named by their ids.

    Raises:
        SystemExit: the run holds no Transformer.
    """
    run, weights, _ = Run.open(folder, BEST)
    if run.config.model.name != "transformer":
        raise SystemExit(f"{folder} holds no Transformer")
    _OfRun(run, weights).convert(str(out), force=True)


class _OfRun(Converter):
    def __init__(self, run: Run, weights: dict[str, Array]) -> None:
        self.run = run
        self.weights = weights

    def _load(self) -> Any:
        settings: Any = self.run.config.model
        # pre_norm makes the specs of the final norms; the layers are post-norm.
        spec = transformer_spec.TransformerSpec.from_config(
            (settings.encoder_layers, settings.decoder_layers),
            settings.heads,
            pre_norm=True,
            activation=common_spec.Activation.RELU,
        )
        self._stack(spec.encoder, "encoder", "source", spec.encoder.embeddings[0], settings.d_model)
        self._stack(spec.decoder, "decoder", "target", spec.decoder.embeddings, settings.d_model)
        self._linear(spec.decoder.projection, "output")
        spec.register_source_vocabulary([str(i) for i in range(len(self.run.source))])
        spec.register_target_vocabulary([str(i) for i in range(len(self.run.target))])
        config = spec.config  # ids of models.data: <pad> 0, <s> 1, </s> 2, <unk> 3
        config.bos_token, config.eos_token, config.unk_token, config.decoder_start_token = "1", "2", "3", "1"
        config.layer_norm_epsilon = 1e-5
        return spec

    def _stack(self, side: Any, part: str, language: str, embedding: Any, d_model: int) -> None:
        side.pre_norm = False
        side.scale_embeddings = True
        embedding.weight = self.weights[f"{language}_embedding.weight"]
        learned = self.weights.get(f"{language}_positions.weight")
        positions = sinusoids(LONGEST, d_model).astype(np.float32) if learned is None else learned
        side.position_encodings.encodings = positions
        self._norm(side.layer_norm, f"transformer.{part}.norm")
        for number, layer in enumerate(side.layer):
            name = f"transformer.{part}.layers.{number}"
            self._attention(layer.self_attention, f"{name}.self_attn", f"{name}.norm1")
            last = "norm2"
            if part == "decoder":
                self._attention(layer.attention, f"{name}.multihead_attn", f"{name}.norm2")
                last = "norm3"
            self._linear(layer.ffn.linear_0, f"{name}.linear1")
            self._linear(layer.ffn.linear_1, f"{name}.linear2")
            self._norm(layer.ffn.layer_norm, f"{name}.{last}")

    def _attention(self, spec: Any, name: str, norm: str) -> None:
        weight, bias = self.weights[f"{name}.in_proj_weight"], self.weights[f"{name}.in_proj_bias"]
        size = len(weight) // 3
        # Self-attention has one map for query, key and value; attention to the source one for the query.
        cuts = [slice(None)] if len(spec.linear) == 2 else [slice(0, size), slice(size, None)]
        for linear, cut in zip(spec.linear, cuts, strict=False):
            linear.weight, linear.bias = weight[cut], bias[cut]
        self._linear(spec.linear[-1], f"{name}.out_proj")
        self._norm(spec.layer_norm, norm)

    def _linear(self, spec: Any, name: str) -> None:
        spec.weight, spec.bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def _norm(self, spec: Any, name: str) -> None:
        spec.gamma, spec.beta = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
