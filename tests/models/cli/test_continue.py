"""train --resume with new settings or moved data, train --from, evaluate --data: what is refused, what is said."""

import csv
import shutil

import pytest
from commands import TINY, refused
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import BEST, LAST, Run

SIZES = ["model.hidden_size=6", "model.embedding_size=4", "training.batch_size=8", "decoding.max_length=12"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with parallel text, every line of which is another, and a finished run on it, of one epoch."""
    folder = tmp_path_factory.mktemp("made")
    text = folder / "text"
    text.mkdir()
    for split, first, count in (("train", 0, 24), ("valid", 24, 4), ("test", 28, 4)):
        for language, digits in (("x", "ab"), ("y", "cd")):
            lines = ["".join(digits[(i >> bit) & 1] for bit in range(5)) for i in range(first, first + count)]
            (text / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = ["--config", "dates", "--data", str(text), "--source", "x", "--target", "y"]
    sizes = [*SIZES, "data.train_size=0", "data.valid_size=0", "data.test_size=0", "training.epochs=1"]
    assert main(["train", *data, "--out", str(folder / "run"), "--set", *sizes]) == 0
    shutil.copytree(folder, folder.with_name("kept"))
    return folder


@pytest.fixture
def text(made):
    """The text, as it was made: where it lies is among the settings of the run."""
    shutil.rmtree(made)
    shutil.copytree(made.with_name("kept"), made)
    return made / "text"


@pytest.fixture
def run(text):
    """The run."""
    return text.with_name("run")


def epochs(folder):
    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def reorder(path):
    path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")


def test_text_in_another_order_is_refused(run, text, capsys):
    for path in text.glob("train.*"):
        reorder(path)
    refused(
        capsys, ["train", "--resume", run], "the text is not the one that", "train has 24 pairs as then, but others",
        "--data FOLDER", f"train --from {run}",
    )  # fmt: skip


def test_text_with_other_lines_is_refused(run, text, capsys):
    for path in text.glob("valid.*"):
        path.write_text("a\n", encoding="utf-8")
    refused(capsys, ["train", "--resume", run], "valid has 1 pair, 4 then")


def test_an_older_run_learns_its_text(run, text, capsys):
    old, arrays, position = Run.open(run, LAST)
    old.data = {}
    old.save(LAST, arrays, position)
    assert main(["train", "--resume", str(run)]) == 0
    assert set(Run.open(run, LAST)[0].data) == {"train", "valid", "test"}


def test_text_that_has_moved(run, text, capsys):
    moved = text.rename(text.with_name("moved"))
    refused(capsys, ["train", "--resume", run], f"{text}: does not exist")
    assert main(["train", "--resume", str(run), "--data", str(moved), "--set", "training.epochs=2"]) == 0
    output = capsys.readouterr().out
    assert f"data.directory from {text} to {moved}" in output
    for checkpoint in (LAST, BEST):
        assert Run.open(run, checkpoint)[0].config == load_config(run / "config.toml")
    assert load_config(run / "config.toml").data.directory == str(moved)
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert capsys.readouterr().err == ""


def test_an_edited_config_is_named(run, capsys):
    path = run / "config.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("epochs = 1", "epochs = 7"), encoding="utf-8")
    refused(
        capsys, ["train", "--resume", run], "config.toml was edited: training.epochs (7 there, 1 in the run)",
        f"--resume {run} --set",
    )  # fmt: skip
    assert main(["translate", str(run), "ab"]) == 0
    assert "note: the run keeps its own settings" in capsys.readouterr().err
    path.write_text("epochs =", encoding="utf-8")
    refused(capsys, ["train", "--resume", run], "config.toml was edited", "is not a TOML file")
    path.unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert load_config(path) == Run.open(run, LAST)[0].config


def test_a_run_goes_on_after_its_end(run, capsys):
    whole = Run.open(run, LAST)[0].config
    assert main(["train", "--resume", str(run), "--set", "training.epochs=3", "training.learning_rate=0.001"]) == 0
    output = capsys.readouterr().out
    assert "changed: training.epochs from 1 to 3, training.learning_rate from 0.004 to 0.001; learning rate, " in output
    assert "schedule linear over 9 steps: 0.000667 in step 4, 0.000111 in the last" in output
    assert epochs(run) == ["1", "2", "3"]
    config = load_config(run / "config.toml")
    assert (config.training.epochs, whole.training.epochs) == (3, 1)
    assert Run.open(run, BEST)[0].config == config
    capsys.readouterr()
    assert main(["train", "--resume", str(run)]) == 0  # the new settings are those of the run


@pytest.mark.parametrize("stop", ["before its checkpoint", "after its checkpoint", "before config.toml"])
def test_a_run_with_new_settings_that_is_killed_at_once_can_be_continued(run, monkeypatch, stop):
    """Whichever of its files have the new settings."""
    saved = []

    def save(self, checkpoint, *arguments, _save=Run.save):
        if stop == "before its checkpoint":
            raise KeyboardInterrupt
        _save(self, checkpoint, *arguments)
        saved.append(checkpoint)
        if stop == "after its checkpoint":
            raise KeyboardInterrupt

    def write_text(self, name, content, _write=Run.write_text):
        if name == "config.toml":
            raise KeyboardInterrupt
        _write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save)
        patch.setattr(Run, "write_text", write_text)
        assert main(["train", "--resume", str(run), "--set", "training.epochs=2"]) == 130
    assert main(["train", "--resume", str(run)]) == 0
    expected = ["1"] if stop == "before its checkpoint" else ["1", "2"]
    assert epochs(run) == expected
    for checkpoint in (LAST, BEST):
        assert Run.open(run, checkpoint)[0].config == load_config(run / "config.toml")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.hidden_size=7"], ["model.hidden_size cannot change when", "train --from"]),
        (["training.batch_size=4"], ["training.batch_size cannot change"]),
        (["data.lowercase=true"], ["data.lowercase cannot change"]),
        (["training.weight_decay=0.1"], ["training.weight_decay cannot change from 0 to 0.1 when", "train --from"]),
        (["training.max_steps=2"], ["1 epoch and 3 steps are done", "raise training.epochs"]),
        (["training.epoch=2"], ["did you mean training.epochs?"]),
    ],
)
def test_settings_that_a_continuation_cannot_have(run, capsys, settings, words):
    refused(capsys, ["train", "--resume", run, "--set", *settings], *words)


def test_max_steps_ends_training_within_an_epoch(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--out", str(run), "--set", *TINY, "training.batch_size=16", "training.max_steps=3"]) == 0
    output = capsys.readouterr().out
    assert "1 epoch, 3 steps" in output
    assert "step 3/3" in output
    assert Run.open(run, LAST)[2]["step"] == 3
    changes = ["training.max_steps=0", "training.epochs=2"]
    assert main(["train", "--resume", str(run), "--set", *changes]) == 0
    assert Run.open(run, LAST)[2]["step"] == 8  # an epoch of 5 more


def test_one_of_each_is_in_the_singular(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "run"), "--set", *TINY, "data.train_size=8"]) == 0
    assert "; 1 epoch, 1 step\n" in capsys.readouterr().out


def test_a_new_run_from_the_weights_of_another(run, text, tmp_path, capsys):
    other = shutil.copytree(text, tmp_path / "other")
    reorder(other / "train.x")
    new = tmp_path / "new"
    refused(capsys, ["train", "--from", run, "--config", "dates"], "--from takes the settings", "leave out --config")
    refused(capsys, ["train", "--from", run, "--out", new, "--set", "data.lowercase=true"], "leave out data.lowercase")
    refused(
        capsys,
        ["train", "--from", run, "--out", new, "--set", "model.hidden_size=5"],
        "do not fit a model with model.hidden_size",
        "--from",
    )
    assert not new.exists()
    options = ["--data", str(other), "--out", str(new), "--set", "training.epochs=1", "training.learning_rate=1e-9"]
    assert main(["train", "--from", str(run), *options]) == 0
    assert f"begins with the weights of {run}; learning rate" in capsys.readouterr().out
    first, second = Run.open(run, BEST)[1], Run.open(new, BEST)[1]
    for name, array in first.items():
        assert abs(array - second[name]).max() < 1e-6, name
    assert epochs(new) == ["1"]


def test_dates_lend_their_weights_to_text_of_ones_own(trained, text, tmp_path, capsys):
    """The sizes of the generated data are not those of the files."""
    options = ["--data", str(text), "--source", "x", "--target", "y", "--out", str(tmp_path / "new")]
    assert main(["train", "--from", str(trained), *options]) == 0
    assert "x to y: train 24, valid 4, test 4" in capsys.readouterr().out


def test_evaluating_text_that_has_changed_or_is_other(run, text, tmp_path, capsys):
    assert main(["evaluate", str(run)]) == 0
    assert "note:" not in capsys.readouterr().err
    moved = text.rename(tmp_path / "moved")
    refused(capsys, ["evaluate", run], f"{text}: does not exist")
    assert main(["evaluate", str(run), "--data", str(moved)]) == 0
    assert "bleu_by_length_test.png" in capsys.readouterr().out
    for path in moved.glob("[tv][ra][al]i*"):  # train and valid: not needed
        path.unlink()
    reorder(moved / "test.x")
    assert main(["evaluate", str(run), "--data", str(moved)]) == 0
    assert "bleu_by_length_test-moved.png" in capsys.readouterr().out
    moved.rename(text)
    for split in ("train", "valid"):
        for language in "xy":
            (text / f"{split}.{language}").write_text("a\n", encoding="utf-8")
    assert main(["evaluate", str(run)]) == 0
    assert f"note: the pairs of test are not those that {run} began with" in capsys.readouterr().err
    refused(capsys, ["evaluate", run, "--source", "x"], "give --data too")


def test_the_languages_of_other_text_must_be_known(trained, text, capsys):
    refused(capsys, ["evaluate", trained, "--data", text], "--data needs --source and --target")
    assert main(["evaluate", str(trained), "--data", str(text), "--source", "x", "--target", "y"]) == 0


def test_comparing_runs_of_other_text(run, text, tmp_path, capsys):
    assert main(["evaluate", str(run)]) == 0
    for path in text.glob("*.x"):
        reorder(path)
    second = tmp_path / "second"
    assert main(["train", "--from", str(run), "--out", str(second), "--set", "training.epochs=1"]) == 0
    assert main(["evaluate", str(second)]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(second), "--out", str(tmp_path / "c.png")]) == 0
    output = capsys.readouterr().out
    assert "Note: the runs were not measured on the same text" in output
    assert "Note: the runs were not trained on the same text" in output


def test_evaluate_prints_before_it_saves(run, capsys):
    (run / "evaluation.json").mkdir()  # as good as a folder that cannot be written to, for root too
    assert main(["evaluate", str(run)]) == 2
    found = capsys.readouterr()
    assert found.out.startswith("test set")
    assert found.err.startswith(f"error: {run / 'evaluation.json'}: ")
