"""The trained runs that ship: they are there, small, of this version, and do what the catalog says of them."""

import json
import re
import tomllib

import pytest
from commands import refused
from tinygrad_attn_models import load
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.demos import DEMOS, find_demo, folder_of
from tinygrad_attn_models.demos.make import PAGES
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, Run
from tinygrad_attn_models.runs.kept import kept_steps

pytest.importorskip("safetensors")

BAHDANAU, SENTENCE = "dates-bahdanau", "22 November 2026"
LARGEST = 1_000_000  # bytes of a demo, but for the weights of other steps
LARGEST_WITH_FRAMES = 2_200_000
LARGEST_PAGE = 3_000_000


@pytest.fixture(params=DEMOS)
def demo(request):
    return DEMOS[request.param]


def test_the_folders_are_those_of_the_catalog():
    folder = next(iter(DEMOS.values())).folder.parent
    assert {path.parent.name for path in folder.glob(f"*/{BEST}")} == set(DEMOS)


def test_a_demo_is_small_and_of_the_settings_that_the_catalog_has(demo):
    sizes = {path.name: path.stat().st_size for path in demo.folder.iterdir()}
    assert sum(size for name, size in sizes.items() if not name.startswith("step-")) < LARGEST
    assert sum(sizes.values()) < LARGEST_WITH_FRAMES
    assert tuple(kept_steps(demo.folder)) == demo.frames
    run, _ = Run.load(demo.folder)
    assert run.config == load_config(None, demo.settings)
    about = json.loads((demo.folder / "run.json").read_text(encoding="utf-8"))
    assert about["versions"]["numpy"] and about["seed"] == run.config.training.seed and "results" in about
    assert not any("/" in word for word in about["command"])
    assert tomllib.loads((demo.folder / "config.toml").read_text(encoding="utf-8"))


def test_the_wheel_has_them():
    from pathlib import Path

    about = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    assert about["tool"]["setuptools"]["package-data"]["tinygrad_attn_models.demos"] == ["*/*"]


def test_from_python_by_name():
    model = load("demo:dates-bahdanau")
    assert model.translate(["22 November 2026"]) == ["2026-11-22"]
    assert (
        folder_of("runs/dates") == "runs/dates"
        and folder_of("demo:dates-bahdanau") == find_demo("dates-bahdanau").folder
    )


def test_an_unknown_name_lists_them(capsys):
    for arguments in (["microscope", "--demo", "dates-bahdanua"], ["translate", "demo:dates-bahdanua", "x"]):
        refused(capsys, arguments, "no demo 'dates-bahdanua'", "did you mean dates-bahdanau?", *DEMOS)


@pytest.mark.parametrize(
    ("words", "missing"), [([], "RUN, SOURCE"), (["runs/x"], "SOURCE")], ids=["nothing", "a run alone"]
)
def test_without_demo_run_and_source_are_required(capsys, words, missing):
    refused(capsys, ["microscope", *words], f"the following arguments are required: {missing}", "--demo")


@pytest.mark.parametrize(
    "words",
    [
        [],
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (["dates-bahdanau"], ["22 November 2026"], ["dates-bahdanau", "22 November 2026"])
        ),
    ],
)
def test_a_demo_makes_its_page(capsys, tmp_path, words):
    out = tmp_path / "page.html"
    assert main(["microscope", "--demo", *words, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    sentence = SENTENCE if SENTENCE in words else DEMOS[BAHDANAU].source
    assert sentence in said and out.stat().st_size < LARGEST_PAGE


def test_a_worksheet(capsys, tmp_path):
    out = tmp_path / "sheet.html"
    assert main(["microscope", "--demo", "--worksheet", str(out)]) == 0
    assert str(out) in capsys.readouterr().out and not (tmp_path / "microscope.html").exists()
    (opens,) = re.findall(r'<script type="application/json" id="opens">(.*?)</script>', out.read_text(encoding="utf-8"))
    assert json.loads(opens) == {"view": "tour", "sheet": "key"}


def test_the_page_in_the_repository():
    pages = list(PAGES.iterdir())
    assert pages and sum(page.stat().st_size for page in pages) < LARGEST_PAGE
    (page,) = pages
    content = page.read_text(encoding="utf-8")
    demo = DEMOS[page.stem]
    assert demo.source in content and "/home/" not in content


def test_evaluate_writes_nothing_into_the_package(capsys, monkeypatch):
    folder = find_demo(BAHDANAU).folder
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert main(["evaluate", f"demo:{BAHDANAU}", "--split", "valid"]) == 0
    assert "exact match" in capsys.readouterr().out.lower()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


SHORT = ["data.train_size=64", "data.valid_size=4", "data.test_size=4", "training.epochs=1"]


def test_training_goes_on_from_a_demo(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--from", f"demo:{BAHDANAU}", "--out", "run", "--set", *SHORT]) == 0
    assert f"begins with the weights of {find_demo(BAHDANAU).folder}" in capsys.readouterr().out
    begun, origin = load("run").module.state_dict(), load(f"demo:{BAHDANAU}").module.state_dict()
    assert begun.keys() == origin.keys()
    refused(capsys, ["train", "--from", "demo:dates-bahdanua"], "did you mean dates-bahdanau?")
    refused(capsys, ["train", "--resume", f"demo:{BAHDANAU}"], f"demo:{BAHDANAU} ships", f"--from demo:{BAHDANAU}")


def test_demos_are_compared(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", f"demo:{BAHDANAU}", "demo:dates-transformer", "--out", "both.svg"]) == 0
    said = capsys.readouterr().out
    assert BAHDANAU in said and "dates-transformer" in said and "BLEU" in said and (tmp_path / "both.svg").exists()
    refused(capsys, ["compare", "demo:stories-gpt"], "is a language model")
    refused(capsys, ["compare", "demo:dates-bahdanua"], "did you mean dates-bahdanau?")
