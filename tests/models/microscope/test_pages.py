"""A small share of `tests/fuzz/pages.py`: no badge is red on a right gradient, every mistake is, every NaN is named."""

import numpy as np
import pytest
from bits import compiled_only
from from_file import FUZZ, module_from

pytestmark = [compiled_only, pytest.mark.slow]


@pytest.fixture(scope="module")
def pages():
    return module_from(FUZZ / "pages.py")


def test_a_share_of_the_pages(pages, tmp_path):
    kinds = [("bahdanau", "dates"), ("transformer", "reverse")]
    models = {(kind, task): pages.trained(kind, task, tmp_path) for kind, task in kinds}
    tally, rng = pages.Tally(), np.random.default_rng(1)
    pages.look_broken(tally, models)
    pages.look_spoilt(tally, models, 6, rng)
    pages.look_scaled(tally, models, 6, rng)
    pages.look(tally, models, 6, rng)
    assert tally.wrong == []
    assert tally.counts["trained, good"] == tally.counts["scaled, good"] == 6
    assert tally.counts["broken, bad"] == 4 and tally.counts["spoilt, bad"] == 0
