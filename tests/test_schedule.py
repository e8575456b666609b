"""Schedules against their formulas."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_attn import schedule


def test_noam_is_equation_3_of_the_paper():
    rate = schedule.noam(512, 4000)
    for n in (1, 17, 3999, 4000, 4001, 100_000):
        assert rate(n - 1) == pytest.approx(512**-0.5 * min(n**-0.5, n * 4000**-1.5), rel=1e-15)
    assert max(map(rate, range(8000))) == rate(3999) == pytest.approx(6.9877e-4, rel=1e-4)
    assert schedule.noam(512, 4000, factor=2.0)(9) == 2.0 * rate(9)


def test_inverse_sqrt_is_noam_by_its_largest_value():
    noam, inverse_sqrt = schedule.noam(64, 100), schedule.inverse_sqrt((64 * 100) ** -0.5, 100)
    for step in (0, 50, 99, 100, 5000):
        assert inverse_sqrt(step) == pytest.approx(noam(step), rel=1e-12)


def test_values():
    assert [schedule.constant(0.5)(step) for step in (0, 1, 10**6)] == [0.5] * 3
    assert [schedule.constant(0.5, warmup=2)(step) for step in range(4)] == [0.25, 0.5, 0.5, 0.5]
    assert [schedule.linear(1.0, 4)(step) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [schedule.linear(1.0, 4, warmup=2)(step) for step in range(5)] == [0.5, 1.0, 1.0, 0.5, 0.0]
    halves = [schedule.cosine(2.0, 4)(step) for step in range(6)]
    assert halves == pytest.approx([2.0, 1.0 + math.sqrt(0.5), 1.0, 1.0 - math.sqrt(0.5), 0.0, 0.0])


def test_decay_to_a_least_rate():
    assert [schedule.linear(1.0, 6, 2, min_lr=0.5)(step) for step in range(8)] == [
        0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.5,
    ]  # fmt: skip
    found = [schedule.cosine(2.0, 4, min_lr=1.0)(step) for step in range(6)]
    assert found == pytest.approx([2.0, 1.5 + math.sqrt(0.125), 1.5, 1.5 - math.sqrt(0.125), 1.0, 1.0])
    for falling in (schedule.linear, schedule.cosine):
        assert {falling(0.1, 10, min_lr=0.1)(step) for step in range(12)} == {0.1}
        for wrong in (0.2, -0.1, math.nan):
            with pytest.raises(ValueError, match=f"min_lr must be from 0 to lr, 0.1, got {wrong}"):
                falling(0.1, 10, min_lr=wrong)


@given(st.sampled_from(["constant", "linear", "cosine", "inverse_sqrt"]), st.integers(1, 50), st.integers(1, 50))
def test_rises_to_lr_at_the_end_of_warmup_and_never_rises_again(name, warmup, more):
    arguments = (warmup + more, warmup) if name in ("linear", "cosine") else (warmup,)
    rates = [getattr(schedule, name)(0.1, *arguments)(step) for step in range(warmup + more)]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup - 1] == max(rates) == 0.1
    assert rates[warmup - 1 :] == sorted(rates[warmup - 1 :], reverse=True)
    assert min(rates) > 0.0


def test_warmup_that_cannot_be():
    for falling in (schedule.linear, schedule.cosine):
        with pytest.raises(ValueError, match="warmup must be less than the number of steps, 10, got 10"):
            falling(0.1, 10, 10)
    with pytest.raises(ValueError, match="noam: warmup must be at least 1, got 0"):
        schedule.noam(512, 0)
    with pytest.raises(ValueError, match="inverse_sqrt: warmup must be at least 1, got 0"):
        schedule.inverse_sqrt(0.1, 0)


def test_a_registered_schedule_gets_what_it_names():
    assert schedule.scheduled("noam", d_model=8, warmup=3, factor=2.0, lr=9.0)(5) == schedule.noam(8, 3, 2.0)(5)
    assert schedule.scheduled("cosine", lr=0.5, steps=9, warmup=2, d_model=8)(5) == schedule.cosine(0.5, 9, 2)(5)
    with pytest.raises(KeyError, match="no learning rate schedule 'lineal'; did you mean linear"):
        schedule.scheduled("lineal", lr=1.0)


def test_which_schedules_need_a_warmup():
    assert [name for name in schedule.SCHEDULES if schedule.needs_warmup(name)] == ["inverse_sqrt", "noam"]
