"""Optimisers: each step as PyTorch takes it, clipping, and a state that continues with the same bits."""

import numpy as np
import pytest

import tinygrad_attn as ta
from tinygrad_attn import nn, optim


def parameters(dtype: type = np.float64) -> list[nn.Parameter]:
    generator = np.random.default_rng(0)
    return [nn.Parameter(generator.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (5,), ())]


def set_gradients(params: list[nn.Parameter], seed: int) -> None:
    generator = np.random.default_rng(seed)
    for p in params:
        p.grad = ta.Tensor(np.asarray(generator.standard_normal(p.shape)).astype(p.dtype))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        ("Adam", {"lr": 0.01}),
        ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
        ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ],
)
def test_steps_equal_pytorchs(name: str, options: dict) -> None:
    torch = pytest.importorskip("torch", reason="the parity extra is not installed")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
    optimiser, peer = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for seed in range(5):
        set_gradients(ours, seed)
        for p, q in zip(ours, theirs, strict=True):
            q.grad = torch.tensor(p.grad.array)
        norm = optimiser.step(clip_norm=2.0)
        reference = torch.nn.utils.clip_grad_norm_(theirs, 2.0)
        peer.step()
        assert norm == pytest.approx(float(reference), rel=1e-12)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_clip_grad_norm_scales_in_place() -> None:
    params = parameters()
    set_gradients(params, 0)
    before = np.concatenate([p.grad.array.ravel() for p in params])
    assert optim.clip_grad_norm_(params, 0.5) == pytest.approx(np.linalg.norm(before))
    after = np.concatenate([p.grad.array.ravel() for p in params])
    np.testing.assert_allclose(after, before * 0.5 / (np.linalg.norm(before) + 1e-6))
    assert optim.clip_grad_norm_(params, 100.0) == pytest.approx(0.5, rel=1e-5)


def test_parameters_without_a_gradient_stay() -> None:
    params = parameters()
    set_gradients(params, 0)
    params[1].grad = None
    before = params[1].array.copy()
    optim.Adam(params).step()
    np.testing.assert_array_equal(params[1].array, before)
    optimiser = optim.SGD(params)
    optimiser.zero_grad()
    assert all(p.grad is None for p in params)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_state_continues_with_the_same_bits(name: str) -> None:
    def run(params: list[nn.Parameter], optimiser: optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            set_gradients(params, seed)
            optimiser.step()

    options = {"lr": 0.1, **({"momentum": 0.9} if name == "SGD" else {})}
    whole = parameters(np.float32)
    run(whole, getattr(optim, name)(whole, **options), range(6))
    first = parameters(np.float32)
    optimiser = getattr(optim, name)(first, **options)
    run(first, optimiser, range(3))
    state = {key: array.copy() for key, array in optimiser.state_dict().items()}
    resumed = [nn.Parameter(p.array) for p in first]
    continued = getattr(optim, name)(resumed, **options)
    continued.load_state_dict(state)
    run(resumed, continued, range(3, 6))
    for p, q in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(p.array, q.array)


def test_errors() -> None:
    params = parameters()
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD([])
    with pytest.raises(ValueError, match="lr must not be negative"):
        optim.Adam(params, lr=-1.0)
    with pytest.raises(ValueError, match="betas"):
        optim.Adam(params, betas=(1.0, 0.9))
    state = optim.Adam(params).state_dict()
    state["exp_avg.0"] = np.zeros(7)
    del state["exp_avg.1"]
    state["odd"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"(?s)missing: exp_avg\.1.*unexpected: odd.*exp_avg\.0 is \(7,\)"):
        optim.Adam(params).load_state_dict(state)


def test_a_step_bumps_the_version() -> None:
    params = parameters()
    loss = (params[0] * params[0]).sum()
    set_gradients(params, 0)
    optim.Adam(params).step()
    with pytest.raises(RuntimeError, match=r"Adam\.step\(\)"):
        loss.backward()


def test_a_parameter_that_starts_late_is_corrected_by_its_own_count() -> None:
    torch = pytest.importorskip("torch", reason="the parity extra is not installed")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
    optimiser, peer = optim.Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for seed in range(4):
        set_gradients(ours, seed)
        for p, q in zip(ours, theirs, strict=True):
            q.grad = torch.tensor(p.grad.array)
        if seed < 2:
            ours[1].grad = theirs[1].grad = None
        optimiser.step()
        peer.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_what_cannot_be_optimised_is_named() -> None:
    x = ta.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match="parameter 0 must be a leaf tensor, got the output of an op"):
        optim.Adam([x * 2.0])
    with pytest.raises(TypeError, match="got dict"):
        optim.SGD([{"params": [x]}])


def test_clip_grad_norm_of_one_tensor() -> None:
    x = nn.Parameter(np.array([2.0, 2.0]))
    x.grad = ta.tensor(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_(x, 1.0) == pytest.approx(5.0)
