"""The run folder: what was written is read back, and what cannot be read is named."""

import json

import numpy as np
import pytest
from tinygrad_attn_models.data import train_tokenizers
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, LAST, Run, RunError
from tinygrad_attn_models.runs.versions import versions

from tinygrad_attn import Tensor
from tinygrad_attn.serialize import load_file, save_file


@pytest.fixture
def run(tmp_path):
    config = load_config(None, {"data.train_size": 50, "model.hidden_size": 4, "model.embedding_size": 3})
    made = Run(tmp_path / "run", config, *train_tokenizers(config.data.load(), config.data))
    made.create()
    made.describe()
    return made


def test_a_model_comes_back_as_it_was(run):
    model = run.build().eval()
    run.save(BEST, model.state_dict())
    again, restored = Run.load(run.directory)
    assert again.config == run.config
    assert load_config(run.directory / "config.toml") == run.config
    sentence = "Sunday, 22 November"
    assert again.source.encode(sentence) == run.source.encode(sentence)
    assert not restored.training
    inputs = Tensor(np.array([[4, 5, 6]])), Tensor(np.ones((1, 3), bool)), Tensor(np.array([[1, 4]]))
    np.testing.assert_array_equal(restored(*inputs).array, model(*inputs).array)


def test_progress_travels_with_a_checkpoint(run):
    run.save(LAST, {"a": np.arange(3)}, {"epoch": 2, "random": {"state": 2**100}, "loss": 0.1 + 0.2})
    _, arrays, progress = Run.open(run.directory, LAST)
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    assert progress == {"epoch": 2, "random": {"state": 2**100}, "loss": 0.1 + 0.2}


def test_a_folder_in_use_is_not_written_to(run):
    with pytest.raises(RunError, match="is not empty; name another folder with --out"):
        run.create()
    run.save(LAST, {"a": np.arange(3)})
    with pytest.raises(RunError, match=f"continue it with: python -m models train --resume {run.directory}"):
        run.create()


def test_describing_again_removes_leftovers_and_changes_nothing_else(run):
    (run.directory / ".last.safetensors.0a1b2c3d.partial").write_bytes(b"half")
    (run.directory / ".notes.of.mine").write_text("x", encoding="utf-8")
    (run.directory / "run.json").write_text("{}", encoding="utf-8")
    run.describe()
    assert {path.name for path in run.directory.iterdir()} == {"config.toml", "run.json", ".notes.of.mine"}
    assert (run.directory / "run.json").read_text(encoding="utf-8") == "{}"


def test_damaged_notes_of_a_run_are_named(run):
    (run.directory / "run.json").write_text('{"seed":', encoding="utf-8")
    with pytest.raises(RunError, match=r"run\.json is damaged: .*; remove it; .* --resume"):
        run.add_results({"loss": 1.0})


def test_best_weights_that_were_removed(run):
    run.save(LAST, {"a": np.arange(3)})
    run.write_text("log.csv", "epoch\n1\n")
    with pytest.raises(RunError, match="the file was removed"):
        Run.load(run.directory)


def test_a_folder_with_nothing_but_leftovers_is_free(run):
    folder = run.directory.with_name("other")
    folder.mkdir()
    (folder / ".last.safetensors.0a1b2c3d.partial").write_bytes(b"half")
    other = Run(folder, run.config, run.source, run.target)
    other.create()
    other.describe()
    assert {path.name for path in folder.iterdir()} == {"config.toml", "run.json"}


def test_a_run_stopped_before_its_first_checkpoint_does_not_block_its_folder(run):
    folder = run.directory.with_name("other")
    folder.mkdir()
    for name in (".lock", "clock.json", ".last.safetensors.0a1b2c3d.partial"):
        (folder / name).write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=f"stopped before its first checkpoint; begin it again, .* --out {folder}"):
        Run.open(folder, LAST)
    Run(folder, run.config, run.source, run.target).create()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_renamed_while_it_is_held_is_not_made_anew(run, replaced):
    with run.held():
        run.save(LAST, {"a": np.arange(3)})
        moved = run.directory.rename(run.directory.with_name("moved"))
        if replaced:
            run.directory.mkdir()
        with pytest.raises(RunError, match=r"was renamed or removed during training; .* --resume RUN"):
            run.save(LAST, {"a": np.arange(3)})
        assert (list(run.directory.iterdir()) if replaced else run.directory.exists()) in ([], False)
    with pytest.raises(RunError, match="was renamed or removed"):  # also what is written after training
        run.add_results({})
    assert (moved / LAST).exists()


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda array: array.astype(np.int32), "is int32, expected float32"),
        (lambda array: array.astype(np.float64), "is float64, expected float32"),
        (lambda array: np.where(array == array.max(), np.nan, array), "has 1 of .* values that are nan or infinite"),
        (lambda array: np.full_like(array, -np.inf), "has 60 of 60 values that are nan or infinite"),
    ],
)
def test_weights_that_no_model_can_have(run, spoilt, words):
    arrays = {name: tensor.array for name, tensor in run.build().state_dict().items()}
    run.save(BEST, {**arrays, "output.weight": spoilt(arrays["output.weight"])})
    with pytest.raises(RunError, match=f"output.weight {words}"):
        Run.load(run.directory)


def test_a_checkpoint_with_one_wrong_bit(run):
    run.save(BEST, run.build().state_dict())
    content = bytearray((run.directory / BEST).read_bytes())
    content[-100] ^= 4
    (run.directory / BEST).write_bytes(content)
    with pytest.raises(RunError, match=r"best\.safetensors is damaged .*its checksum does not match"):
        Run.load(run.directory)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be made"):
        Run(tmp_path / "file" / "run", None, None, None).create()


def test_what_is_missing_is_named(run, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for folder, message in (
        (tmp_path / "none", "there is no run folder"),
        (tmp_path / "file", "is a file, not a run folder"),
        (tmp_path / "empty", "is no run folder: it has no best.safetensors"),
    ):
        with pytest.raises(RunError, match=message):
            Run.load(folder)
    run.save(LAST, {"a": np.arange(3)})
    with pytest.raises(RunError, match="no epoch is finished yet; continue with: python -m models train --resume"):
        Run.load(run.directory)


def damage_nothing(path):
    """A valid safetensors file of another program."""
    save_file({"weight": np.zeros(2)}, path)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def fill_with_noise(path):
    path.write_bytes(bytes(range(256)))


def empty(path):
    path.write_bytes(b"")


def resize_the_model(path):
    arrays, about = load_file(path)
    run = json.loads(about["run"])
    run["config"]["model"]["hidden_size"] += 1
    save_file(arrays, path, {"run": json.dumps(run)})


def add_a_setting(path):
    arrays, about = load_file(path)
    run = json.loads(about["run"])
    run["config"]["model"]["wings"] = 2
    save_file(arrays, path, {"run": json.dumps(run)})


def spoil_the_metadata(path):
    save_file(load_file(path)[0], path, {"run": "{"})


def forget_the_tokenizer(path):
    arrays, about = load_file(path)
    run = json.loads(about["run"])
    del run["target_tokenizer"]
    save_file(arrays, path, {"run": json.dumps(run)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing, "is no checkpoint of this program: it lacks 'run'"),
        (cut_off, "is damaged"),
        (fill_with_noise, "is damaged"),
        (empty, "is damaged"),
        (resize_the_model, "do not fit the model"),
        (spoil_the_metadata, "is no checkpoint of this program: Expecting property name"),
        (forget_the_tokenizer, "it lacks 'target_tokenizer'"),
        (add_a_setting, "there is no setting 'model.wings'"),
    ],
)
def test_a_damaged_checkpoint(run, damage, message):
    run.save(BEST, run.build().state_dict())
    damage(run.directory / BEST)
    with pytest.raises(RunError, match=message) as caught:
        Run.load(run.directory)
    assert str(run.directory) in str(caught.value)


def test_versions_are_strings_that_say_something():
    found = versions()
    assert all(isinstance(version, str) for version in found.values())
    assert found["python"].startswith("3.")
