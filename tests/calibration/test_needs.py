from __future__ import annotations

from jisu.calibration.model.layer_walk import IN_MEMORY
from jisu.calibration.needs import LayerGroup, sequential_needs


def test_needs_by_hand() -> None:
    actual = sequential_needs([LayerGroup(2, 4), LayerGroup(3, 2)], layers=10, windows=5, length=2, width=4)

    assert actual.disk_bytes == 0
    assert actual.memory_bytes == 4 * 10 * 4 + 20 * 16 + 21 * 8  # states, Hessians and weights of the first group
    passes = 2 * 10 * (0 + 8 + 14)  # before the first, before the second, the whole layer
    statistics = 2 * 10 * (16 + 4)
    solving = 4 / 3 * (64 + 8) + 2 * 16 + 3 * 4
    searching = 20 * 2 * (2 * 16 + 3 * 4)
    assert abs(actual.operations - 10 * (passes + statistics + solving + searching)) < 1e-6
    twice = sequential_needs([LayerGroup(2, 4), LayerGroup(3, 2)], layers=10, windows=5, length=2, width=4, formats=2)
    assert abs(twice.operations - actual.operations - 10 * solving) < 1e-6
    assert actual.seconds(1000) == actual.operations / 1000


def test_a_model_of_seven_billion_fits_beside_its_weights() -> None:
    groups = [LayerGroup(3 * 4096, 4096), LayerGroup(4096, 4096), LayerGroup(2 * 11008, 4096), LayerGroup(4096, 11008)]
    actual = sequential_needs(groups, layers=32, windows=128, length=512, width=4096)

    assert actual.memory_bytes < 8 << 30
    assert actual.disk_bytes == 128 * 512 * 4096 * 4 > IN_MEMORY


def test_experts_share_the_tokens_of_one_pass_and_each_is_solved() -> None:
    alike = LayerGroup(rows=2, features=4, copies=8, share=0.25)
    actual = sequential_needs([alike], layers=1, windows=5, length=2, width=4)

    assert actual.memory_bytes == 4 * 10 * 4 + 20 * 16 + 21 * 8 + 7 * 4 * 16  # the sums of seven more
    statistics, layer = 2 * 10 * 2 * 16, 2 * 10 * 16  # two of eight for each token
    solving = 8 * (4 / 3 * 64 + 2 * 16)
    searching = 8 * 20 * 2 * 2 * 16
    assert abs(actual.operations - (statistics + layer + solving + searching)) < 1e-6
