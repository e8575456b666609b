"""Several machines: a ring's sums, what overlaps with the backward pass, and a simulation that counts every message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinygrad_attn_models.speed.ranks import Network, Share, on_ranks


def test_a_ring_by_hand():
    # Four machines sum 1 GB at 8 Gbit/s, a GB a second: six messages of a quarter of it.
    assert Network(8.0, latency=0.0).allreduce(1e9, 4) == pytest.approx(1.5)
    assert Network(8.0, latency=0.01).allreduce(1e9, 4) == pytest.approx(1.56)
    assert Network(1.0).allreduce(1e9, 1) == 0.0


def simulated(backward, buckets, seconds):
    """When the last sum ends, after the end of the backward pass."""
    free = 0.0
    for number in range(1, buckets + 1):
        free = max(free, backward * number / buckets) + seconds
    return free - backward


@given(
    st.floats(0.0, 3.0), st.integers(1, 30), st.integers(2, 600), st.floats(0.1, 200.0), st.integers(1, 10**9),
)  # fmt: skip
def test_what_is_waited_for_is_what_a_simulation_waits_for(backward, buckets, ranks, gigabits, gradients):
    network = Network(gigabits)
    size = -(-gradients // buckets)
    found = on_ranks(Share(backward + 0.5, backward, gradients), ranks, network, bucket=size)
    number = -(-gradients // size)
    expected = simulated(backward, number, network.allreduce(gradients / number, ranks))
    assert found.communication == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert found.seconds == pytest.approx(backward + 0.5 + expected)


def test_one_machine_waits_for_nothing():
    assert on_ranks(Share(1.0, 0.6, 10**9), 1, Network(0.001)).seconds == 1.0


def test_a_faster_network_is_never_slower_and_more_machines_wait_no_less():
    share = Share(0.3, 0.2, 40 << 20)
    times = [on_ranks(share, 8, Network(gigabits)).seconds for gigabits in (1, 10, 100)]
    assert times == sorted(times, reverse=True) and times[-1] > 0.3
    waits = [on_ranks(share, ranks, Network(1)).communication for ranks in (2, 8, 64, 512)]
    assert waits == sorted(waits)
