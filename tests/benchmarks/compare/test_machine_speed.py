from __future__ import annotations

from jisu.benchmarks.compare import machine_speed
from jisu.benchmarks.compare.machine_speed import measure_machine_speed


def test_twice_the_work_takes_longer(monkeypatch):
    fast = measure_machine_speed(1)
    monkeypatch.setattr(machine_speed, "_STEPS", 100 * machine_speed._STEPS)
    assert 0 < measure_machine_speed(1, trials=1) < fast
