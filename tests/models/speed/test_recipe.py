"""The recipe of tests/benchmarks/bench_gpt.py is the one that it describes."""

import math
from pathlib import Path

import numpy as np
import pytest
from from_file import module_from
from tinygrad_attn_models.gpt import GPT


@pytest.fixture(scope="module")
def recipe():
    return module_from(Path(__file__).parents[2] / "benchmarks" / "bench_gpt.py")


def test_the_learning_rate(recipe):
    for step in (0, 1, 99, 100, 101, 1050, 1999, 2000):
        cosine = 1e-4 + 0.5 * 9e-4 * (1 + math.cos(math.pi * (step - 100) / 1900))
        expected = 1e-3 * (step + 1) / 101 if step < 100 else cosine
        assert recipe.learning_rate(step) == pytest.approx(expected, rel=1e-12)


def test_the_first_weights(recipe):
    model, rng = GPT(7, layers=2, heads=2, d_model=8, context=5), np.random.default_rng(0)
    recipe.draw_weights(model)
    found = model.state_dict()

    def check(name, *shape, std=0.02):
        expected = (std * rng.standard_normal(shape)).astype(np.float32)
        np.testing.assert_array_equal(found.pop(name), expected, err_msg=name)

    check("embedding.weight", 7, 8)
    check("positions.weight", 5, 8)
    for block in ("blocks.0", "blocks.1"):
        check(f"{block}.self_attn.in_proj_weight", 24, 8)
        check(f"{block}.self_attn.out_proj.weight", 8, 8, std=0.02 / math.sqrt(4))
        check(f"{block}.feed_forward.linear1.weight", 32, 8)
        check(f"{block}.feed_forward.linear2.weight", 8, 32, std=0.02 / math.sqrt(4))
    assert len(found) == 5 and all((weight == 1.0).all() for weight in found.values())  # the norms


def test_the_text_and_its_batches(recipe, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(("ab\r\nc" * 20).encode())
    training, validation, vocabulary = recipe.read(path)
    assert (len(training), len(validation), vocabulary) == (90, 10, 5)
    assert training[:5].tolist() == [2, 3, 1, 0, 4]  # in order of their code: \n, \r, a, b, c
    place = np.random.default_rng(1).integers(90 - 6, size=4)[:, None] + np.arange(7)
    batch = next(recipe.batches(training, 4, 6))
    np.testing.assert_array_equal(batch.target_in.array, training[place[:, :-1]])
    np.testing.assert_array_equal(batch.target_out.array, training[place[:, 1:]])
    (batch,) = recipe.windows(validation, 2, 3)  # of nine places with a next one, the last three fill no batch
    assert batch.target_in.array.tolist() == [validation[:3].tolist(), validation[3:6].tolist()]
    assert batch.target_out.array.tolist() == [validation[1:4].tolist(), validation[4:7].tolist()]
