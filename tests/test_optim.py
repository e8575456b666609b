"""Optimisers: each step as PyTorch takes it, clipping, and a state that continues with the same bits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
def test_a_group_may_be_empty(kind: type[optim.SGD] | type[optim.Adam]) -> None:
    """As of the parameters without decay, in a model that has none."""
    params = parameters()
    optimizer = kind([{"params": []}, {"params": params, "lr": 0.5}, {"params": ()}])
    before = [p.array.copy() for p in params]
    set_gradients(params, 0)
    optimizer.step(clip_norm=1.0)
    assert all((p.array != q).any() for p, q in zip(params, before, strict=True)) and len(optimizer.param_groups) == 3
    with pytest.raises(ValueError, match="no parameters to optimise"):
        kind([{"params": []}, {"params": []}])


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
    with pytest.raises(TypeError, match=r"parameter 0 of shape \(1,\) must be a leaf tensor, got the output of an op"):
        optim.Adam([x * 2.0])
    with pytest.raises(TypeError, match="SGD: params must be a list of parameters, got one tensor; put it in a list"):
        optim.SGD(x)
    with pytest.raises(TypeError, match=r"Adam: expected parameters, got a Linear; call its parameters\(\)"):
        optim.Adam(nn.Linear(2, 3))
    with pytest.raises(TypeError, match="SGD: parameter 1 must be a leaf tensor, got 3"):
        optim.SGD([x, 3])
    with pytest.raises(TypeError, match=r"SGD: parameter 0 of shape \(3,\) must hold floats, it is int64"):
        optim.SGD([ta.arange(3)])
    with pytest.raises(ValueError, match=r"SGD: parameter 1 of shape .* and parameter 0 of shape .* are the same"):
        optim.SGD([x, x])
    model = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"AdamW: parameter 0 of shape .* and weight are the same parameter; give it"):
        optim.AdamW([{"params": model.parameters()}, {"params": [model.weight]}])
    with pytest.raises(ValueError, match="SGD: no parameters to optimise; an iterator"):
        optim.SGD(p for p in ())
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        optim.SGD([ta.Tensor(frozen)])


def test_clip_grad_norm_of_one_tensor() -> None:
    x = nn.Parameter(np.array([2.0, 2.0]))
    x.grad = ta.tensor(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_(x, 1.0) == pytest.approx(5.0)


NOT_OPTIONS = {
    "lr": [math.nan, math.inf, -1.0, "0.1", None, True, [0.1]],
    "weight_decay": [-0.1, math.nan, "x", None],
    "momentum": [-0.9, math.nan, "x"],
    "eps": [-1.0, math.nan, math.inf],
    "betas": [(1.0, 0.9), (0.9, -0.1), (math.nan, 0.9), 0.9, (0.9,), "ab", (None, 0.9)],
}


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@given(st.data())
def test_options_that_cannot_be_are_named(name: str, data: st.DataObject) -> None:
    """In the constructor, in a group, assigned to the optimiser, and assigned to a group."""
    kind = getattr(optim, name)
    optimiser = kind(parameters())
    option = data.draw(st.sampled_from(sorted(optimiser.defaults)))
    value = data.draw(st.sampled_from(NOT_OPTIONS[option]))
    expected = pytest.raises((TypeError, ValueError), match=rf"^{name}: {option} must ")
    with expected:
        kind(parameters(), **{option: value})
    with expected:
        kind([{"params": parameters(), option: value}])
    with expected:
        setattr(optimiser, option, value)
    optimiser.param_groups[0][option] = value
    set_gradients(optimiser.params, 0)
    before = [p.array.copy() for p in optimiser.params]
    with expected:
        optimiser.step()
    assert all(np.array_equal(p.array, old) for p, old in zip(optimiser.params, before, strict=True))


def test_numpy_scalars_as_options_keep_float32() -> None:
    ours, peer = (parameters(np.float32) for _ in range(2))
    optimiser = optim.SGD(ours, lr=np.float64(0.1), momentum=np.float32(0.5), weight_decay=np.int64(1))
    other = optim.SGD(peer, lr=0.1, momentum=0.5, weight_decay=1)
    for each in (optimiser, other):
        set_gradients(each.params, 0)
        each.step(clip_norm=np.float64(1.0))
    assert all(np.array_equal(p.array, q.array) and p.dtype == np.float32 for p, q in zip(ours, peer, strict=True))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch", reason="the parity extra is not installed")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
    options = {"SGD": {"momentum": 0.9}}.get(name, {"betas": (0.5, 0.6), "eps": 1e-3})

    def groups(params: list) -> list[dict]:
        return [{"params": params[:1], "lr": 0.1, "weight_decay": 0.3}, {"params": params[1:], **options}]

    optimiser, peer = getattr(optim, name)(groups(ours), lr=0.01), getattr(torch.optim, name)(groups(theirs), lr=0.01)
    for seed in range(4):
        set_gradients(ours, seed)
        ours[1].grad = ours[1].grad if seed else None
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else torch.tensor(p.grad.array)
        for each in (optimiser, peer):
            for group in each.param_groups:
                group["lr"] *= 0.5
            each.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert [g["lr"] for g in optimiser.param_groups] == pytest.approx([g["lr"] for g in peer.param_groups])
    continued = getattr(optim, name)(groups(parameters()), lr=0.01)
    continued.load_state_dict(optimiser.state_dict())
    assert continued.counts == [4, 3, 4]


def test_a_group_added_later_and_one_that_cannot_be() -> None:
    first, *rest = parameters()
    optimiser = optim.SGD([first], lr=0.5)
    optimiser.add_param_group({"params": rest, "momentum": 0.9, "lr": 0.25})
    set_gradients(optimiser.params, 0)
    optimiser.step()
    assert optimiser.lr == 0.5 and len(optimiser.params) == 3 and "momentum_buffer.2" in optimiser.state_dict()
    optimiser.lr = 2
    assert [group["lr"] for group in optimiser.param_groups] == [2, 2]
    with pytest.raises(ValueError, match="SGD: a group has the unknown option 'learning_rate'; there are lr, momentum"):
        optim.SGD([{"params": rest, "learning_rate": 0.1}])
    with pytest.raises(TypeError, match="SGD: a group is a dict with its tensors under 'params', got a dict"):
        optim.SGD([{"lr": 0.1}])


def test_options_may_be_switched_on_later() -> None:
    params = parameters()
    optimiser = optim.SGD(params, lr=1.0)
    optimiser.momentum = 0.5
    before = params[1].array.copy()
    for _ in range(2):
        for p in params:
            p.grad = ta.Tensor(np.ones_like(p.array))
        optimiser.step()
    np.testing.assert_allclose(params[1].array, before - 1.0 - 1.5)


BAD_NORMS = [0.0, -1.0, math.nan, "1", None, True, lambda: 1.0]


@pytest.mark.parametrize("bad", BAD_NORMS)
def test_a_norm_that_cannot_be(bad: object) -> None:
    params = parameters()
    set_gradients(params, 0)
    if bad is not None:
        with pytest.raises((TypeError, ValueError), match=r"^Adam: clip_norm must be a number"):
            optim.Adam(params).step(clip_norm=bad)
    with pytest.raises((TypeError, ValueError), match=r"^clip_grad_norm_: max_norm must be a number"):
        nn.utils.clip_grad_norm_(params, bad)
    with pytest.raises((TypeError, ValueError), match=r"^clip_grad_value_: clip_value must be a number"):
        nn.utils.clip_grad_value_(params, bad)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_norm_that_is_not_finite_names_the_parameter(name: str, value: float) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    for p in model.parameters():
        p.grad = ta.ones_like(p)
    model[1].weight.grad.array[0, 1] = value
    optimiser = getattr(optim, name)(model.parameters(), lr=0.1)
    before = [p.array.copy() for p in model.parameters()]
    what = r"1\.weight \(1 (nan|infinite) of 3\).* detect_anomaly"
    with pytest.raises(RuntimeError, match=f"^{name}: the norm of the gradients is (nan|inf), .*{what}"):
        optimiser.step(clip_norm=1.0)
    with pytest.raises(RuntimeError, match=f"^clip_grad_norm_: .*{what}"):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with pytest.raises(RuntimeError, match=r"parameter 2 of shape \(1, 3\) \(1"):
        optim.clip_grad_norm_(list(model.parameters()), 1.0)
    assert all(np.array_equal(p.array, old) for p, old in zip(model.parameters(), before, strict=True))
    assert optimiser.steps == 0 and model[0].bias.grad.tolist() == [1.0] * 3


@pytest.mark.parametrize("norm_type", [1, 2, 3.5, math.inf])
def test_clipping_is_pytorchs(norm_type: float) -> None:
    torch = pytest.importorskip("torch", reason="the parity extra is not installed")
    for clip, bound in (("clip_grad_norm_", 0.5), ("clip_grad_norm_", 1e3), ("clip_grad_value_", 0.3)):
        ours = parameters()
        set_gradients(ours, 0)
        theirs = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
        for p, q in zip(ours, theirs, strict=True):
            q.grad = torch.tensor(p.grad.array)
        options = {"norm_type": norm_type} if "norm" in clip else {}
        found = getattr(nn.utils, clip)(ours, bound, **options)
        expected = getattr(torch.nn.utils, clip)(theirs, bound, **options)
        assert (found is None) == (expected is None) and (found is None or found == pytest.approx(float(expected)))
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.array, q.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none: bool) -> None:
    model = nn.Linear(2, 3)
    for each in (model, optim.SGD(model.parameters())):
        model.weight.grad = ta.ones(3, 2)
        each.zero_grad(set_to_none=set_to_none)
        assert model.bias.grad is None
        assert model.weight.grad is None if set_to_none else model.weight.grad.tolist() == [[0.0] * 2] * 3


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_memory_of_any_layout_is_updated_alike(name: str) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    assert ta.tensor(weights.T, requires_grad=True).array.flags.c_contiguous
    views = [weights.T.copy(), weights.copy().T, np.repeat(weights.T, 2, 1)[:, ::2]]
    results = []
    for view in views:
        w = ta.Tensor(view, requires_grad=True)
        optimiser = getattr(optim, name)([w], lr=0.1)
        for _ in range(3):
            w.grad = ta.Tensor(np.cos(w.array))
            optimiser.step()
        assert w.array is view
        results.append(view)
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_the_state_follows_a_model_that_changes_its_dtype(name: str) -> None:
    model = nn.Linear(2, 3)
    optimiser = getattr(optim, name)(model.parameters(), **({"momentum": 0.9} if name == "SGD" else {}))
    for dtype in (np.float32, np.float64):
        model.to(dtype)
        for _ in range(2):
            set_gradients(optimiser.params, 0)
            optimiser.step(clip_norm=1.0)
    assert all(array.dtype == np.float64 for arrays in optimiser.state.values() for array in arrays)


def test_a_state_of_another_kind() -> None:
    optimiser = optim.Adam(parameters())
    state = {**optimiser.state_dict(), "exp_avg.0": np.zeros((3, 4), int), "steps": 3.5, "counts": [1, 2]}
    with pytest.raises(
        ValueError, match=r"(?s)exp_avg\.0 is int64, expected float64.*steps is float64.*counts is \(2,\), expected"
    ):
        optimiser.load_state_dict(state)


def test_gradients_in_read_only_memory_are_clipped_and_cleared() -> None:
    for change in (
        lambda w: nn.utils.clip_grad_norm_([w], 0.1),
        lambda w: nn.utils.clip_grad_value_([w], 0.1),
        lambda w: optim.SGD([w], lr=0.1).zero_grad(set_to_none=False),
    ):
        weight, shared = ta.zeros(2, requires_grad=True), ta.ones(1)
        weight.grad = shared.expand(2)
        change(weight)
        assert weight.grad.amax().item() < 0.11 and shared.item() == 1.0


def test_a_group_that_lost_an_option_and_a_state_that_is_none() -> None:
    optimizer = optim.Adam([ta.zeros(2, requires_grad=True)])
    for state in (None, []):
        with pytest.raises(TypeError, match="load_state_dict of Adam: state must be a dict"):
            optimizer.load_state_dict(state)
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match="Adam: group 0 has lost its option 'lr'"):
        optimizer.step()
