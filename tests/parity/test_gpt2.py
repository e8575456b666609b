"""A GPT-2 of transformers read here, with its logits and the gradients of all weights; and ours read there."""

import numpy as np
import pytest
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.gpt2_weights import from_gpt2, load_gpt2, save_gpt2

import tinygrad_attn as ta
from tinygrad_attn.nn import functional as F

torch = pytest.importorskip("torch", reason="the parity extra is not installed")
transformers = pytest.importorskip("transformers", reason="the gpt2 extra is not installed")

TEXT = np.random.default_rng(0).integers(11, size=(3, 8))
CASES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


def make_gpt2(dtype, **settings):
    """A random GPT-2 whose biases, and everything else, are not as when new."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 16, "n_layer": 2, "n_head": 2}
    none = {"bos_token_id": None, "eos_token_id": None}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **none, **settings)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def compare(theirs, ours, tolerance):
    """The logits, and the gradients of the mean cross-entropy in all weights."""
    expected = theirs(torch.from_numpy(TEXT)).logits
    found = ours(ta.tensor(TEXT))
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=0, atol=tolerance)
    targets = TEXT[:, 1:].ravel()
    F.cross_entropy(found[:, :-1].reshape(-1, 11), ta.tensor(targets)).backward()
    # Not transformers' own loss, which is float32 even of float64 logits.
    torch.nn.functional.cross_entropy(expected[:, :-1].reshape(-1, 11), torch.from_numpy(targets)).backward()
    gradients = from_gpt2({name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()})
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), gradients[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), CASES, ids=["float32", "float64"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"layer_norm_epsilon": 0.01, "activation_function": "gelu"}, {"activation_function": "gelu_pytorch_tanh"}],
)
def test_a_gpt2_read_here(tmp_path, dtype, tolerance, settings):
    theirs = make_gpt2(dtype, **settings)
    theirs.save_pretrained(tmp_path)
    compare(theirs, load_gpt2(tmp_path), tolerance)


def test_a_gpt2_without_its_output_layer(tmp_path):
    theirs = make_gpt2(torch.float64)
    theirs.transformer.save_pretrained(tmp_path)  # names without the prefix
    compare(theirs, load_gpt2(tmp_path), 1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), CASES, ids=["float32", "float64"])
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu"])
def test_a_gpt_read_there(tmp_path, dtype, tolerance, activation):
    ta.manual_seed(0)
    sizes = {"layers": 2, "heads": 2, "d_model": 16, "context": 8}
    ours = GPT(11, **sizes, bias=True, activation=activation, dtype=str(dtype).removeprefix("torch.")).eval()
    save_gpt2(ours, tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    assert theirs.dtype == dtype
    compare(theirs, ours, tolerance)


def test_a_file_of_bfloat16_and_one_in_pieces(tmp_path):
    make_gpt2(torch.bfloat16).save_pretrained(tmp_path / "half")
    with pytest.raises(ValueError, match=r"a dtype that NumPy lacks \(.*bfloat16.*\); save it again in float32"):
        load_gpt2(tmp_path / "half")
    make_gpt2(torch.float32).save_pretrained(tmp_path / "pieces", max_shard_size="5KB")
    with pytest.raises(FileNotFoundError, match=r"max_shard_size='100GB'\) writes it, in one piece"):
        load_gpt2(tmp_path / "pieces")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_parameters_of_a_model_in_memory(dtype):
    model = make_gpt2(torch.float32).to(dtype)
    found = from_gpt2(dict(model.named_parameters()))
    np.testing.assert_array_equal(found["embedding.weight"], model.transformer.wte.weight.detach().float().numpy())


def test_there_and_back_to_the_bit(tmp_path):
    theirs = make_gpt2(torch.float32)
    theirs.save_pretrained(tmp_path / "theirs")
    save_gpt2(load_gpt2(tmp_path / "theirs"), tmp_path / "ours")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours")
    assert again.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
