from __future__ import annotations

import os
import time

from jisu.benchmarks.studies.bounded_runs import bounded_runs


def work(name: str) -> str:
    if name == "spins":
        while True:
            pass
    if name == "dies":
        os._exit(3)
    time.sleep(0.01)
    return name.upper()


def test_every_name_has_a_result_and_none_stops_the_others():
    results = bounded_runs(["a", "dies", "spins", "b"], work, lambda name, why: f"{name}: {why}", jobs=2, limit=1)
    assert sorted(results) == ["A", "B", "dies: Its process ended without a word.", "spins: It took longer than 1 s."]
