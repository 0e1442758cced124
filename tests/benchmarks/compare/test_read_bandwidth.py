from __future__ import annotations

from jisu.benchmarks.compare.read_bandwidth import measure_read_bandwidth


def test_bandwidth_is_of_a_plausible_size():
    assert 1e8 < measure_read_bandwidth(1, size=1 << 24, trials=2) < 1e13
