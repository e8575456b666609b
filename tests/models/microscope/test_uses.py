"""The parameters: what each use adds is what plain NumPy says, and the uses add up to the gradient."""

import numpy as np
import plain_models
import pytest
from looked_at import FEEDING, SOURCE, TARGET, make, plain
from tinygrad_attn_models.data import END, START
from tinygrad_attn_models.gpt import GPT
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.record import parameters as described
from tinygrad_attn_models.microscope.record import uses
from tinygrad_attn_models.microscope.record.arrays import decoded

import tinygrad_attn as ta
from tinygrad_attn import nn

TEXT = [4, 6, 5, 7, 6, 5, 8]
NAMES = ("bahdanau", "transformer", "seq2seq", *FEEDING)


def gpt(**options):
    ta.manual_seed(3)
    return GPT(9, layers=2, heads=2, d_model=8, context=10, **options).eval()


def tied():
    model = make("transformer")
    model.output.weight = model.target_embedding.weight
    return model


def gradients(model, *texts):
    """Those of an ordinary backward pass, by name."""
    model = model.to(ta.float64).eval()
    model.zero_grad()
    if len(texts) == 1:
        logits, expected = model(ta.tensor([texts[0][:-1]])), texts[0][1:]
    else:
        source, target = texts
        logits = model(ta.tensor([source]), ta.ones(1, len(source)).bool(), ta.tensor([[START, *target]]))
        expected = [*target, END]
    nn.functional.cross_entropy(logits.squeeze(0), ta.tensor(expected)).backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


def terms(data, parameter, group):
    """The vectors of each use, as the page has them."""
    return tuple(decoded(data["arrays"][group[side]]) for side in ("left", "right"))


def summed(data, parameter):
    """The gradient that the page shows: the products of all uses' vectors; with all rows."""
    rows, columns = parameter["shape"][0], int(np.prod(parameter["shape"][1:], dtype=int))
    total = np.zeros((rows, columns))
    for group in parameter["uses"]:
        left, right = terms(data, parameter, group)
        total[parameter["rows"] or slice(*group["rows"])] += left.T @ right
    return total.reshape(parameter["shape"])


MODELS = {
    **{name: (lambda name=name: make(name), (SOURCE, TARGET)) for name in NAMES},
    "tied": (tied, (SOURCE, TARGET)),
    "gpt": (gpt, (TEXT,)),
    "gpt-modern": (lambda: gpt(norm="rms", activation="swiglu", positions="rotary", kv_heads=1), (TEXT,)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_uses_add_up_to_the_gradient(name):
    make_model, texts = MODELS[name]
    data = microscope(make_model(), *texts).data
    expected = gradients(make_model(), *texts)
    assert {parameter["name"] for parameter in data["parameters"]} == set(expected)
    for parameter in data["parameters"]:
        gradient = expected[parameter["name"]]
        size = np.abs(gradient).max()
        np.testing.assert_allclose(summed(data, parameter), gradient, rtol=0, atol=1e-12 * size)
        assert sum(share for group in parameter["uses"] for share in group["shares"]) == pytest.approx(1, abs=1e-12)
        assert parameter["off"] <= 1e-12 and parameter["gradient"] is None
        assert parameter["gradient_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    found = [identity for identity in data["check"]["identities"] if identity["name"] == "uses_sum_to_gradient"]
    assert len(found) == len(expected) and all(identity["holds"] for identity in found)


class Once(dict):
    """Weights of which one is another matrix when it is read for the nth time."""

    def __init__(self, weights, name, n, other):
        super().__init__(weights)
        self.name, self.n, self.other, self.read = name, n, other, 0

    def __getitem__(self, name):
        if name != self.name:
            return super().__getitem__(name)
        self.read += 1
        return self.other if self.read == self.n + 1 else super().__getitem__(name)


@pytest.mark.parametrize(
    ("weight", "steps", "before"),  # NumPy reads the decoder's once before, for its size
    [("encoder.weight_hh_l0", len(SOURCE), 0), ("decoder.weight_hh", len(TARGET) + 1, 1)],
)
def test_what_one_step_adds_is_the_derivative_if_the_weight_changed_in_that_step_alone(weight, steps, before):
    model = make("bahdanau")
    data = microscope(model, SOURCE, TARGET).data
    (parameter,) = (each for each in data["parameters"] if each["name"] == weight)
    (group,) = parameter["uses"]
    left, right = terms(data, parameter, group)
    weights = plain_models.float64_weights(model)
    assert group["positions"] == list(range(steps)) == list(range(len(left)))
    for n in range(steps):
        for cell in ((0, 0), (7, 3), (17, 5)):
            moved = weights[weight].astype(complex)
            moved[cell] += 1j * plain_models.H
            loss = plain_models.loss(plain("bahdanau"), Once(weights, weight, n + before, moved), SOURCE, TARGET)
            assert left[n, cell[0]] * right[n, cell[1]] == pytest.approx(
                loss.imag / plain_models.H, abs=1e-15, rel=1e-9
            )


def test_queries_keys_and_values_have_their_own_rows_and_uses():
    data = microscope(make("transformer"), SOURCE, TARGET).data
    expected = gradients(make("transformer"), SOURCE, TARGET)
    name = "transformer.decoder.layers.0.multihead_attn.in_proj_weight"
    (parameter,) = (each for each in data["parameters"] if each["name"] == name)
    assert [(block["name"], block["rows"]) for block in parameter["blocks"]] == [
        ("Q", [0, 8]),
        ("K", [8, 16]),
        ("V", [16, 24]),
    ]
    for block in parameter["blocks"]:
        assert block["gradient_norm"] == pytest.approx(np.linalg.norm(expected[name][slice(*block["rows"])]), rel=1e-12)
    # The queries are the decoder's, keys and values the encoder's.
    assert [(group["of"], group["rows"]) for group in parameter["uses"]] == [("target", [0, 8]), ("source", [8, 24])]


def test_a_shared_weight_has_the_uses_of_both_layers():
    data = microscope(gpt(), TEXT).data
    (parameter,) = (each for each in data["parameters"] if each["name"] == "embedding.weight")
    assert [group["op"] for group in parameter["uses"]] == ["embedding", "matmul"]
    assert all(len(group["calls"]) == len(TEXT) - 1 for group in parameter["uses"])
    assert parameter["rows"] is None and parameter["row_names"] == [str(i) for i in range(9)]


def test_of_an_embedding_only_the_rows_of_symbols_that_occur_are_kept():
    data = microscope(make("bahdanau"), SOURCE, TARGET).data
    (parameter,) = (each for each in data["parameters"] if each["name"] == "source_embedding.weight")
    assert parameter["rows"] == sorted(set(SOURCE)) and parameter["row_names"] == [str(i) for i in sorted(set(SOURCE))]
    np.testing.assert_array_equal(
        decoded(data["arrays"][parameter["value"]]), make("bahdanau").source_embedding.weight.array[parameter["rows"]]
    )


def test_of_large_parameters_the_shares_remain(monkeypatch):
    monkeypatch.setattr(uses, "LARGEST", 10)
    monkeypatch.setattr(described, "LARGEST", 10)
    data = microscope(make("transformer"), SOURCE, TARGET).data
    assert data["check"]["ok"]
    for parameter in data["parameters"]:
        if np.prod(parameter["shape"]) > 10:
            assert all(group["left"] is None for group in parameter["uses"])
        assert sum(share for group in parameter["uses"] for share in group["shares"]) == pytest.approx(1, abs=1e-12)


def test_parameters_are_dropped_first():
    data = microscope(make("bahdanau"), SOURCE, TARGET, limit=15_000).data
    assert any(parameter["value"] is None for parameter in data["parameters"])
    assert all(tensor["value"] is not None for site in data["sites"] for tensor in site["tensors"].values())


def test_a_parameter_is_stored_in_the_float32_that_it_was_trained_in():
    data = microscope(make("bahdanau"), SOURCE, TARGET).data
    assert {data["arrays"][each["value"]]["dtype"] for each in data["parameters"]} == {"float32"}
