"""The microscope of a module that is no translator and no language model, with a loss of the user's own."""

import json

import numpy as np
import pytest
from looked_at import matrix
from tinygrad_attn_models.console.errors import CommandError, UserError
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.page.terminal import print_microscope

import tinygrad_attn as ta
from tinygrad_attn import nn
from tinygrad_attn.modes import mark
from tinygrad_attn.nn import functional as F


class Reader(nn.Module):
    """Attention of the package's layers, and a function of it; then attention that is announced by hand."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=batch_first)
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(8, 3)

    def forward(self, x, memory, allowed=None, scale=1.0):
        h, _ = self.attend(x, memory, memory, need_weights=False)
        h = self.dropout(F.scaled_dot_product_attention(h * scale, h, x, allowed))
        q, k, v = mark("query", h), mark("key", h), mark("value", x)
        scores = mark("scores", q @ k.transpose(-1, -2), score="dot")
        return {"read": self.out(mark("context", mark("weights", ta.softmax(scores, -1)) @ v))}


def loss(output):
    return output["read"].square().mean()


@pytest.fixture(autouse=True)
def _seeded():
    ta.manual_seed(0)


def inputs(batch=1):
    return ta.randn(batch, 4, 8), ta.randn(batch, 5, 8)


@pytest.mark.parametrize("batch", [1, 3])
def test_its_numbers_are_the_modules_own(batch):
    model, given = Reader(), inputs(batch)
    found = microscope(model, given, loss=loss)
    data = found.data
    assert data["check"]["ok"] and data["check"]["unknown_ops"] == [], data["check"]["failures"]
    assert [site["id"] for site in data["sites"]] == ["attend", "attention", "attention#2"]
    assert data["sites"][0]["heads"] == 2 and data["check"]["compared"] > 30
    same = model.to(np.float64).eval()
    real = [x.to(ta.float64).requires_grad_() for x in given]
    expected = loss(same(*real))
    expected.backward()
    assert data["meta"]["loss"] == pytest.approx(expected.item(), rel=1e-12)
    values = matrix(data, data["sites"][1], "V", "value")[0]
    np.testing.assert_allclose(values, real[0].detach().numpy()[0], rtol=1e-12)
    assert ("batch" in data["meta"]["missing"]) == (batch > 1)
    assert "evaluation" in data["meta"]["missing"] and "tokens" in data["meta"]["missing"]
    assert data["meta"]["inputs"][0] == f"x: float64 ({batch}, 4, 8)"


def test_the_model_is_not_changed():
    model = Reader()
    before = {name: array.numpy().tobytes() for name, array in model.state_dict().items()}
    microscope(model, inputs(), loss=loss)
    assert {name: array.numpy().tobytes() for name, array in model.state_dict().items()} == before
    assert model.training and all(p.grad is None and p.dtype == np.float32 for p in model.parameters())


def test_inputs_by_name_with_a_mask_and_a_number():
    x, memory = inputs()
    given = {"x": x.numpy(), "memory": memory.numpy().tolist(), "allowed": np.tri(4, dtype=bool), "scale": 0.5}
    data = microscope(Reader(), given, loss=loss).data
    assert data["check"]["ok"] and data["sites"][1]["mask"] is not None
    assert data["meta"]["inputs"][2:] == ["allowed: bool (4, 4)", "scale: 0.5"]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_stack_of_layers(batch_first, batch):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
    model = nn.TransformerEncoder(layer, 2)
    x = ta.randn(batch, 5, 8) if batch_first else ta.randn(5, batch, 8)
    data = microscope(model, x, loss=lambda y: (y * y * y).mean()).data
    assert data["check"]["ok"], data["check"]["failures"]
    assert [(site["id"], site["role"]) for site in data["sites"]] == [
        ("layers.0.self_attn", "self"), ("layers.1.self_attn", "self")
    ]  # fmt: skip
    assert data["sites"][0]["context_at"] == 0 and data["sites"][0]["tensors"]["joined"]["shape"] == [1, 5, 8]
    assert len(data["layers"][0]["stacks"][0]["sublayers"]) == 4


def test_a_module_without_attention():
    data = microscope(nn.Linear(3, 2), np.ones((4, 3)), loss=lambda y: y.square().sum()).data
    assert data["sites"] == [] and data["check"]["ok"] and data["check"]["compared"] > 0
    assert [parameter["name"] for parameter in data["parameters"]] == ["weight", "bias"]


def test_a_wrong_derivative_is_red():
    data = microscope(Reader(), inputs(), loss=loss, broken="softmax-without-second-term").data
    assert data["check"]["state"] == "bad" and data["meta"]["broken"] == "softmax-without-second-term"
    with pytest.raises(CommandError, match="this Linear runs no"):
        microscope(nn.Linear(3, 2), np.ones(3), loss=lambda y: y.sum(), broken="softmax-without-second-term")


def test_a_nudged_weight():
    nudge = {"parameter": "out.weight", "index": [0, 0], "by": 0.5}
    model, given = Reader(), inputs()
    plain, moved = (microscope(model, given, loss=loss, nudge=each).data for each in (None, nudge))
    assert moved["check"]["ok"] and moved["meta"]["loss"] != plain["meta"]["loss"]


def test_it_is_shown_everywhere(capsys, tmp_path):
    found = microscope(Reader(), inputs(2), loss=loss)
    assert "x: float64 (2, 4, 8)" in repr(found)
    print_microscope(found.data)
    printed = capsys.readouterr().out
    assert "not shown: symbols and predictions" in printed and "the batch but its first item, dropout" in printed
    assert "<iframe" in found._repr_html_() and "float64 (2, 4, 8)" in found.html()
    found.save(tmp_path / "page.json")
    assert json.loads((tmp_path / "page.json").read_text())["tokens"] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda y: y["read"], r"one number, as of mean\(\) or sum\(\); it is shape \(1, 4, 3\)"),
        (lambda y: 3.0, "it is float"),
        (lambda y: ta.ones(()), "depends on no parameter"),
    ],
)
def test_what_is_no_loss(wrong, message):
    with pytest.raises(UserError, match=message):
        microscope(Reader(), inputs(), loss=wrong)


def test_what_cannot_be():
    class Guided(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attend(x, x, x)

    with pytest.raises(UserError, match=r"reads the attention weights of Guided\.attend themselves"):
        microscope(Guided(), inputs()[0], loss=lambda found: found[0].sum() + found[1].square().sum())
    assert microscope(Guided(), inputs()[0], loss=lambda found: found[0].square().sum()).data["check"]["ok"]
    with pytest.raises(UserError, match="with a loss of your own there is no target"):
        microscope(Reader(), inputs(), [1, 2], loss=loss)
    with pytest.raises(UserError, match=r"must be an nn\.Module, it is function"):
        microscope(loss, inputs(), loss=loss)
    with pytest.raises(UserError, match="Any other module needs a loss"):
        microscope(Reader(), inputs())
    with pytest.raises(UserError, match="input 1 is no tensor, array or list of numbers"):
        microscope(Reader(), (inputs()[0], object()), loss=loss)


def test_within_no_grad():
    with ta.no_grad():
        assert microscope(Reader(), inputs(), loss=loss).data["check"]["ok"]
        assert not ta.is_grad_enabled()


def test_what_a_module_has_kept_of_an_earlier_pass():
    class Keeping(Reader):
        def forward(self, *given):
            self.last = super().forward(*given)["read"]
            return {"read": self.last}

    model, given = Keeping(), inputs()
    model(*given)
    assert microscope(model, given, loss=loss).data["check"]["ok"]


def test_inputs_and_losses_in_other_precisions():
    x, memory = (each.numpy() for each in inputs())
    data = microscope(Reader(), (x.astype(np.float16), memory), loss=loss).data
    assert data["check"]["ok"] and data["meta"]["inputs"][0] == "x: float64 (1, 4, 8)"
    head = nn.Linear(3, 1)  # in float32
    data = microscope(Reader(), (x, memory), loss=lambda y: head(y["read"]).square().mean()).data
    assert data["check"]["ok"], data["check"]["failures"]


def test_a_constant_mask_of_float32():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            return {"read": self.out(F.scaled_dot_product_attention(x, x, x, ta.ones(4, 4)))}

    assert microscope(Masked(), inputs()[0], loss=loss).data["check"]["ok"]


def test_neither_an_empty_input_nor_a_number_as_loss():
    with pytest.raises(UserError, match=r"input 0 has no elements, its shape is \(0, 4, 8\)"):
        microscope(Reader(), inputs(0), loss=loss)
    with pytest.raises(UserError, match="must be a function from what Reader returns to a scalar tensor, it is int"):
        microscope(Reader(), inputs(), loss=3)


def test_there_is_no_worksheet_without_predictions():
    found = microscope(Reader(), inputs(), loss=loss)
    with pytest.raises(UserError, match=r"^the worksheet asks about predictions; .* a loss of your own"):
        found.worksheet()
