"""A trained run from Python: it does what the commands do, and nothing heavy is imported before it is needed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tinygrad_attn_models
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.data import DataError
from tinygrad_attn_models.runs.folder import RunError

import tinygrad_attn
from tinygrad_attn import manual_seed

TEXTS = ["22 Nov 2026", "", "2026년 11월 22일"]


@pytest.fixture
def model(trained):
    return load(trained)


def printed(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_translations_are_those_of_the_command(model, trained, capsys):
    assert model.translate(TEXTS) == printed(capsys, "translate", trained, *TEXTS).split("\n")[:-1]
    narrow, wide = model.translate(TEXTS, beam=1), model.translate(TEXTS, beam=4, length_penalty=0.0)
    assert narrow == model.translate(TEXTS) and len(wide) == 3 and wide[1] == ""


def test_the_n_best_are_those_of_the_command(model, trained, capsys):
    rows = printed(capsys, "translate", trained, *TEXTS, "--n-best", "3").splitlines()
    found = model.translate(TEXTS, n_best=3)
    assert [len(scored) for scored in found] == [3, 0, 3]
    lines = [f"{number}\t{score:.4f}\t{text}" for number, scored in enumerate(found, 1) for text, score in scored]
    assert lines == rows


def test_progress_is_told_by_batches(model):
    batches = []
    model.translate(["1/2/2020"] * 70, on_batch=batches.append)
    assert sum(batches) == 70 and len(batches) == 2


def test_mistakes(model, tmp_path):
    with pytest.raises(TypeError, match=r"expected a list of texts, got one text; write translate\(\['x'\]\)"):
        model.translate("x")
    with pytest.raises(UserError, match="n_best is 3; it must be from 1 to the width of the beam"):
        model.translate(["x"], n_best=3, beam=2)
    with pytest.raises(UserError, match="at least 1"):
        model.translate(["x"], beam=0)
    with pytest.raises(TypeError, match=r"no setting of decoding 'beams'; there are batch_size, .*beam, "):
        model.translate(["x"], beams=2)
    with pytest.raises(RunError, match="there is no run folder"):
        load(tmp_path / "none")


def test_texts_from_anything_that_gives_them(model):
    expected = model.translate(TEXTS)
    assert model.translate(text for text in TEXTS) == model.translate(tuple(TEXTS)) == expected
    assert model.translate(np.array(TEXTS), n_best=1)[0][0].text == expected[0]
    assert [text for text, _ in model.translate_aligned(iter(TEXTS))] == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda model: model.translate(5), r"translate: expected a list of texts, got int"),
        (lambda model: model.translate_aligned("22"), r"write translate_aligned\(\['22'\]\)"),
        (lambda model: model.translate([5]), r"expected a text, got int 5"),
        (lambda model: model.translate(["22"], n_best="2"), r"n_best is '2'; it must be a whole number"),
        (lambda model: model.align(""), r"align: the text is empty"),
        (lambda model: model.score(None, "22"), r"expected a text, got NoneType None"),
        (lambda model: model.evaluate("testing"), r"there is no split 'testing'; there are 'valid' and 'test'"),
        (lambda model: model.microscope(5), r"the source must be a text, or a list of ids; it is 5"),
        (lambda model: model.microscope("22", ["a"]), r"the target must be a text, or a list of ids; it is \['a'\]"),
        (lambda model: model.microscope("22", beside="runs/x"), r"beside must be another TrainedModel, got str"),
        (lambda model: load(5), r"expected the path of a run folder, got int 5"),
        (lambda model: load(None), r"expected the path of a run folder, got NoneType None"),
    ],
)
def test_what_is_no_text(model, wrong, message):
    with pytest.raises((TypeError, UserError), match=message):
        wrong(model)


def test_alignment_of_its_own_translation_and_of_another(model):
    own = model.align("22 Nov 2026")
    (weights,) = own.weights.values()
    assert weights.shape == (1, len(own.target), len("22 Nov 2026"))
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)
    assert model.align("22 Nov 2026", "2026").target == ["2", "0", "2", "6", "</s>"]


def test_unknown_characters(model):
    assert model.unknown("22 Nov ☃ ü ☃") == ["☃", "ü"]


def test_evaluation_is_that_of_the_command(model, trained, capsys):
    found = model.evaluate("valid", bleu_tokenizer="none", bleu_lowercase=True)
    options = ["--split", "valid", "--json", "--bleu-tokenizer", "none", "--bleu-lowercase"]
    assert json.loads(printed(capsys, "evaluate", trained, *options))["scores"]["bleu"] == found.scores.bleu
    assert found.scores.pairs == len(model.text.valid) == 8


def test_the_microscope_is_that_of_the_command(model, trained, capsys, tmp_path):
    page = tmp_path / "page.json"
    printed(capsys, "microscope", trained, "22 Nov 2026", "--target", "2026-11-22", "--out", page)
    found = model.microscope("22 Nov 2026", "2026-11-22")
    assert found.json() == page.read_text(encoding="utf-8")
    assert "<iframe" in found._repr_html_()
    assert model.microscope("1/2/2020", beside=model).data["paths"]


def test_what_it_is_made_of(model, trained):
    source, target = model.tokenizers
    assert target.decode(target.encode("2026-11-22")) == "2026-11-22"
    assert source.decode(source.encode("22 Nov")) == "22 Nov"
    assert "output.weight" in model.module.state_dict() and not model.module.training
    assert model.config.model.name == "bahdanau"
    assert re.fullmatch(r"<TrainedModel bahdanau, 1,\d+ parameters, from .*>", repr(model))


def test_data_that_has_gone_is_no_matter_until_it_is_needed(model, monkeypatch):
    def gone(data):
        raise DataError("it has gone")

    monkeypatch.setattr(type(model.config.data), "load", gone)
    assert model.translate(["x"])
    with pytest.raises(DataError):
        model.evaluate()


def test_importing_the_package_imports_no_engine():
    code = (
        "import sys, models\nassert callable(models.load) and models.__version__\n"
        "assert not {'numpy', 'numba', 'matplotlib', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_one():
    assert tinygrad_attn_models.__version__ == tinygrad_attn.__version__
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        tinygrad_attn_models.lod  # noqa: B018


def test_the_example_of_the_readme(trained, tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load(" in code]
    (folder,) = re.findall(r"load\(\"(.*?)\"\)", code)
    (tmp_path / folder).parent.mkdir(parents=True)
    (tmp_path / folder).symlink_to(trained, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert len(eval(capsys.readouterr().out)) == 2
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_weights_of_a_kept_step(kept_run):
    model = load(kept_run)
    assert model.kept_steps == [0, 1, 3, 10, 20]
    before = model.at_step(0)
    manual_seed(model.config.training.seed)
    for name, tensor in model.run.build().state_dict().items():
        np.testing.assert_array_equal(before.module.state_dict()[name].array, tensor.array, err_msg=name)
    assert not before.module.training and before.translate(["22 Nov 2026"]) != [""]
    scores = [model.at_step(step).score("2026-11-22", "22 Nov 2026").log_probability for step in (0, 20)]
    assert scores[0] < scores[1]


def test_a_step_that_was_not_kept(kept_run, trained):
    with pytest.raises(RunError, match="has not kept the weights of step 7; it has 0, 1, 3, 10, 20"):
        load(kept_run).at_step(7)
    with pytest.raises(RunError, match=r"training\.keep_checkpoints keeps some"):
        load(trained).at_step(0)
