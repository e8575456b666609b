"""Training on several ranks is training on one: losses to rounding, in a fixed order bit by bit."""

import numpy as np
import pytest
from rank_jobs import CASES
from ranks import job, needs_mpi

pytestmark = [needs_mpi, pytest.mark.slow]
TOLERANCES = {"float32": 1e-6, "float64": 1e-12}


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_losses_and_norms_are_those_of_one_process(dtype, ranks):
    alone, together = job("trained", 1)[dtype], job("trained", ranks)[dtype]
    assert alone.keys() == CASES.keys()
    for name, steps in alone.items():
        losses, right, norms = zip(*steps, strict=True)
        found, found_right, found_norms = zip(*together[name], strict=True)
        np.testing.assert_allclose(found, losses, rtol=TOLERANCES[dtype], atol=0, err_msg=name)
        np.testing.assert_allclose(found_norms, norms, rtol=100 * TOLERANCES[dtype], atol=0, err_msg=name)
        assert found_right == right, name
        assert len(set(losses)) > 1, name


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("which", ["plain", "sampled"])
def test_the_same_number_of_ranks_gives_the_same_bits(which, ranks):
    found = job("trained", ranks)
    assert found[which] == found[f"{which} again"]


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("which", ["fixed order", "sampled, fixed order"])
def test_a_fixed_order_gives_the_same_bits_for_any_number_of_ranks(which, ranks):
    alone = job("trained", 1)
    assert job("trained", ranks)[which] == alone[which]
    assert alone["other shards"]["losses"] != alone["fixed order"]["losses"]


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_divided_moments_are_those_of_one_rank(ranks):
    whole, divided = (job("trained", ranks)[which] for which in ("plain", "divided moments"))
    assert divided["weights"] == whole["weights"]
    assert divided["state"] == whole["state"]
    assert divided["moments"] <= whole["moments"] / ranks + 16
