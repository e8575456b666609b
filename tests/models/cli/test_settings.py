"""The command settings: every setting of every model and task."""

from commands import refused
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.runs.config import CHOSEN_BY, SECTIONS, section_classes


def lines_of(output, section):
    """The names of the settings printed below a heading."""
    (block,) = [block for block in output.split("\n\n") if block.startswith(f"[{section}] ")]
    return [line.split()[0] for line in block.splitlines()[1:]]


def test_every_setting_is_printed_once_for_each_model_and_task(capsys):
    assert main(["settings"]) == 0
    output = capsys.readouterr().out
    for section in SECTIONS:
        for name, settings in section_classes(section).items():
            printed = lines_of(output, section)
            if name:
                choice = f"{section}.{CHOSEN_BY[section]}"
                printed += [choice, *lines_of(output, f"{choice}={name}")]
            assert sorted(printed) == sorted(setting.name for setting in settings.describe()), name
    assert "training.beta1 float 0.9 Adam's β₁, the decay rate of the mean of gradients" in " ".join(output.split())


def test_the_settings_of_one_section_model_or_task(capsys):
    assert main(["settings", "transformer"]) == 0
    output = capsys.readouterr().out
    assert "model.dropout" in output and "model.heads" in output
    assert "model.score" not in output and "training." not in output
    assert main(["settings", "decoding"]) == 0
    assert capsys.readouterr().out.startswith("[decoding]  How a trained model translates.\n  decoding.batch_size ")
    refused(capsys, ["settings", "lung"], "'lung'", "did you mean luong?")
    refused(capsys, ["settings", "zzz"], "there are data, copy, dates")
