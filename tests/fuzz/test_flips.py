"""A share of the flipped bits of `flips`."""

from pathlib import Path

import pytest

pytest.importorskip("sacrebleu", reason="the models extra is not installed")
pytest.importorskip("matplotlib", reason="the models extra is not installed")

import flips


@pytest.mark.slow
def test_flipped_bits_are_caught(tmp_path: Path) -> None:
    lines: list[str] = []
    assert flips.run(tmp_path, 12, 1, lines.append) == 0, lines
    assert {"best.safetensors", "last.safetensors", "epoch-3.safetensors", "clock.json", "config.toml"} <= {
        line.partition(":")[0] for line in lines
    }


def test_a_flip_that_is_missed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch\n1\n", encoding="utf-8")
    monkeypatch.setitem(flips.READERS, "log.csv", Path.read_bytes)
    assert flips.outcome(path, b"epoch\n1\n") == "same"
    assert flips.outcome(path, b"epoch\n2\n") == "MISSED"
