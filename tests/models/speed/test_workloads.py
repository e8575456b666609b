"""The workloads have the documented sizes and computations."""

import numpy as np
import pytest
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.speed.workloads import (
    WORKLOADS,
    BahdanauWorkload,
    LuongWorkload,
    RandomText,
    TransformerWorkload,
    UnknownWorkload,
    batch_loss,
    find_workload,
    random_batch,
    random_text,
)

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn, random
from tinygrad_attn.modes import unfused

WITHOUT = {name: workload for name, workload in WORKLOADS.items() if not name.endswith("-dropout")}
SMALL = {
    "bahdanau": lambda dropout=0.0: BahdanauWorkload(13, 3, 5, dropout, dtype=ta.float64),
    "luong": lambda dropout=0.0: LuongWorkload(13, 3, 5, dropout, dtype=ta.float64),
    "transformer": lambda dropout=0.0: TransformerWorkload(13, 8, 2, 2, 6, dropout, dtype=ta.float64),
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bahdanau-small", 488_168),
        ("bahdanau-m30k", 11_877_184),
        ("luong-small", 504_936),
        ("luong-m30k", 12_140_864),
        ("transformer-small", 360_680),
        ("transformer-m30k", 10_106_688),
        ("transformer-base", 56_436_544),
        ("gpt-char", 804_096),
        ("gpt-char-large", 10_745_088),
    ],
)
def test_number_of_parameters(name, parameters):
    model = WORKLOADS[name].make()
    assert all(module.p == 0.0 for module in model.modules() if isinstance(module, nn.Dropout))
    assert sum(parameter.array.size for parameter in model.parameters()) == parameters
    assert {parameter.dtype for parameter in model.parameters()} == {np.dtype(np.float32)}


PAIRS = {name: workload for name, workload in WITHOUT.items() if workload.source_length is not None}
TEXTS = {name: workload for name, workload in WITHOUT.items() if workload.source_length is None}


@pytest.mark.parametrize("workload", TEXTS.values(), ids=TEXTS)
def test_batch_of_texts(workload):
    batch = workload.batch()
    assert isinstance(batch, RandomText)
    target_in, target_out = (tensor.array for tensor in batch)
    assert target_in.shape == target_out.shape == (workload.batch_size, workload.target_length)
    assert workload.target_tokens == target_in.size
    np.testing.assert_array_equal(target_in[:, 1:], target_out[:, :-1])
    assert {0, workload.vocabulary - 1} <= set(target_in.flat) <= set(range(workload.vocabulary))


@pytest.mark.parametrize(("name", "sizes"), [("gpt-char", (4, 4, 128, 64)), ("gpt-char-large", (6, 6, 384, 256))])
def test_the_gpts_are_the_models_own(name, sizes):
    model = WORKLOADS[name].make()
    assert type(model) is GPT
    attention = model.blocks[0].self_attn
    assert (len(model.blocks), attention.num_heads, attention.embed_dim, model.context) == sizes
    assert WORKLOADS[name].target_length == model.context


@pytest.mark.parametrize("workload", PAIRS.values(), ids=PAIRS)
def test_batch(workload):
    source, target_in, target_out, mask = (tensor.array for tensor in workload.batch())
    size = (workload.batch_size, workload.source_length)
    assert source.shape == mask.shape == size
    assert target_in.shape == target_out.shape == (workload.batch_size, workload.target_length)
    assert workload.target_tokens == target_in.size
    np.testing.assert_array_equal(target_in[:, 1:], target_out[:, :-1])
    for ids in (source, target_in, target_out):
        assert 4 <= ids.min() <= ids.max() < workload.vocabulary
    lengths = mask.sum(1)
    assert {workload.source_length // 2, workload.source_length} <= set(lengths)
    assert workload.source_length // 2 <= lengths.min()
    np.testing.assert_array_equal(mask, np.arange(size[1]) < lengths[:, None])


def test_every_workload_has_its_like_with_dropout():
    assert list(WORKLOADS) == [*WITHOUT, *(f"{name}-dropout" for name in WITHOUT)]
    for name, workload in WITHOUT.items():
        other = WORKLOADS[f"{name}-dropout"]
        for tensor, same in zip(workload.batch(), other.batch(), strict=True):
            np.testing.assert_array_equal(tensor.array, same.array)
        if name.endswith(("small", "char")):
            model, plain = other.make(), workload.make()
            assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.1}
            assert model.state_dict().keys() == plain.state_dict().keys()


def test_a_seed_gives_a_batch():
    for make in (lambda seed: random_batch(20, 3, 6, 5, seed), lambda seed: random_text(20, 3, 6, seed)):
        first, again, other = (make(seed).target_in.array for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)
class TestModel:
    def test_what_is_masked_changes_nothing(self, make):
        model, batch = make(), random_batch(13, 4, 6, 5)
        mask = batch.source_mask.array
        assert not mask.all()
        other = batch._replace(source=Tensor(np.where(mask, batch.source.array, 5)))
        if isinstance(model, TransformerWorkload):
            assert batch_loss(model, batch).item() == pytest.approx(batch_loss(model, other).item(), abs=1e-12)
        else:
            # As in the peers, these encoders read on over padding; their last state is the decoder's first.
            assert batch_loss(model, batch).item() != batch_loss(model, other).item()

    def test_a_token_does_not_know_the_next_ones(self, make):
        model, batch = make(), random_batch(13, 4, 6, 5)
        target = batch.target_in.array.copy()
        target[:, 3:] = (target[:, 3:] + 1) % 13
        logits, other = (model(batch.source, Tensor(ids), batch.source_mask) for ids in (batch.target_in.array, target))
        assert logits.shape == (4, 5, 13)
        np.testing.assert_allclose(logits.array[:, :3], other.array[:, :3], rtol=0, atol=1e-12)
        assert np.abs(logits.array[:, 3:] - other.array[:, 3:]).max() > 1e-3

    @pytest.mark.parametrize("dropout", [0.0, 0.4])
    def test_fused_as_unfused(self, make, dropout):
        model, batch = make(dropout), random_batch(13, 4, 6, 5)
        random.manual_seed(0)
        loss = batch_loss(model, batch)
        loss.backward()
        gradients = {name: parameter.grad.array.copy() for name, parameter in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = None
        random.manual_seed(0)
        with unfused():
            reference = batch_loss(model, batch)
        reference.backward()
        assert loss.item() == pytest.approx(reference.item(), abs=1e-12)
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(gradients[name], parameter.grad.array, rtol=0, atol=1e-12, err_msg=name)

    def test_dropout_in_training_only(self, make):
        model, batch = make(0.4), random_batch(13, 4, 6, 5)
        assert batch_loss(model, batch).item() != batch_loss(model, batch).item()
        plain = make()
        plain.load_state_dict(model.state_dict())
        assert batch_loss(model.eval(), batch).item() == batch_loss(plain, batch).item()


def test_names():
    assert find_workload("luong-m30k") is WORKLOADS["luong-m30k"]
    with pytest.raises(UnknownWorkload, match=r"'luong-m40k'; did you mean luong-m30k\?"):
        find_workload("luong-m40k")
    with pytest.raises(UnknownWorkload, match=r"'xyz'; there are bahdanau-small, .*, transformer-base, .*gpt-char"):
        find_workload("xyz")
