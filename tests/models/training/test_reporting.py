"""What training says at its end: every command that it suggests works."""

import re
import shlex

import pytest
from tinygrad_attn_models.cli.parser import make_parser
from tinygrad_attn_models.evaluation.metrics import Figures, TeacherForced
from tinygrad_attn_models.registry import MODELS
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run
from tinygrad_attn_models.training.reporting import closing_message


def suggested(message):
    """The commands of a message, as a shell splits them, without the name of the program."""
    return [
        shlex.split(line.removeprefix("python -m models")) for line in re.findall(r"^    (.*)$", message, re.MULTILINE)
    ]


@pytest.mark.parametrize("exact_match", [0.5, 1.0])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_command_that_is_suggested_works(tmp_path, name, exact_match):
    config = load_config(None, {"model.name": name})
    run = Run(tmp_path / "it's my run", config, None, None)
    run.create()
    run.write_text("config.toml", config.to_toml())
    figures = Figures(10, TeacherForced(0.1, 0.9, 100), exact_match)
    translate, gradcheck, train = suggested(closing_message(run, figures, 1.0, [("-5 o'clock", "05:00")]))
    parser = make_parser()
    asked = parser.parse_args(translate)
    assert (asked.run, asked.texts) == (str(run.directory), ["-5 o'clock"])
    assert parser.parse_args(gradcheck).ops == ["softmax", "tanh", "matmul"]
    again = parser.parse_args(train)
    changed = load_config(again.config, again.set)
    assert changed.model.name == name and changed != config
    assert (changed.model != config.model) == (exact_match == 1.0)
