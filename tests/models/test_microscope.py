"""The microscope: every model can be looked at, the badge is green for what is right and red for what is not."""

import json

import numpy as np
import pytest

import tinygrad_attn as ta
from models.bahdanau import Bahdanau
from models.cli import main
from models.errors import CommandError
from models.luong import Luong
from models.microscope import microscope
from models.microscope.arrays import decoded
from models.microscope.gallery import GALLERY
from models.microscope.schema import SCHEMA
from models.microscope.snippets import find_snippet, render_snippet
from models.seq2seq import Seq2Seq
from models.transformer import Transformer

SOURCE, TARGET = [4, 6, 5, 7], [5, 4, 6]
SCORES = ("dot", "scaled_dot", "general", "concat", "location")


def make(name):
    ta.manual_seed(3)
    if name == "bahdanau":
        return Bahdanau(9, 8, 5, 6)
    if name == "seq2seq":
        return Seq2Seq(9, 8, 5, 6)
    if name == "transformer":
        return Transformer(9, 8, d_model=8, heads=4, encoder_layers=2, decoder_layers=2, d_ff=12)
    return Luong(9, 8, 5, 6, score=name)


def matrix(data, site, tensor, part):
    number = site["tensors"][tensor][part]
    return None if number is None else decoded(data["arrays"][number])


@pytest.fixture(scope="module", params=["bahdanau", *SCORES, "transformer", "seq2seq"])
def data(request):
    return microscope(make(request.param), SOURCE, TARGET).data


def test_the_badge_is_green(data):
    check = data["check"]
    assert data["schema"] == SCHEMA
    assert check["ok"], check["failures"]
    assert check["compared"] >= 8 and check["worst"] <= 1e-5
    assert check["replayed"] > 20 and check["unknown_ops"] == []
    assert bool(data["sites"]) == (check["recomputed"] > 0)


def test_the_numbers_are_those_of_plain_numpy(data):
    for site in data["sites"]:
        scores, weights = (matrix(data, site, name, "value") for name in ("scores", "weights"))
        mask = True if site["mask"] is None else decoded(data["arrays"][site["mask"]])
        e = np.exp(scores - scores.max(-1, keepdims=True)) * mask
        np.testing.assert_allclose(weights, e / e.sum(-1, keepdims=True), rtol=1e-12, atol=0)
        np.testing.assert_allclose(
            matrix(data, site, "context", "value"), weights @ matrix(data, site, "V", "value"), rtol=1e-12, atol=1e-14
        )
        for_weights, for_scores = (matrix(data, site, name, "gradient") for name in ("weights", "scores"))
        expected = weights * (for_weights - (weights * for_weights).sum(-1, keepdims=True))
        np.testing.assert_allclose(for_scores, expected, rtol=1e-9, atol=1e-15)
        assert abs(for_scores.sum(-1)).max() < 1e-15
        if site["mask"] is not None:
            outside = ~np.broadcast_to(mask, for_scores.shape)
            assert (weights[outside] == 0).all() and (for_scores[outside] == 0).all()


def test_what_reaches_the_encoder_by_each_way(data):
    (paths,) = data["paths"]
    assert len(paths["total"]) == len(SOURCE)
    for value, score, recurrence, total in zip(
        paths["value"], paths["score"], paths["recurrence"], paths["total"], strict=True
    ):
        assert total <= value + score + recurrence + 1e-15  # norms of vectors that add up
    if data["meta"]["model"] == "Seq2Seq":
        assert set(paths["value"]) == set(paths["score"]) == {0.0}
        assert paths["start"][-1] > 0 and paths["start"][0] == 0  # the decoder starts from the last state


def test_snippets_print_the_number_they_explain(data, capsys):
    checked = 0
    for site in data["sites"]:
        for tensor in site["tensors"]:
            for part in ("value", "gradient"):
                array = matrix(data, site, tensor, part)
                if array is None or find_snippet(site, tensor, part) is None:
                    continue
                cell = (array.shape[0] - 1, array.shape[1] - 1, 0)
                code = render_snippet(data, site, tensor, part, cell)
                exec(code, {})
                printed = float(capsys.readouterr().out)
                np.testing.assert_allclose(printed, array[cell], rtol=1e-9, atol=1e-14)
                checked += 1
    assert bool(checked) == bool(data["sites"])


@pytest.mark.parametrize(
    ("model", "broken"),
    [
        ("bahdanau", "softmax-without-second-term"),
        ("general", "softmax-without-second-term"),
        ("transformer", "softmax-without-second-term"),
        ("bahdanau", "additive-without-tanh"),
        ("concat", "additive-without-tanh"),
        ("transformer", "layernorm-gamma-outside"),
    ],
)
def test_a_wrong_derivative_turns_the_badge_red(model, broken):
    net = make(model)
    if broken.startswith("layernorm"):  # with weights of one, inside and outside are the same
        for name, parameter in net.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.array[:] = np.linspace(0.5, 2.0, parameter.array.size)
    check = microscope(net, SOURCE, TARGET, broken=broken).data["check"]
    assert not check["ok"] and check["failing"] >= len(check["failures"]) > 0
    assert {failure["kind"] for failure in check["failures"]} & {"difference", "recomputed", "replayed"}
    assert microscope(net, SOURCE, TARGET).data["check"]["ok"]  # and the right derivative is back


def test_gradients_too_small_for_differences_count_as_no_comparison():
    model = make("bahdanau")
    model.output.weight.array[:] *= 1e-9  # what comes before the output hardly changes the loss
    check = microscope(model, SOURCE, TARGET).data["check"]
    assert check["ok"] and check["unresolved"] > 0 and check["compared"] > 0
    assert check["compared"] + check["unresolved"] == len(check["cells"])
    assert all(abs(cell["gradient"]) < check["floor"] for cell in check["cells"] if not cell["resolved"])


def test_the_gallery_is_all_tested():
    assert set(GALLERY) == {"softmax-without-second-term", "additive-without-tanh", "layernorm-gamma-outside"}


def test_the_model_is_left_as_it_was():
    model = make("bahdanau")
    before = {name: parameter.array.copy() for name, parameter in model.named_parameters()}
    found = microscope(model, SOURCE, nudge={"parameter": "output.bias", "index": [0], "by": 0.5}).data
    assert found["meta"]["nudge"]["after"] - found["meta"]["nudge"]["before"] == pytest.approx(0.5)
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.array, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_has_diverged():
    model = make("bahdanau")
    model.output.weight.array[0, 0] = np.nan
    found = microscope(model, SOURCE, TARGET)
    assert not found.data["check"]["ok"] and np.isnan(found.data["meta"]["loss"])
    assert {row["state"] for row in found.data["tape"]} >= {"nan", "none"}
    read = json.loads(found.json(), parse_constant=pytest.fail)  # as a browser does, which knows no bare NaN
    assert read["meta"]["loss"] == "NaN" and np.isnan(float(read["meta"]["loss"]))
    assert "NaN" in found.html()


def test_what_does_not_fit_is_named():
    found = microscope(make("bahdanau"), SOURCE, TARGET, limit=2_000).data
    assert found["kept"]["dropped"] and found["kept"]["bytes"] <= 2_000
    assert found["check"]["ok"]  # checks see everything


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": []}, "source is empty"),
        ({"source": "text"}, "no run with a tokenizer"),
        ({"source": [4] * 201}, "201 symbols"),
        ({"source": [4], "broken": "x"}, "no broken derivative 'x'"),
        ({"source": [4], "nudge": {"parameter": "w", "index": [0], "by": 1.0}}, "no parameter 'w'"),
        ({"source": [4], "nudge": {"parameter": "output.bias", "index": [99], "by": 1.0}}, "no place in output.bias"),
        ({"source": [4], "nudge": {"parameter": "output.bias", "index": [0], "by": float("nan")}}, "finite number"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(CommandError, match=message):
        microscope(make("bahdanau"), **arguments)


def test_the_page_is_one_file_that_loads_nothing():
    page = microscope(make("bahdanau"), SOURCE, TARGET).html()
    assert "default-src 'none'" in page and "connect-src 'none'" in page
    assert page.count("</script>") == 4 and "http://" not in page.replace("http://www.w3.org/", "")
    assert len(page) < 1_000_000


def test_the_command(trained, tmp_path, capsys):
    page, numbers = tmp_path / "page.html", tmp_path / "page.json"
    assert main(["microscope", str(trained), "2026", "--target", "2026-11-22", "--out", str(page)]) == 0
    assert "numbers checked out" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["microscope", str(trained), "2026", "--out", str(numbers), "--view", "term"]) == 0
    found = json.loads(numbers.read_text(encoding="utf-8"))
    output = capsys.readouterr().out
    assert "every number checked out" in output and f"{found['meta']['loss']:.6g}" in output
    site = found["sites"][0]
    weights = decoded(found["arrays"][site["tensors"]["weights"]["value"]])
    assert f"{weights[0, 0, 0]:.6g}" in output
    for tensor in site["tensors"].values():
        assert f"{tensor['gradient_norm']:.6g}" in output
    assert main(["microscope", str(trained), "2026", "--broken", "nothing"]) == 2
    assert "there are softmax-without-second-term" in capsys.readouterr().err
