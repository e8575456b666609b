"""Training on a text: figures, samples and last words."""

import math
import shlex

import numpy as np
import pytest
from small_models import STORIES, small_model
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.cli.parser import make_parser
from tinygrad_attn_models.console.errors import UserError
from tinygrad_attn_models.console.progress import PlainProgress
from tinygrad_attn_models.data import train_tokenizers
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.trainer import Trainer

from tinygrad_attn import Tensor
from tinygrad_attn.nn import functional as F

TINY = small_model("gpt") | STORIES | {
    "data.epoch_windows": 8, "training.epochs": 2, "training.batch_size": 4, "training.learning_rate": 0.01,
    "training.warmup": 0,
}  # fmt: skip


def make(folder, **changes):
    config = load_config(None, {**TINY, **{name.replace("__", "."): value for name, value in changes.items()}})
    text = config.data.load()
    run = Run(folder, config, *train_tokenizers(text, config.data))
    run.create()
    return Trainer(run, text, PlainProgress()), text


def test_the_validation_loss_is_that_of_every_symbol(tmp_path):
    trainer, text = make(tmp_path / "run")
    row = trainer.validation.row(trainer.model)
    ids = np.array(trainer.run.target.encode(text.valid))
    losses = []
    for first in range(0, len(ids) - 1, 16):
        window = ids[first : first + 17]
        losses.append(
            F.cross_entropy(trainer.model(Tensor(window[None, :-1]))[0], Tensor(window[1:]), reduction="none").array
        )
    every = np.concatenate(losses)
    assert len(every) == len(ids) - 1
    assert row["valid_loss"] == pytest.approx(every.mean(), rel=1e-5)
    assert row["valid_bits_per_character"] == pytest.approx(every.mean() / math.log(2), rel=1e-5)
    assert row["valid_perplexity_teacher_forced"] == pytest.approx(math.exp(every.mean()), rel=1e-5)


def test_bits_are_of_characters_whatever_the_symbols(tmp_path):
    trainer, text = make(tmp_path / "run", data__tokenizer="words")
    ids = trainer.run.target.encode(text.valid)
    bits = trainer.validation.bits_per_character(1.0)
    assert bits == pytest.approx(1 / math.log(2) * (len(ids) - 1) / (len(text.valid) - 1))


def test_training_continues_with_the_same_bits(tmp_path):
    whole, _ = make(tmp_path / "whole")
    assert whole.train()
    stopped, _ = make(tmp_path / "stopped")
    step = stopped.step

    def stop_after_three(batch):
        stopped.interruption.requested = stopped.position.step == 2
        return step(batch)

    stopped.step = stop_after_three
    assert not stopped.train()
    run, arrays, position = Run.open(tmp_path / "stopped", "last.safetensors")
    again = Trainer(run, run.config.data.load(), PlainProgress())
    again.resume(arrays, position)
    assert again.train()
    for name, tensor in whole.model.state_dict().items():
        np.testing.assert_array_equal(tensor.array, again.model.state_dict()[name].array, err_msg=name)


def test_the_command(tmp_path, capsys, drawn):
    folder = tmp_path / "it's my run"
    settings = [f"{name}={value}" for name, value in TINY.items()]
    assert main(["train", "--config", "gpt", "--out", str(folder), "--set", *settings]) == 0
    out = capsys.readouterr().out
    assert "bits per character" in out and "\n    " in out
    _, closing = out.rsplit("Loss: ", 1)
    assert "of unseen test text" in closing and "lines that it wrote" in closing
    suggested = [shlex.split(line) for line in closing.splitlines() if line.startswith("    python")]
    assert [words[3] for words in suggested] == ["generate", "score", "train"]
    assert load_config(suggested[-1][5], suggested[-1][7:]).training.epochs == 4
    for words in suggested[:2]:
        assert main(words[3:]) == 0
    assert make_parser().parse_args(suggested[-1][3:]).set == ["training.epochs=4"]
    assert {"best.safetensors", "learning_curve.png", "log.csv"} <= {path.name for path in folder.iterdir()}


def test_a_file_without_a_config_is_for_a_gpt(tmp_path, capsys):
    path = tmp_path / "poem.txt"
    path.write_text("a rose is a rose is a rose\n" * 40, encoding="utf-8")
    small = [f"{name}={value}" for name, value in TINY.items() if name.startswith(("model", "training"))]
    assert main(["train", "--data", str(path), "--out", str(tmp_path / "run"), "--set", *small]) == 0
    out = capsys.readouterr().out
    assert "poem: train 972, valid 108 characters\ngpt, " in out and "of validation text" in out
    assert "right" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "missing.txt"], "there is no file or folder missing.txt"),
        (["--data", __file__, "--source", "ko"], "is one text; leave out --source and --target"),
        (["--config", "gpt", "--set", "training.early_stopping_metric=bleu"], "a text has 'loss'"),
        (["--config", "gpt", "--set", "model.context=90000", "data.train_size=9"], "the training text has"),
    ],
)
def test_what_cannot_be(tmp_path, capsys, words, message):
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0


def test_pairs_are_not_for_language_models(tmp_path, capsys):
    trainer, _ = make(tmp_path / "run")
    assert trainer.train()
    for words in (["translate", "RUN", "a"], ["evaluate", "RUN"]):
        assert main([str(tmp_path / "run") if word == "RUN" else word for word in words]) == 2
        assert "is a language model (gpt), which continues texts and translates none" in capsys.readouterr().err
    with pytest.raises(UserError, match="continues texts"):
        main_model(tmp_path / "run").translate(["a"])


def main_model(folder):
    from tinygrad_attn_models import load

    return load(folder)


def of_file(folder, text, **changes):
    """A trainer on a text from a file."""
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    settings = {name: value for name, value in TINY.items() if not name.startswith("data.")}
    config = load_config(None, {**settings, "data.kind": "text", "data.file": str(path),
                                **{name.replace("__", "."): value for name, value in changes.items()}})  # fmt: skip
    found = config.data.load()
    run = Run(folder / "run", config, *train_tokenizers(found, config.data))
    run.create()
    return Trainer(run, found, PlainProgress())


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("a rose is a rose\n\n\n\n" * 50, "a rose is"),  # the middle line is blank
        ("rose\n" * 240, "rose rose rose"),  # a single word has no symbol that could be scored
        (("a-" * 60 + "\n") * 20, ("a-" * 20)),
    ],
)
def test_samples_and_last_words_have_a_prompt_whatever_the_lines(tmp_path, text, beginning):
    trainer = of_file(tmp_path, text, data__tokenizer="words", training__epochs=1, data__epoch_windows=4)
    assert trainer.goal.prompt == beginning
    assert trainer.train()
    suggested = [shlex.split(line) for line in trainer.finish().splitlines() if line.startswith("    python")]
    for words in suggested[:2]:
        assert words[-1] == beginning
        assert main(words[3:]) == 0


@pytest.mark.parametrize(
    ("changes", "rows", "suggestion"),
    [
        ({}, [(3.0, 3.05)], ["training.epochs=4"]),
        ({"training__max_steps": 9}, [(3.0, 3.05)], ["training.max_steps=0"]),
        ({"training__max_steps": 9}, [(3.1, 3.2), (3.0, 3.05)], ["training.epochs=4", "training.max_steps=0"]),
        ({"training__max_steps": 9}, [(3.0, 3.2)], ["model.dropout=0.1"]),
        ({"model__dropout": 0.25}, [(3.0, 3.2)], ["model.dropout=0.3"]),
        ({"model__dropout": 0.3}, [(3.0, 3.2)], ["training.epochs=4"]),
        ({"model__dropout": 0.3}, [(3.0, 3.2), (2.0, 3.3)], ["training.average=5"]),
    ],
)
def test_the_next_step_is_another_run(tmp_path, changes, rows, suggestion):
    trainer, _ = make(tmp_path / "run", **changes)
    history = [{"train_loss": train, "valid_loss": valid} for train, valid in rows]
    *_, last = trainer.goal._next_steps(history)
    words = shlex.split(last)
    assert words[words.index("--set") + 1 :] == suggestion
    assert make_parser().parse_args(words[3:]).set == suggestion
