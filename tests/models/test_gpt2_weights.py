"""GPT-2's layout: names, shapes, the round trip, the formulas in NumPy, and errors that name what is wrong."""

import json
import math

import numpy as np
import pytest
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.gpt2_weights import from_gpt2, load_gpt2, save_gpt2, to_gpt2

import tinygrad_attn as ta
from tinygrad_attn import Tensor
from tinygrad_attn.serialize import load_file, save_file

V, T, E, HEADS = 11, 6, 8, 2
TEXT = np.random.default_rng(1).integers(V, size=(3, T))
SHAPES = {
    "wte.weight": (V, E),
    "wpe.weight": (T, E),
    "ln_f.weight": (E,),
    "ln_f.bias": (E,),
    **{
        f"h.{i}.{name}": shape
        for i in range(2)
        for name, shape in {
            "ln_1.weight": (E,),
            "ln_1.bias": (E,),
            "attn.c_attn.weight": (E, 3 * E),
            "attn.c_attn.bias": (3 * E,),
            "attn.c_proj.weight": (E, E),
            "attn.c_proj.bias": (E,),
            "ln_2.weight": (E,),
            "ln_2.bias": (E,),
            "mlp.c_fc.weight": (E, 4 * E),
            "mlp.c_fc.bias": (4 * E,),
            "mlp.c_proj.weight": (4 * E, E),
            "mlp.c_proj.bias": (E,),
        }.items()
    },
}
CONFIG = {"model_type": "gpt2", "n_layer": 2, "n_head": HEADS, "n_embd": E, "n_positions": T, "vocab_size": V}


def drawn(prefix="", dtype=np.float64):
    random = np.random.default_rng(0)
    return {prefix + name: random.normal(size=shape).astype(dtype) * 0.5 for name, shape in SHAPES.items()}


def write(folder, arrays, config=CONFIG):
    folder.mkdir(exist_ok=True)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def gpt(**options):
    ta.manual_seed(0)
    sizes = {"layers": 2, "heads": HEADS, "d_model": E, "context": T}
    return GPT(V, **{**sizes, "activation": "gelu_tanh", "bias": True, **options}, dtype=np.float64).eval()


def gpt2_in_numpy(w, text, eps=1e-5, exact=False):
    """GPT-2's logits (B, T, V), from its own description: x W + b, the activation gelu_new, the output tied."""

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv1d(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        if exact:
            return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = w["wte.weight"][text] + w["wpe.weight"][: text.shape[1]]
    for h in ("h.0", "h.1"):
        q, k, v = (
            part.reshape(*text.shape, HEADS, -1).swapaxes(1, 2)
            for part in np.split(conv1d(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), 3, axis=-1)
        )
        scores = q @ k.swapaxes(2, 3) / np.sqrt(E // HEADS)
        scores = np.exp(np.where(np.tri(text.shape[1], dtype=bool), scores, -np.inf))
        context = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(*text.shape, E)
        x = x + conv1d(context, f"{h}.attn.c_proj")
        x = x + conv1d(gelu(conv1d(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")), f"{h}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def logits(model, text=TEXT):
    return model(Tensor(text)).detach().numpy()


@pytest.mark.parametrize("settings", [{}, {"layer_norm_epsilon": 0.1}, {"activation_function": "gelu"}])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_the_logits_are_those_of_the_formulas(tmp_path, prefix, settings):
    model = load_gpt2(write(tmp_path, drawn(prefix), {**CONFIG, **settings}))
    eps, exact = settings.get("layer_norm_epsilon", 1e-5), "activation_function" in settings
    np.testing.assert_allclose(logits(model), gpt2_in_numpy(drawn(), TEXT, eps, exact), rtol=0, atol=1e-12)
    assert not model.training and model.settings.dropout == 0.1
    save_gpt2(model, tmp_path / "again")  # eps and activation go with it
    np.testing.assert_array_equal(logits(load_gpt2(tmp_path / "again")), logits(model))


def test_names_shapes_and_bits_go_there_and_back(tmp_path):
    model = load_gpt2(write(tmp_path, drawn()))
    save_gpt2(model, tmp_path / "out")
    arrays, metadata = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {f"transformer.{n}": s for n, s in SHAPES.items()}
    assert metadata == {"format": "pt"}
    for name, array in drawn("transformer.").items():
        np.testing.assert_array_equal(arrays[name], array)
    state = model.state_dict()
    assert from_gpt2(to_gpt2(state)).keys() == state.keys()
    for name, array in from_gpt2(to_gpt2(state)).items():
        np.testing.assert_array_equal(array, state[name].array)
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config | CONFIG == config and config["activation_function"] == "gelu_new" and config["dtype"] == "float64"


def test_masks_and_a_tied_output_are_no_weights(tmp_path):
    arrays = drawn("transformer.")
    masks = {f"transformer.h.{i}.attn.bias": np.tri(T, dtype=np.uint8)[None, None] for i in range(2)}
    masks["transformer.h.0.attn.masked_bias"] = np.float32(-1e4)
    expected = logits(load_gpt2(write(tmp_path / "plain", arrays)))
    tied = {**arrays, **masks, "lm_head.weight": arrays["transformer.wte.weight"]}
    np.testing.assert_array_equal(logits(load_gpt2(write(tmp_path / "tied", tied))), expected)
    del tied["transformer.wte.weight"]
    np.testing.assert_array_equal(logits(load_gpt2(write(tmp_path / "output-alone", tied))), expected)


def test_a_file_alone_needs_the_number_of_heads(tmp_path):
    folder = write(tmp_path, drawn(dtype=np.float32), config=None)
    file = folder / "model.safetensors"
    with pytest.raises(UserError, match=r"number of heads; put config.json beside the file, or give heads="):
        load_gpt2(file)
    with pytest.raises(FileNotFoundError, match=r"there is no .*config.json, .*heads="):
        load_gpt2(folder)
    model = load_gpt2(file, heads=HEADS)
    assert model.embedding.weight.dtype == np.float32
    assert load_gpt2(file, heads=HEADS, dtype=np.float64).embedding.weight.dtype == np.float64
    save_gpt2(model, tmp_path / "own.safetensors")
    np.testing.assert_array_equal(logits(load_gpt2(tmp_path / "own.safetensors", heads=HEADS)), logits(model))


def test_half_precision_is_read_as_float32(tmp_path):
    model = load_gpt2(write(tmp_path, drawn(dtype=np.float16)))
    np.testing.assert_array_equal(model.norm.weight.array, drawn(dtype=np.float16)["ln_f.weight"].astype(np.float32))


def test_a_model_without_biases_is_one_with_zeros(tmp_path):
    model = gpt(bias=False, activation="gelu")
    save_gpt2(model, tmp_path)
    np.testing.assert_allclose(logits(load_gpt2(tmp_path)), logits(model), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "rms"}, r"model.norm is 'rms'; GPT-2 knows 'layer' alone"),
        ({"positions": "rotary"}, r"model.positions is 'rotary'; GPT-2 knows 'learned' alone"),
        ({"activation": "swiglu"}, r"model.activation is 'swiglu'; GPT-2 knows 'gelu' or 'gelu_tanh' alone"),
        ({"kv_heads": 1}, r"model.kv_heads is 1; "),
        ({"qk_norm": True}, r"model.qk_norm is True; "),
    ],
)
def test_what_gpt2_lacks_is_not_written(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        save_gpt2(gpt(**options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(TypeError, match=r"expected a GPT, got dict; of a run it is load\(RUN\).module"):
        save_gpt2({}, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        save_gpt2(gpt(), tmp_path / "file")
    with pytest.raises(UserError, match=r"lacks blocks.0.norm1.bias, blocks.0.self_attn.in_proj_bias, "):
        to_gpt2(gpt(bias=False).state_dict())
    with pytest.raises(UserError, match=r"the folder .* cannot be made"):
        save_gpt2(gpt(), tmp_path / "file" / "within")
    for function in (to_gpt2, from_gpt2):
        with pytest.raises(TypeError, match=r"expected a dict .*, got list|expected a dict, as .*, got list"):
            function([])
    with pytest.raises(UserError, match=r"no place in it for more"):
        to_gpt2({**gpt().state_dict(), "more": np.zeros(1)})


def changed(name, change):
    arrays = drawn("transformer.")
    arrays[name] = change(arrays[name])
    return arrays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {name: a for name, a in drawn("transformer.").items() if "h.1.ln_2.b" not in name},
            r"model.safetensors: .* missing: transformer.h.1.ln_2.bias; save",
        ),
        (
            {name: a for name, a in drawn().items() if "h.1" not in name},
            r"missing: h.1.ln_1.weight, h.1.ln_1.bias, h.1.attn.c_attn.weight and 9 more; save",
        ),
        ({f"_orig_mod.{name}": a for name, a in drawn().items()}, r"missing: wte.weight, .*unexpected: _orig_mod.h.0"),
        ({**drawn(), "score.weight": np.zeros(2)}, r"unexpected: score.weight; save"),
        ({**drawn(), "h.2.ln_1.bias": np.zeros(E)}, r"unexpected: h.2.ln_1.bias; save"),
        ({**drawn(), "transformer.wte.weight": np.zeros(2)}, r"wte.weight is there twice"),
        ({**drawn(), "lm_head.weight": np.zeros((V, E))}, r"lm_head.weight differs from wte.weight"),
        (
            changed("transformer.h.0.attn.c_attn.weight", np.transpose),
            r"transformer.h.0.attn.c_attn.weight has the shape \(24, 8\), expected \(8, 24\); transpose it",
        ),
        (changed("transformer.wte.weight", lambda a: a[1:]), r"wte.weight has the shape \(10, 8\), expected \(11, 8\)"),
        (changed("transformer.wpe.weight", np.ravel), r"wpe.weight has the shape \(48,\), expected a matrix"),
        (changed("transformer.ln_f.bias", lambda a: a.astype(int)), r"ln_f.bias is int64, expected floats"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:24],
)
def test_errors_name_the_array(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message) as raised:
        load_gpt2(write(tmp_path, arrays))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gpt_neo"),
        ("activation_function", "relu"),
        ("activation_function", ["gelu"]),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("n_inner", 16),
        ("layer_norm_epsilon", math.nan),
        ("layer_norm_epsilon", "1e-5"),
        ("attn_pdrop", 0.3),
        ("n_layer", 10**9),
        ("n_layer", "2"),
        ("n_head", True),
        ("vocab_size", 0),
    ],
)
def test_a_config_that_gpt_cannot_follow_is_refused(tmp_path, key, value):
    with pytest.raises(UserError, match=key) as raised:
        load_gpt2(write(tmp_path, drawn(), {**CONFIG, key: value}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("heads", [0, True, "2", 2.0])
def test_a_number_of_heads_that_cannot_be(tmp_path, heads):
    with pytest.raises(UserError, match=r"heads is .*; expected a whole number of 1 or more"):
        load_gpt2(write(tmp_path, drawn(), config=None) / "model.safetensors", heads=heads)


def test_files_that_are_not_there_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*none; transformers' model.save_pretrained"):
        load_gpt2(tmp_path / "none")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is a pickle, which may run .*save_pretrained"):
        load_gpt2(tmp_path / "pickled")
    folder = write(tmp_path, drawn())
    with pytest.raises(UserError, match=r"heads is 4, and config.json has n_head 2; leave heads out"):
        load_gpt2(folder, heads=4)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"config.json is no JSON"):
        load_gpt2(folder)
    (folder / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"config.json must hold an object"):
        load_gpt2(folder)
