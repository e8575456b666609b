"""Scheduled sampling: with the true tokens it is teacher forcing; without, it is what greedy decoding reads."""

import numpy as np
import pytest
from tinygrad_attn_models.evaluation.metrics import token_loss
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.training.sampling import sampled_logits
from translators import EXACT, SOURCE_SIZE, TARGET_SIZE, run, whole_batch

import tinygrad_attn as ta
from tinygrad_attn import Tensor, no_grad

SMALL = {"embedding_size": 4, "hidden_size": 6}
SIZES = {
    "seq2seq": SMALL,
    "luong": {**SMALL, "input_feeding": True},
    "bahdanau": SMALL,
    "transformer": {"d_model": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 2, "d_ff": 12},
}


@pytest.fixture(params=SIZES)
def model(request):
    ta.manual_seed(3)
    model = MODELS[request.param]
    return model.from_settings(model.Settings(**SIZES[request.param]), SOURCE_SIZE, TARGET_SIZE, np.float64)


def test_all_true_is_teacher_forcing_in_value_and_gradient(model):
    batch = whole_batch()
    token_loss(run(model, batch), batch).backward()
    expected = {name: parameter.grad.array.copy() for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits = sampled_logits(model, batch, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(logits.array, run(model, batch).array, **EXACT)
    token_loss(logits, batch).backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad.array, expected[name], **EXACT, err_msg=name)


def test_none_true_reads_what_the_model_writes(model):
    batch = whole_batch()
    with no_grad():
        logits = sampled_logits(model, batch, 0.0, np.random.default_rng(0)).array
        scores = logits.copy()
        scores[..., :2] = -np.inf
        read = np.concatenate([batch.target_in[:, :1], scores.argmax(axis=-1)[:, :-1]], axis=1)
        again = model(Tensor(batch.source), Tensor(batch.source_mask), Tensor(read))
    np.testing.assert_allclose(logits, again.array, **EXACT)


def test_the_generator_chooses(model):
    batch = whole_batch()
    with no_grad():
        first, same, other = (
            sampled_logits(model, batch, 0.5, np.random.default_rng(seed)).array for seed in (1, 1, 2)
        )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
