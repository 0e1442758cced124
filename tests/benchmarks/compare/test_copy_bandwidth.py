from __future__ import annotations

import torch

from jisu.benchmarks.compare.copy_bandwidth import measure_copy_bandwidth


def test_a_processor_copies_too():
    assert 1e8 < measure_copy_bandwidth(torch.device("cpu"), size=1 << 24, trials=3) < 1e13
