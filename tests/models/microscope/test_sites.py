"""The microscope: every model can be looked at, every number is right, and what it shows of them can be relied upon."""

import json

import numpy as np
import plain_models
import pytest
from looked_at import EACH, SOURCE, TARGET, make, matrix, plain
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import CommandError
from tinygrad_attn_models.microscope import microscope
from tinygrad_attn_models.microscope.checks.snippets import find_snippet, render_snippet
from tinygrad_attn_models.microscope.record.arrays import decoded
from tinygrad_attn_models.microscope.record.schema import SCHEMA


@pytest.fixture(scope="module", params=EACH)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def data(name):
    return microscope(make(name), SOURCE, TARGET).data


@pytest.fixture(scope="module")
def again(name):
    """The same pass in plain NumPy: a function of `plain_models`, called with it."""
    passed = plain(name), plain_models.float64_weights(make(name)), SOURCE, TARGET
    return lambda function, *arguments: function(*passed, *arguments)


def test_the_badge_is_green(data):
    check = data["check"]
    assert data["schema"] == SCHEMA
    assert check["ok"], check["failures"]
    assert check["compared"] >= 8 and check["worst"] <= 1e-5
    assert check["replayed"] > 20 and check["unknown_ops"] == []
    assert bool(data["sites"]) == (check["recomputed"] > 0)


def test_every_value_is_that_of_plain_numpy(data, again):
    assert data["meta"]["loss"] == pytest.approx(again(plain_models.loss).real, rel=1e-13)
    expected = {key: array for key, array in again(plain_models.values).items() if key[0] != "encoder"}
    assert set(expected) == {(site["id"], tensor) for site in data["sites"] for tensor in site["tensors"]}
    for site in data["sites"]:
        for tensor in site["tensors"]:
            np.testing.assert_allclose(
                matrix(data, site, tensor, "value"), expected[site["id"], tensor], rtol=1e-11, atol=1e-14,
                err_msg=f"{tensor} at {site['id']}",
            )  # fmt: skip


def test_every_gradient_is_a_derivative_of_plain_numpy(data, again):
    for site in data["sites"]:
        for tensor in site["tensors"]:
            found = matrix(data, site, tensor, "gradient")
            expected = again(plain_models.gradient, site["id"], tensor, found.shape)
            size = abs(expected).max()
            assert size > 0.0
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=1e-11 * size, err_msg=f"gradient of {tensor} at {site['id']}"
            )


def test_what_is_masked_is_exactly_zero(data, name):
    masked = 0
    for site in data["sites"]:
        if site["mask"] is None:
            continue
        outside = ~np.broadcast_to(decoded(data["arrays"][site["mask"]]), site["tensors"]["scores"]["shape"])
        for tensor, part in (("weights", "value"), ("scores", "gradient")):
            assert not matrix(data, site, tensor, part)[outside].any()
        masked += int(outside.sum())
    assert (masked > 0) == ("local" in name or name == "transformer")


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


def test_gradients_too_small_for_differences_count_as_no_comparison():
    model = make("bahdanau")
    model.output.weight.array[:] *= 1e-9  # what comes before the output hardly changes the loss
    check = microscope(model, SOURCE, TARGET).data["check"]
    assert check["ok"] and check["unresolved"] > 0 and check["compared"] > 0
    assert check["compared"] + check["unresolved"] == len(check["cells"])
    assert check["unresolved_because"] == {"rounding": check["unresolved"]}
    for cell in check["cells"]:
        assert cell["resolved"] or 1e-5 * cell["largest"] <= 8.0 * cell["uncertainty"]


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
    assert found.data["check"]["state"] == "not_finite" and found.data["check"]["failures"] == []
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
    assert page.count("</script>") == 5 and "http://" not in page.replace("http://www.w3.org/", "")
    assert len(page) < 1_000_000


def test_the_command(trained, tmp_path, capsys):
    page, numbers = tmp_path / "page.html", tmp_path / "page.json"
    assert main(["microscope", str(trained), "2026", "--target", "2026-11-22", "--out", str(page)]) == 0
    assert "numbers checked out" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["microscope", str(trained), "2026", "--out", str(numbers), "--view", "term"]) == 0
    found = json.loads(numbers.read_text(encoding="utf-8"))
    output = capsys.readouterr().out
    assert "numbers checked out" in output and f"{found['meta']['loss']:.6g}" in output
    site = found["sites"][0]
    weights = decoded(found["arrays"][site["tensors"]["weights"]["value"]])
    assert f"{weights[0, 0, 0]:.6g}" in output
    for tensor in site["tensors"].values():
        assert f"{tensor['gradient_norm']:.6g}" in output
