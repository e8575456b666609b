"""What PyTorch has under a name is here under the same name: as a function, and as a method where it has one, too."""

import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn.nn import functional as F  # noqa: E402

FUNCTIONS = """
abs exp exp2 log log2 log1p expm1 sqrt rsqrt square reciprocal neg sign sin cos tan tanh atan sigmoid erf clamp
add sub mul true_divide pow maximum minimum where eq ne lt le gt ge
sum mean amax amin max min prod var std logsumexp cumsum argmax argmin any all
reshape transpose permute squeeze unsqueeze flip cat stack split chunk roll tril triu flatten unbind narrow diagonal
gather scatter_add index_select index_add masked_fill take_along_dim topk sort
matmul mm bmm mv dot outer einsum softmax log_softmax
zeros ones full arange eye rand randn randint linspace empty zeros_like ones_like full_like from_numpy manual_seed
no_grad enable_grad set_grad_enabled is_grad_enabled tensor
""".split()

METHODS = """
abs exp exp2 log log2 log1p expm1 sqrt rsqrt square reciprocal neg sign sin cos tan tanh atan sigmoid erf clamp
add sub mul true_divide div pow maximum minimum where eq ne lt le gt ge
sum mean amax amin max min prod var std logsumexp cumsum argmax argmin any all
reshape view transpose permute expand squeeze unsqueeze flip split chunk repeat roll tril triu flatten unbind narrow
diagonal gather scatter_add index_select index_add masked_fill take_along_dim topk sort matmul mm bmm mv dot outer
softmax log_softmax detach backward register_hook retain_grad requires_grad_ numpy item tolist size dim numel clone
contiguous add_ sub_ mul_ div_ zero_ fill_ copy_ float double long bool T mT shape dtype ndim grad is_leaf
""".split()

FUNCTIONAL = """
relu gelu silu softplus leaky_relu elu pad linear layer_norm rms_norm cross_entropy nll_loss mse_loss
binary_cross_entropy_with_logits kl_div embedding dropout normalize cosine_similarity scaled_dot_product_attention
softmax log_softmax
""".split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    assert callable(getattr(torch, name)) and callable(getattr(ta, name))


@pytest.mark.parametrize("name", METHODS)
def test_method(name):
    assert hasattr(torch.Tensor, name) and hasattr(ta.Tensor, name)


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional(name):
    assert callable(getattr(torch.nn.functional, name)) and callable(getattr(F, name))


def test_elsewhere():
    assert callable(ta.linalg.vector_norm) and callable(ta.nn.GRU) and callable(ta.optim.Adam)
    assert callable(ta.detect_anomaly)  # torch.autograd.detect_anomaly
