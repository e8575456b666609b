"""What training says at its end: every command that it suggests works."""

import re
import shlex
from types import SimpleNamespace

import pytest
from tinygrad_attn_models.cli.parser import make_parser
from tinygrad_attn_models.evaluation.metrics import Figures, TeacherForced
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.advice import advise
from tinygrad_attn_models.training.goal import Goal
from tinygrad_attn_models.training.reporting import closing_message, headline
from translators import TRANSLATORS


def suggested(message):
    """The commands of a message, as a shell splits them, without the name of the program."""
    return [
        shlex.split(line.removeprefix("python -m models")) for line in re.findall(r"^    (.*)$", message, re.MULTILINE)
    ]


def row(train, valid):
    return {"train_loss": train, "valid_loss": valid}


@pytest.mark.parametrize("exact_match", [0.5, 1.0])
@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_command_that_is_suggested_works(tmp_path, name, exact_match):
    config = load_config(None, {"model.name": name})
    run = Run(tmp_path / "it's my run", config, None, None)
    run.create()
    run.write_text("config.toml", config.to_toml())
    figures = Figures(10, TeacherForced(0.1, 0.9, 100), exact_match, 50.0)
    advice = advise(config, figures, [row(0.1, 0.2)], 0)
    translate, gradcheck, train = suggested(closing_message(run, figures, 1.0, [("-5 o'clock", "05:00")], advice))
    parser = make_parser()
    asked = parser.parse_args(translate)
    assert (asked.run, asked.texts) == (str(run.directory), ["-5 o'clock"])
    assert parser.parse_args(gradcheck).ops == ["softmax", "tanh", "matmul"]
    again = parser.parse_args(train)
    changed = load_config(again.config, again.set)
    assert changed.model.name == name and changed != config
    assert (changed.model != config.model) == (exact_match == 1.0)


BPE = {"data.tokenizer": "bpe", "data.vocabulary_size": 2200}
TEXT = {"data.kind": "parallel", "data.directory": "d", "data.source": "a", "data.target": "b"}


@pytest.mark.parametrize(
    ("history", "best", "settings", "suggestion"),
    [
        ([row(3.0 - i / 10, 3.1 - i / 20) for i in range(10)], 9, {}, "training.epochs=12"),
        ([row(3.0 - i / 10, 3.1) for i in range(20)], 12, {}, "model.dropout=0.1"),  # by heart: 2 below 1.1
        ([row(3.0 - i / 10, 3.1) for i in range(20)], 12, {"model.dropout": 0.25}, "model.dropout=0.3"),
        ([row(3.0 - i / 10, 3.1) for i in range(20)], 19, {"model.dropout": 0.3}, "training.epochs=12"),
        ([row(3.0 - i / 10, 3.1) for i in range(20)], 12, {"model.dropout": 0.3}, "training.average=5"),
        ([row(1.84, 2.98)], 0, BPE | {"model.dropout": 0.3}, "data.vocabulary_size=1100"),
        ([row(1.84, 2.98)], 0, BPE | {"data.vocabulary_size": 700}, "model.dropout=0.1"),
        ([row(3.0, 3.1) for i in range(20)], 3, {}, "training.average=5"),
        ([row(3.0, 3.1)], 0, {}, "training.epochs=12"),
        ([row(3.0, 3.1)], 0, {"training.max_steps": 9}, "training.max_steps=0"),
        ([row(3.0, 3.1)] * 6, 5, {"training.max_steps": 9}, "training.epochs=12 training.max_steps=0"),
    ],
)
@pytest.mark.parametrize("name", TRANSLATORS)
def test_the_next_step_for_text(tmp_path, name, history, best, settings, suggestion):
    config = load_config(None, {**TEXT, "model.name": name, **settings})
    run = Run(tmp_path / "run", config, None, None)
    run.create()
    run.write_text("config.toml", config.to_toml())
    figures = Figures(10, TeacherForced(3.0, 0.4, 100), 0.0, 12.345)
    advice = advise(config, figures, history, best)
    assert advice.setting == suggestion
    assert ("may help" in advice.reason) == suggestion.startswith("model.dropout")  # it does not on every text
    message = closing_message(run, figures, 1.0, [("x", "y")], advice)
    assert "BLEU: 12.35 on 10 unseen test pairs" in message or "BLEU: 12.34" in message
    assert "gradcheck" not in message
    _, evaluate, train = suggested(message)
    assert make_parser().parse_args(evaluate).run == str(run.directory)
    assert load_config(run.directory / "config.toml", make_parser().parse_args(train).set) != config


@pytest.mark.parametrize(
    ("settings", "shown"), [({}, "exact match 25.00 %"), (TEXT, "BLEU 12.50, exact match 25.00 %")]
)
def test_an_epoch_shows_what_counts_in_the_task(settings, shown):
    figures = {"valid_accuracy": 0.5, "valid_exact_match": 0.25, "valid_bleu": 12.5, "seconds": 61.0}
    found = {"epoch": 1, "tokens_per_second": 10, **row(1.0, 2.0), **figures}
    config = load_config(None, {**settings, "training.epochs": 3})
    goal = SimpleNamespace(run=Run("run", config, None, None), headline=lambda row: headline(config.pairs, row))
    line = Goal.describe_epoch(goal, found)
    assert line.startswith("epoch 1/3, 1:01: ") and shown in line and ("BLEU" in line) == bool(settings)


def test_after_a_sample_the_whole_text_is_suggested(tmp_path):
    config = load_config(None, {**TEXT, "data.train_size": 2000, "training.epochs": 3, "model.name": "luong"})
    run = Run(tmp_path / "run", config, None, None)
    run.create()
    figures = Figures(10, TeacherForced(3.0, 0.4, 100), 0.0, 1.0)
    advice = advise(config, figures, [row(5.0, 5.1)], 0)
    *_, train = suggested(closing_message(run, figures, 1.0, [("x", "y")], advice))
    again = make_parser().parse_args(train)
    assert (again.data, again.source, again.target, again.set) == ("d", "a", "b", ["model.name=luong"])
    assert not again.quick and again.config is None
