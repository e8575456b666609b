"""Layers: modules with PyTorch's names, arguments, parameter layouts and initial values."""

from tinygrad_attn.nn import functional, init
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.embedding import Embedding
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.module import Module, ModuleList, Parameter, Sequential
from tinygrad_attn.nn.norm import LayerNorm
from tinygrad_attn.nn.recurrent import GRU, GRUCell

__all__ = [
    "GRU", "Dropout", "Embedding", "GRUCell", "LayerNorm", "Linear", "Module", "ModuleList", "Parameter", "Sequential",
    "functional", "init",
]  # fmt: skip
