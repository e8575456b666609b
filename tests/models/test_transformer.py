"""The Transformer: what holds for every model, and that it is PyTorch's with the same weights."""

import numpy as np
import pytest
import translators as t
from own_forward import doubled
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.decoding.greedy import greedy
from tinygrad_attn_models.evaluation.metrics import token_loss
from tinygrad_attn_models.transformer import Transformer, TransformerSettings

import tinygrad_attn as ta
from tinygrad_attn import Tensor, nn
from tinygrad_attn.nn.positional import sinusoids
from tinygrad_attn.serialize import load_file, save_file

LAYERS, HEADS = 2, 2
OPTIONS = [
    {}, {"positions": "learned"}, {"tied_output": True}, {"tied_output": True, "shared_embeddings": True},
    {"positions": "rotary", "norm_first": True, "norm": "rms", "activation": "swiglu", "kv_heads": 1, "qk_norm": True,
     "bias": False, "tied_output": True},
    {"positions": "alibi", "norm": "rms", "activation": "gelu"},
    {"positions": "none", "norm_first": True, "kv_heads": 1},
]  # fmt: skip
ENCODER = [f"encoder.layers.{i}.self_attn" for i in range(LAYERS)]
DECODER = [f"decoder.layers.{i}.self_attn" for i in range(LAYERS)]
ACROSS = [f"decoder.layers.{i}.multihead_attn" for i in range(LAYERS)]


def make(d_model=4, d_ff=6, dropout=0.0, dtype=np.float64, **options):
    sizes = (t.SOURCE_SIZE, t.SOURCE_SIZE if options.get("shared_embeddings") else t.TARGET_SIZE)
    return Transformer(
        *sizes, d_model, HEADS, LAYERS, LAYERS, d_ff, max_length=9, dropout=dropout, dtype=dtype, **options
    )


@pytest.fixture(params=OPTIONS, ids=lambda options: ",".join(map(str, options)) or "plain")
def model(request):
    ta.manual_seed(0)
    return make(**request.param).eval()


FEW = [(options, 8) for options in (min(OPTIONS, key=len), max(OPTIONS, key=len))]
MANY = [pytest.param(options, 24, marks=pytest.mark.slow) for options in OPTIONS]


@pytest.mark.parametrize(("model", "most"), FEW + MANY, indirect=["model"])
def test_gradients(model, most):
    t.check_gradients(model, most)


def test_steps_padding_and_causality(model):
    t.check_steps(model, over_target=DECODER)
    t.check_padding(model)
    t.check_causality(model)


def test_weights_of_every_layer_and_head(model):
    weights = t.check_weights(model, ENCODER + ACROSS, HEADS)
    assert set(weights) == {*ENCODER, *DECODER, *ACROSS}
    steps = t.whole_batch().target_in.shape[1]
    for place in DECODER:
        assert weights[place].shape == (3, HEADS, steps, steps)
        np.testing.assert_allclose(weights[place].sum(axis=-1), 1.0, **t.EXACT)
        assert not np.triu(weights[place], 1).any()


def test_translations_do_not_depend_on_the_cache(model):
    """Token by token with kept keys and values, or the fused decoder where it can, or everything anew at each step."""
    batch, most = t.whole_batch(), 6
    found = greedy(model, batch.source, batch.source_mask, most)
    written = [[START] for _ in found]
    for _ in range(most):
        for row, tokens in enumerate(written):
            if END not in tokens:
                source = batch.source[row : row + 1, : batch.source_mask[row].sum()]
                logits = model(Tensor(source), Tensor(source >= 0), Tensor(np.array([tokens])))
                tokens.append(END + int(logits.array[0, -1, END:].argmax()))  # neither padding nor <s>
    assert found == [tokens[1:-1] if tokens[-1] == END else tokens[1:] for tokens in written]


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, True), ({"norm_first": True, "positions": "none", "bias": False}, True), ({"norm": "rms"}, False),
        ({"activation": "gelu"}, False), ({"activation": "swiglu"}, False), ({"kv_heads": 1}, False),
        ({"qk_norm": True}, False), ({"positions": "rotary"}, False), ({"positions": "alibi"}, False),
    ],
)  # fmt: skip
def test_the_fused_decoder_is_for_what_it_computes(options, fused):
    model, batch = make(**options).eval(), t.whole_batch()
    with ta.no_grad():
        state = model.start(model.encode(Tensor(batch.source), Tensor(batch.source_mask)))
        assert (model.fused_decoder(state, 3) is not None) == fused
        doubled(model.output, "subclass")
        assert model.fused_decoder(state, 3) is None


@pytest.mark.parametrize("way", ["subclass", "assigned"])
@pytest.mark.parametrize("positions", ["sinusoidal", "none"])
def test_an_embedding_that_a_user_put_into_it_is_called(positions, way):
    model, batch = make(positions=positions).eval(), t.whole_batch()
    inputs = (Tensor(batch.source), Tensor(batch.source_mask), Tensor(batch.target_in))
    with ta.no_grad():
        doubled(model.target_embedding, way)
        found = model(*inputs).array
        assert model.fused_decoder(model.start(model.encode(*inputs[:2])), 3) is None
        model.target_embedding.__class__ = nn.Embedding
        vars(model.target_embedding).pop("forward", None)
        model.target_embedding.weight.mul_(2.0)
        np.testing.assert_allclose(found, model(*inputs).array, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_files_and_learning(options, tmp_path):
    ta.manual_seed(0)
    t.check_files(lambda: make(**options), tmp_path)
    t.check_overfits(make(d_model=16, d_ff=32, dtype=np.float32, **options), learning_rate=0.01)


def test_dropout():
    t.check_dropout(make(dropout=0.5))


def test_tied_parameters_are_one():
    plain, tied = make(), make(tied_output=True)
    shared = make(tied_output=True, shared_embeddings=True)
    assert tied.output.weight is tied.target_embedding.weight
    assert tied.source_embedding is not tied.target_embedding
    assert shared.source_embedding is shared.target_embedding
    assert len(list(plain.parameters())) - 2 == len(list(tied.parameters())) - 1 == len(list(shared.parameters()))


def test_embeddings_are_as_large_as_positions():
    ta.manual_seed(0)
    model = Transformer(1000, 1000, d_model=64, heads=1, encoder_layers=1, decoder_layers=1, d_ff=1)
    for embedding in (model.source_embedding, model.target_embedding):
        assert abs(embedding.weight.array.std() * 8.0 - 1.0) < 0.02


@pytest.mark.parametrize("recorded", [True, False])
def test_keys_and_values_are_kept(recorded):
    model = make().eval()
    batch = t.whole_batch()
    with ta.set_grad_enabled(recorded):
        state = model.start(model.encode(Tensor(batch.source), Tensor(batch.source_mask)))
        for place in range(3):
            before = state
            _, state, _ = model.step(state, Tensor(batch.target_in[:, place]))
            for now, earlier in zip(state.decoder.layers, before.decoder.layers, strict=True):
                assert now.memory is earlier.memory
                assert now.past.all().shape == (3, place + 1, 2 * model.d_model)
                if earlier.past is not None:
                    np.testing.assert_array_equal(now.past.all().array[:, :place], earlier.past.all().array)


def test_the_defaults_are_those_of_the_base_model():
    settings = TransformerSettings()
    sizes = (settings.d_model, settings.encoder_layers, settings.decoder_layers, settings.heads, settings.d_ff)
    assert sizes == (512, 6, 6, 8, 2048)


def test_it_is_built_from_its_settings():
    settings = TransformerSettings(
        d_model=6, heads=3, encoder_layers=1, decoder_layers=2, d_ff=5, positions="learned",
        tied_output=True, shared_embeddings=True, max_length=12, dropout=0.1,
    )  # fmt: skip
    model = Transformer.from_settings(settings, 8, 8, np.float64)
    assert isinstance(model, Transformer)
    assert model.transformer.decoder.layers[1].linear1.weight.shape == (5, 6)
    assert model.transformer.decoder.layers[0].self_attn.num_heads == 3
    assert len(model.transformer.encoder.layers) == 1
    assert model.target_positions.weight.shape == (12, 6)
    assert model.output.weight is model.source_embedding.weight
    assert model.dropout.p == model.transformer.encoder.layers[0].dropout.p == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "cosine"}, "positions must be one of sinusoidal, learned, rotary, alibi, none, got 'cosine'"),
        ({"norm": "batch"}, "norm must be 'layer' or 'rms', got 'batch'"),
        ({"kv_heads": 3}, "num_kv_heads 3 does not divide nhead 8"),
        ({"shared_embeddings": True}, "needs one vocabulary for source and target, theirs have 8 and 7 symbols"),
        ({"heads": 3, "d_model": 4}, "nhead 3 does not divide d_model 4"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        Transformer(8, 7, **{"encoder_layers": 1, "decoder_layers": 1, "d_model": 8, "d_ff": 2, **options})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kv_heads": 3}, "model.kv_heads is 3, which does not divide model.heads 8"),
        (
            {"positions": "rotary", "d_model": 24},
            "model.positions rotary turns pairs: model.d_model 24 / model.heads 8",
        ),
        ({"positions": "rope"}, "model.positions: expected one of sinusoidal, learned, rotary, alibi, none"),
        ({"norm": "batch"}, "model.norm: expected one of layer, rms"),
        ({"kv_heads": -1}, "model.kv_heads"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(UserError, match=message):
        TransformerSettings(**settings)


def test_a_sentence_longer_than_the_learned_positions():
    source = Tensor(np.full((1, 10), 4))
    with pytest.raises(ValueError, match="positions 0 to 9 are not all within max_length 9"):
        make(positions="learned").encode(source, Tensor(np.ones((1, 10), dtype=bool)))


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def torch_logits(torch, reference, weights, batch):
    """What PyTorch makes of the batch: its Transformer between the embeddings and the output layer of a whole model.

    Args:
        reference: PyTorch's Transformer.
        weights: PyTorch's tensors of the other layers, by their names in the whole model.
    """

    def embed(tokens, side):
        vectors = weights[f"{side}_embedding.weight"][torch.tensor(tokens)] * np.sqrt(reference.d_model)
        return vectors + torch.tensor(sinusoids(tokens.shape[1], reference.d_model))

    padding = torch.tensor(~batch.source_mask)
    decoded = reference(
        embed(batch.source, "source"),
        embed(batch.target_in, "target"),
        tgt_mask=reference.generate_square_subsequent_mask(batch.target_in.shape[1], dtype=torch.float64),
        src_key_padding_mask=padding.clone(),
        memory_key_padding_mask=padding.clone(),
        tgt_is_causal=True,
    )
    return torch.nn.functional.linear(decoded, weights["output.weight"], weights["output.bias"])


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # of a path that PyTorch does not take here
@pytest.mark.parametrize("tied", [False, True])
def test_a_whole_trained_model_is_pytorchs_there_and_back_through_files(tmp_path, tied):
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    ta.manual_seed(0)
    model = make(d_model=8, d_ff=10, tied_output=tied)
    t.train(model, steps=5, learning_rate=0.05)  # biases and norms are no longer all alike
    batch = t.whole_batch()
    reference = torch.nn.Transformer(8, HEADS, LAYERS, LAYERS, 10, dropout=0.0, batch_first=True, dtype=torch.float64)

    save_file(model.state_dict(), tmp_path / "there.safetensors")
    weights = files.load_file(tmp_path / "there.safetensors")
    inner = {name: weights.pop(name) for name in list(weights) if name.startswith("transformer.")}
    reference.load_state_dict({name.removeprefix("transformer."): tensor for name, tensor in inner.items()})
    logits = t.run(model, batch)
    expected = torch_logits(torch, reference, weights, batch)
    np.testing.assert_allclose(logits.array, expected.detach().numpy(), rtol=0, atol=1e-10)

    token_loss(logits, batch).backward()
    goal = torch.tensor(batch.target_out.reshape(-1))
    torch.nn.functional.cross_entropy(expected.reshape(len(goal), -1), goal, ignore_index=0).backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in model.transformer.named_parameters():
        np.testing.assert_allclose(parameter.grad.array, theirs[name].grad.numpy(), rtol=0, atol=1e-10, err_msg=name)

    back = {f"transformer.{name}": tensor for name, tensor in reference.state_dict().items()} | weights
    files.save_file(back, tmp_path / "back.safetensors")
    other = make(d_model=8, d_ff=10, tied_output=tied).eval()
    assert not np.array_equal(t.run(other, batch).array, logits.array)
    other.load_state_dict(load_file(tmp_path / "back.safetensors")[0])
    np.testing.assert_array_equal(t.run(other, batch).array, logits.array)
