"""Checks that hold for every model; the tests of each model call them."""

import numpy as np
from tinygrad_attn_models.data import collate
from tinygrad_attn_models.evaluation.metrics import token_loss
from tinygrad_attn_models.registry import MODELS

from tinygrad_attn import Tensor, no_grad, optim, set_grad_enabled
from tinygrad_attn.check import gradcheck
from tinygrad_attn.serialize import load_file, save_file

TRANSLATORS = [name for name in sorted(MODELS) if MODELS[name].Settings.reads == "pairs"]
SOURCE_SIZE, TARGET_SIZE = 8, 7
EXAMPLES = [([5, 6, 7, 4], [6, 4, 5]), ([4, 7], [5]), ([6, 6, 5], [4, 4, 6, 6])]
EXACT = {"rtol": 0, "atol": 1e-12}


def run(model, batch, **options):
    return model(*map(Tensor, batch.given), Tensor(batch.target_in), **options)


def whole_batch():
    return collate(EXAMPLES, [0, 1, 2])


def check_gradients(model, most=None, batch=None):
    """The gradient of the loss with respect to the parameters, or to ``most`` of them drawn by chance, against finite
    differences; and that each has one."""
    batch = collate([([5, 6, 4], [6, 4]), ([7], [5])], [0, 1]) if batch is None else batch
    owners = {}  # all of them, so that a tied parameter moves everywhere
    for module in model.modules():
        for name, value in vars(module).items():
            owners.setdefault(id(value), []).append((module, name))
    parameters = list(model.parameters())
    chosen = parameters
    if most is not None and most < len(parameters):
        chosen = [parameters[i] for i in np.random.default_rng(0).choice(len(parameters), most, replace=False)]

    def loss(*values):
        # Parameters are found by attribute, so moved values are put in their place.
        for parameter, value in zip(chosen, values, strict=True):
            for module, name in owners[id(parameter)]:
                vars(module)[name] = value  # not a Parameter, which Module would refuse
        return token_loss(run(model, batch), batch)

    assert gradcheck(loss, chosen) < 1e-6
    loss(*chosen).backward()
    assert [path for path, parameter in model.named_parameters() if parameter.grad is None] == []


def check_steps(model, over_target=()):
    """One token after the other gives the logits and weights of teacher forcing, recorded or not, and whatever a state
    was used for before.

    Args:
        model: in evaluation mode.
        over_target: the places whose weights are over the target, of which a step knows the beginning.
    """
    batch = whole_batch()
    expected, expected_weights = run(model, batch, need_weights=True)
    for recorded in (True, False):
        with set_grad_enabled(recorded):
            state = model.start(model.encode(Tensor(batch.source), Tensor(batch.source_mask)))
            for t in range(batch.target_in.shape[1]):
                before, token = state, Tensor(batch.target_in[:, t])
                plain, _, nothing = model.step(before, token)
                np.testing.assert_allclose(plain.array, expected.array[:, t], **EXACT)
                assert nothing == {}
                _, other, _ = model.step(before, Tensor(np.full(len(batch), 5)))
                logits, state, weights = model.step(before, token, need_weights=True)
                model.step(other, token)
                np.testing.assert_allclose(logits.array, expected.array[:, t], **EXACT)
                assert set(weights) == {place for place in expected_weights if not place.startswith("encoder")}
                for place, found in weights.items():
                    row = expected_weights[place].array[:, :, t]
                    row = row[..., : t + 1] if place in over_target else row
                    np.testing.assert_allclose(found.array[:, :, 0], row, **EXACT)


def check_padding(model):
    """A sentence gives the same alone and beside longer ones, and what stands in the padding changes nothing."""
    batch = whole_batch()
    expected, expected_weights = run(model, batch, need_weights=True)
    for row, index in enumerate(batch.indices):
        alone = collate(EXAMPLES, [index])
        logits = run(model, alone).array
        np.testing.assert_allclose(expected.array[row, : logits.shape[1]], logits[0], **EXACT)
    source = np.full((len(batch), batch.source.shape[1] + 3), 6)
    mask = np.zeros(source.shape, dtype=bool)
    source[:, :-3][batch.source_mask] = batch.source[batch.source_mask]
    mask[:, :-3] = batch.source_mask
    logits, weights = model(Tensor(source), Tensor(mask), Tensor(batch.target_in), need_weights=True)
    np.testing.assert_allclose(logits.array, expected.array, **EXACT)
    for place, found in weights.items():
        width = expected_weights[place].shape[-1]
        if width != found.shape[-1]:
            assert not found.array[..., width:].any()
        rows = expected_weights[place].shape[-2]
        valid = batch.source_mask[:, None, :, None] if place.startswith("encoder") else True
        np.testing.assert_allclose(
            np.where(valid, found.array[..., :rows, :width], 0.0),
            np.where(valid, expected_weights[place].array, 0.0),
            **EXACT,
        )


def check_causality(model):
    """Logits do not depend on later tokens."""
    batch = collate(EXAMPLES, [0, 2])
    expected = run(model, batch).array.copy()
    for t in range(1, batch.target_in.shape[1]):
        changed = batch.target_in.copy()
        changed[:, t:] = np.where(changed[:, t:] == 5, 4, 5)
        logits = model(Tensor(batch.source), Tensor(batch.source_mask), Tensor(changed)).array
        np.testing.assert_allclose(logits[:, :t], expected[:, :t], **EXACT)
        assert not np.allclose(logits[:, t], expected[:, t], **EXACT)


def check_weights(model, places, heads, sums_to_one=True):
    """The weights over the source are distributions, zero where there is no symbol.

    Returns:
        All weights, as arrays.
    """
    batch = whole_batch()
    _, weights = run(model, batch, need_weights=True)
    symbols, steps = batch.source.shape[1], batch.target_in.shape[1]
    for place in places:
        attention = weights[place].array
        rows = symbols if place.startswith("encoder") else steps
        assert attention.shape == (len(batch), heads, rows, symbols)
        assert (attention >= 0.0).all()
        assert not attention[~np.broadcast_to(batch.source_mask[:, None, None], attention.shape)].any()
        if sums_to_one:
            np.testing.assert_allclose(attention.sum(axis=-1), 1.0, **EXACT)
    return {place: found.array for place, found in weights.items()}


def check_files(make, tmp_path):
    """A model's weights, through a file into another, give its logits; ``make`` makes models that differ."""
    first, second = make().eval(), make().eval()
    batch = whole_batch()
    with no_grad():
        expected = run(first, batch).array
        assert not np.array_equal(run(second, batch).array, expected)
        save_file(first.state_dict(), tmp_path / "model.safetensors")
        second.load_state_dict(load_file(tmp_path / "model.safetensors")[0])
        np.testing.assert_array_equal(run(second, batch).array, expected)


def train(model, steps, learning_rate):
    """Let the model learn one batch; it is in evaluation mode then."""
    batch = whole_batch()
    optimizer = optim.Adam(model.parameters(), lr=learning_rate)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        token_loss(run(model, batch), batch).backward()
        optimizer.step(clip_norm=1.0)
    model.zero_grad()
    model.eval()


def check_overfits(model, steps=60, learning_rate=0.02):
    """The model learns one batch by heart."""
    train(model, steps, learning_rate)
    batch = whole_batch()
    with no_grad():
        assert token_loss(run(model, batch), batch).item() < 0.05


def check_dropout(model):
    """Chance acts in training only."""
    batch = whole_batch()
    model.train()
    assert not np.array_equal(run(model, batch).array, run(model, batch).array)
    model.eval()
    np.testing.assert_array_equal(run(model, batch).array, run(model, batch).array)
