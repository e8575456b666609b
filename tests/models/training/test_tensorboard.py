"""TensorBoard: the event files hold the figures of log.csv, at their steps."""

import builtins
import csv

import pytest
from tinygrad_attn_models.console.errors import UserError


def events(path):
    """The (name, step, value) of each scalar in an event file: records of a length, its checksum, data, a checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    content, found = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        content = content[12 + length + 4 :]
    return found


def test_the_events_are_the_log(make_trainer):
    pytest.importorskip("tensorboardX")
    trainer = make_trainer(training__epochs=2, training__tensorboard=True)
    assert trainer.train()
    found = [event for path in (trainer.run.directory / "tensorboard").iterdir() for event in events(path)]
    values = {(name, step): value for name, step, value in found}
    assert len(values) == len(found)
    with (trainer.run.directory / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(found) == 2 * (len(rows[0]) - 2)  # all columns but epoch and step
    for row in rows:
        for name in ("train_loss", "valid_loss", "valid_bleu", "valid_exact_match"):
            assert values[name.replace("_", "/", 1), int(row["step"])] == pytest.approx(float(row[name]), rel=1e-6)
        assert values["time/tokens_per_second", int(row["step"])] == pytest.approx(float(row["tokens_per_second"]))


def test_without_the_package_it_is_refused_before_training(make_trainer, monkeypatch):
    load = builtins.__import__

    def missing(name, *rest, **options):
        if name == "tensorboardX":
            raise ImportError(name)
        return load(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r'training.tensorboard needs .* pip install "tinygrad-attn\[tensorboard\]"'):
        make_trainer(training__tensorboard=True)
    make_trainer("without")
