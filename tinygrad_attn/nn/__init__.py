"""Layers: modules with PyTorch's names, arguments, parameter layouts and initial values."""

from tinygrad_attn.nn import functional, init, utils
from tinygrad_attn.nn.activation import (
    ELU,
    GELU,
    Flatten,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from tinygrad_attn.nn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_attn.nn.containers import Identity, ModuleDict, ModuleList, Sequential
from tinygrad_attn.nn.counting import count_parameters
from tinygrad_attn.nn.dropout import Dropout
from tinygrad_attn.nn.embedding import Embedding
from tinygrad_attn.nn.feed_forward import SwiGLU
from tinygrad_attn.nn.freezing import frozen_weights
from tinygrad_attn.nn.kv_cache import KVCache
from tinygrad_attn.nn.linear import Linear
from tinygrad_attn.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from tinygrad_attn.nn.module import Module, Parameter
from tinygrad_attn.nn.multihead import MultiheadAttention, record_attention_weights
from tinygrad_attn.nn.norm import LayerNorm, RMSNorm
from tinygrad_attn.nn.positional import (
    LearnedPositionalEncoding,
    RotaryPositionalEncoding,
    SinusoidalPositionalEncoding,
    alibi_bias,
    alibi_slopes,
)
from tinygrad_attn.nn.recomputed import layers_of, recompute_layers
from tinygrad_attn.nn.recurrent import GRU, LSTM, RNN
from tinygrad_attn.nn.scores import (
    SCORES,
    AdditiveScore,
    ConcatScore,
    DotScore,
    GeneralScore,
    LocationScore,
    ScaledDotScore,
    Score,
    attend,
    attention,
)
from tinygrad_attn.nn.transformer import (
    DecoderState,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
    generate_square_subsequent_mask,
)
from tinygrad_attn.nn.transformer_layers import TransformerDecoderLayer, TransformerEncoderLayer

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SCORES",
    "AdditiveScore",
    "BCELoss",
    "BCEWithLogitsLoss",
    "ConcatScore",
    "CrossEntropyLoss",
    "DecoderState",
    "DotScore",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GeneralScore",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "KVCache",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "LearnedPositionalEncoding",
    "Linear",
    "LocationScore",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "RotaryPositionalEncoding",
    "ScaledDotScore",
    "Score",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositionalEncoding",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "SwiGLU",
    "Tanh",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "alibi_bias",
    "alibi_slopes",
    "attend",
    "attention",
    "count_parameters",
    "frozen_weights",
    "functional",
    "generate_square_subsequent_mask",
    "init",
    "layers_of",
    "recompute_layers",
    "record_attention_weights",
    "utils",
]  # fmt: skip
