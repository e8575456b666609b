"""Every public function and method has PyTorch's name, except a few of our own."""

import pytest

torch = pytest.importorskip("torch", reason="the parity extra is not installed")

import stubs  # noqa: E402

import tinygrad_attn as ta  # noqa: E402
from tinygrad_attn.public import NAMESPACES  # noqa: E402

PYTORCH = {
    "ta": torch, "F": torch.nn.functional, "func": torch.func, "linalg": torch.linalg, "Tensor": torch.Tensor
}  # fmt: skip
OURS = {
    "ta": "CheckError OpReport backward capture check_op checkpoint detect_anomaly expand grad gradcheck gradgradcheck "
    "fused_by op public registered_ops repeat unfused",
    "F": "activated_linear add_layer_norm additive_score attention_gru masked_softmax placed_embedding rotary",
    "func": "hvp jacobian",  # PyTorch has them in autograd.functional
    "linalg": "",
    "Tensor": "__copy__ _repr_html_",
}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_names_are_those_of_pytorch(namespace):
    other = {name for name in stubs.names(namespace) if not hasattr(PYTORCH[namespace], name)}
    assert other == set(OURS[namespace].split())


def test_elsewhere():
    assert callable(ta.nn.GRU) and callable(ta.optim.Adam) and torch.autograd.detect_anomaly is not None
    own = (
        "detach register_hook register_post_accumulate_grad_hook retain_grad requires_grad_ numpy item tolist size dim "
        "numel shape dtype ndim grad is_leaf"
    )
    assert all(hasattr(torch.Tensor, name) for name in own.split())
    assert all(hasattr(ta.tensor(1.0), name) for name in own.split())
