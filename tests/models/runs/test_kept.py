"""Which steps a run keeps, and how they are found and read again."""

import numpy as np
import pytest
from tinygrad_attn_models.data import train_tokenizers
from tinygrad_attn_models.runs.config import load_config
from tinygrad_attn_models.runs.folder import Run, RunError
from tinygrad_attn_models.runs.kept import file_of, is_kept, kept_steps, read_kept, steps_to_keep


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (0, [0]), (1, [0, 1]), (2, [0, 1, 2]), (30, [0, 1, 3, 10, 30]), (942, [0, 1, 3, 10, 30, 100, 300, 942]),
        (10**6, [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6]),
    ],
)  # fmt: skip
def test_steps_are_spread_by_factors(last, expected):
    assert steps_to_keep(last) == expected
    if last <= 1000:
        assert [step for step in range(last) if is_kept(step)] == expected[:-1]


def test_what_is_no_kept_checkpoint_is_passed_over(tmp_path):
    for name in ("step-10.safetensors", "step-3.safetensors", "step-007.safetensors", "step-x.safetensors",
                 ".step-30.safetensors.0a1b2c3d.partial", "epoch-1.safetensors", "best.safetensors"):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
    assert kept_steps(tmp_path) == [3, 10]
    assert kept_steps(tmp_path / "nowhere") == []


def test_weights_come_back_and_a_damaged_file_is_named(tmp_path):
    pytest.importorskip("safetensors")
    config = load_config(None, {"data.train_size": 50, "model.hidden_size": 4, "model.embedding_size": 3})
    run = Run(tmp_path / "run", config, *train_tokenizers(config.data.load(), config.data))
    run.create()
    for step in (0, 3, 10):
        run.save(file_of(step), {"a": np.full(3, step, np.float32)})
    path = run.directory / file_of(3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = dict(read_kept(run))
    assert list(found) == [0, 3, 10]
    np.testing.assert_array_equal(found[10]["a"], [10.0, 10.0, 10.0])
    assert isinstance(found[3], RunError) and "step-3.safetensors" in str(found[3])
