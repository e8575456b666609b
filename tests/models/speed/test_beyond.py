"""plan of what does not fit into memory: exact where it can be, near where it is estimated; nothing large is made."""

import json
import tracemalloc

import pytest
from small_models import CASES, TEXT
from tinygrad_attn_models import memory
from tinygrad_attn_models.cli.main import main
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.speed import beyond, plan_text
from tinygrad_attn_models.speed.beyond import plan_beyond
from tinygrad_attn_models.speed.plan import PlanOptions, make_plan
from tinygrad_attn_models.speed.subject import ConfigSubject, new_run

SMALL = {"data.train_size": 40, "data.valid_size": 4, "data.test_size": 4, "training.batch_size": 8,
         "decoding.max_length": 12, "training.epochs": 3}  # fmt: skip
SETTINGS = [f"{key}={value}" for key, value in SMALL.items()]
QUICK = PlanOptions(seconds=0.0)
# Wide enough that their matrices are what takes time.
WIDE = {
    "bahdanau": {"model.embedding_size": 48, "model.hidden_size": 64},
    "transformer": {"model.d_model": 64, "model.heads": 4, "model.d_ff": 128, "model.encoder_layers": 2,
                    "model.decoder_layers": 2},
    "gpt": {"model.d_model": 64, "model.heads": 4, "model.layers": 4, "data.epoch_windows": 24},
}  # fmt: skip


def run_of(name):
    settings = TEXT if name == "gpt" else {f"model.{key}": value for key, value in CASES[name].items()}
    return new_run(load_config(None, {**SMALL, **settings, **WIDE[name]}))


@pytest.fixture
def little_memory(monkeypatch):
    """A machine that holds models of some thousand parameters."""
    for module in (memory, beyond):
        monkeypatch.setattr(module, "machine_memory", lambda: 2_000_000)
    monkeypatch.setattr(plan_text, "machine_memory", lambda: 2_000_000)


@pytest.mark.parametrize("name", WIDE)
def test_what_is_estimated_is_near_what_is_measured(name, monkeypatch):
    run = run_of(name)
    real = make_plan(ConfigSubject(name, run), QUICK)
    monkeypatch.setattr(beyond, "_TIMED", real.parameters // 6)
    found = plan_beyond(name, run, PlanOptions(ranks=[2], gigabits=[1.0], seconds=0.0))
    assert (found.parameters, found.parts) == (real.parameters, real.parts)
    for part in ("weights", "gradients", "moments"):
        assert getattr(found.memory, part) == getattr(real.memory, part)
    assert found.steps == real.steps and found.typical == real.typical and found.largest == real.largest
    assert found.forward == pytest.approx(real.forward, rel=0.15)
    assert found.backward == pytest.approx(real.backward, rel=0.15)
    assert 0.3 * real.memory.activations < found.memory.activations < 3.0 * real.memory.activations
    assert found.beyond.measured_parameters <= real.parameters // 6
    assert len(found.same_batch) == len(found.larger_batch) == 1


def test_a_batch_that_is_too_large_is_divided(little_memory):
    run = run_of("gpt")
    found = plan_beyond("gpt", run, QUICK)
    assert "training.batch_size=" in found.beyond.measured_on
    assert found.typical.rows == 8 and found.steps == 3


def test_the_command_says_that_it_does_not_fit_and_what_would(capsys):
    tracemalloc.start()
    arguments = ["plan", "copy-transformer", "--seconds", "0", "--set", *SETTINGS, "model.d_model=16384"]
    arguments += ["model.d_ff=65536", "model.heads=4"]
    assert main(arguments) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = capsys.readouterr().out
    assert peak < 1e9
    for words in ("This does not fit into the", "training.recompute=true", "on 64 machines", "about activations",
                  "Estimated, if there were the memory", "None of these fits: every process holds"):  # fmt: skip
        assert words in said, said
    assert main([*arguments, "--json", "--ranks", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] > 1e9 and found["memory"]["weights"] == 4 * found["parameters"]
    assert [way["fits"] for way in found["beyond"]["ways"]] == [False] * 3


def test_a_size_that_nothing_holds(capsys):
    assert main(["plan", "dates", "--seconds", "0", "--set", *SETTINGS, "model.hidden_size=1000000000"]) == 0
    assert "years" in capsys.readouterr().out
