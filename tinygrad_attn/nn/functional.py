"""Functions of neural networks, under the names they have in ``torch.nn.functional``."""

from tinygrad_attn.ops.activation import elu, gelu, leaky_relu, relu, silu, softplus
from tinygrad_attn.ops.dropout import dropout
from tinygrad_attn.ops.fused.additive import additive_score
from tinygrad_attn.ops.fused.attention import scaled_dot_product_attention
from tinygrad_attn.ops.fused.attention_gru import attention_gru
from tinygrad_attn.ops.fused.cross_entropy import cross_entropy, nll_loss
from tinygrad_attn.ops.fused.embedding import embedding
from tinygrad_attn.ops.fused.linear import linear
from tinygrad_attn.ops.fused.normalize import cosine_similarity, layer_norm, normalize, rms_norm
from tinygrad_attn.ops.fused.softmax import log_softmax, masked_softmax, softmax
from tinygrad_attn.ops.loss import binary_cross_entropy_with_logits, kl_div, logsigmoid, mse_loss
from tinygrad_attn.ops.pointwise import sigmoid, tanh
from tinygrad_attn.ops.rearrangement import pad

__all__ = [
    "additive_score", "attention_gru", "binary_cross_entropy_with_logits", "cosine_similarity", "cross_entropy",
    "dropout", "elu", "embedding", "gelu", "kl_div", "layer_norm", "leaky_relu", "linear", "log_softmax", "logsigmoid",
    "masked_softmax", "mse_loss", "nll_loss", "normalize", "pad", "relu", "rms_norm", "scaled_dot_product_attention",
    "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip
