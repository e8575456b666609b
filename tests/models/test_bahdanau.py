"""Bahdanau's model: its gradients, its masks, and that both implementations of its decoder agree."""

import numpy as np
import pytest
from own_forward import doubled
from tinygrad_attn_models.bahdanau import Bahdanau
from tinygrad_attn_models.data import collate
from tinygrad_attn_models.evaluation.metrics import token_loss

import tinygrad_attn as ta
from tinygrad_attn import Tensor
from tinygrad_attn.check import gradcheck

EXAMPLES = [([5, 6, 7, 4], [6, 4, 5]), ([4, 7], [5]), ([6, 6, 5], [4, 4, 6, 6])]


@pytest.fixture
def model():
    ta.manual_seed(0)
    return Bahdanau(source_size=8, target_size=7, embedding_size=2, hidden_size=3, dtype=np.float64).eval()


def run(model, batch, **options):
    return model(Tensor(batch.source), Tensor(batch.source_mask), Tensor(batch.target_in), **options)


def test_the_gradient_of_the_loss_with_respect_to_every_parameter(model):
    batch = collate([([5, 6, 4], [6, 4]), ([7], [5])], [0, 1])
    parameters = list(model.parameters())

    def loss(*values):
        # Parameters are found by attribute, so moved values are put in their place.
        for (path, _), value in zip(names, values, strict=True):
            owner = model
            *above, name = path.split(".")
            for part in above:
                owner = getattr(owner, part)
            vars(owner)[name] = value  # not a Parameter, which Module would refuse
        return token_loss(run(model, batch), batch)

    names = list(model.named_parameters())
    assert gradcheck(loss, parameters) < 1e-6


def test_every_parameter_has_a_gradient(model):
    batch = collate(EXAMPLES, [0, 1, 2])
    token_loss(run(model, batch), batch).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_stepping_gives_what_teacher_forcing_gives(model):
    batch = collate(EXAMPLES, [0, 1, 2])
    expected, expected_weights = run(model, batch, need_weights=True)
    state = model.start(model.encode(Tensor(batch.source), Tensor(batch.source_mask)))
    for t in range(batch.target_in.shape[1]):
        logits, state, weights = model.step(state, Tensor(batch.target_in[:, t]), need_weights=True)
        np.testing.assert_allclose(logits.array, expected.array[:, t], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            weights["attention"].array[:, :, 0], expected_weights["attention"].array[:, :, t], rtol=0, atol=1e-12
        )


def test_a_sentence_gives_the_same_alone_and_beside_longer_ones(model):
    together = collate(EXAMPLES, [0, 1, 2])
    logits, weights = run(model, together, need_weights=True)
    for row, index in enumerate(together.indices):
        alone = collate(EXAMPLES, [index])
        expected, expected_weights = run(model, alone, need_weights=True)
        steps, symbols = alone.target_in.shape[1], alone.source.shape[1]
        np.testing.assert_allclose(logits.array[row, :steps], expected.array[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            weights["attention"].array[row, 0, :steps, :symbols],
            expected_weights["attention"].array[0, 0],
            rtol=0,
            atol=1e-12,
        )


def test_what_stands_in_the_padding_changes_nothing(model):
    batch = collate(EXAMPLES, [0, 1, 2])
    expected = run(model, batch).array.copy()
    batch.source[~batch.source_mask] = 6
    np.testing.assert_array_equal(run(model, batch).array, expected)


def test_logits_do_not_depend_on_later_tokens(model):
    batch = collate(EXAMPLES, [0, 2])
    expected = run(model, batch).array.copy()
    batch.target_in[:, 3:] = 5
    changed = run(model, batch).array
    np.testing.assert_array_equal(changed[:, :3], expected[:, :3])
    assert not np.array_equal(changed[:, 3:], expected[:, 3:])


def test_weights_are_a_distribution_over_the_symbols_of_the_source(model):
    batch = collate(EXAMPLES, [0, 1, 2])
    _, weights = run(model, batch, need_weights=True)
    attention = weights["attention"].array
    assert attention.shape == (3, 1, batch.target_in.shape[1], batch.source.shape[1])
    np.testing.assert_allclose(attention.sum(axis=-1), 1.0, atol=1e-12)
    assert (attention[~np.broadcast_to(batch.source_mask[:, None, None], attention.shape)] == 0.0).all()


def test_dropout_acts_in_training_only():
    ta.manual_seed(0)
    model = Bahdanau(8, 7, embedding_size=3, hidden_size=4, dropout=0.5)
    batch = collate(EXAMPLES, [0, 1, 2])
    assert not np.array_equal(run(model, batch).array, run(model, batch).array)
    model.eval()
    np.testing.assert_array_equal(run(model, batch).array, run(model, batch).array)


def test_the_equations_give_what_the_fused_op_gives(model):
    batch = collate(EXAMPLES, [0, 1, 2])

    def gradients():
        model.zero_grad()
        logits, weights = run(model, batch, need_weights=True)
        token_loss(logits, batch).backward()
        found = {name: parameter.grad.array for name, parameter in model.named_parameters()}
        return found | {"logits": logits.array, "weights": weights["attention"].array}

    fused = gradients()
    with ta.unfused():
        steps = gradients()
    for name, array in fused.items():
        np.testing.assert_allclose(steps[name], array, rtol=1e-10, atol=1e-13, err_msg=name)


def test_checkpoints_keep_their_names(model):
    names = [name for name, _ in model.named_parameters() if name.startswith("attention.")]
    assert names == [f"attention.{name}" for name in ("query.weight", "key.weight", "key.bias", "energy.weight")]


@pytest.mark.parametrize("way", ["subclass", "assigned"])
@pytest.mark.parametrize("path", ["attention.query", "decoder"])
def test_a_module_that_a_user_put_into_the_decoder_is_called(model, path, way):
    batch = collate(EXAMPLES, [0, 1, 2])
    plain = run(model, batch).array
    doubled(model.get_submodule(path), way)
    found = run(model, batch).array
    with ta.unfused():
        np.testing.assert_allclose(found, run(model, batch).array, rtol=0, atol=1e-12)
    assert np.abs(found - plain).max() > 1e-4
