from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jisu.exporter.estimates.cost_estimate import _opened_share
from jisu.exporter.precision.precision import WeightFormat


def prepared(*block_sizes: int | None) -> Any:
    formats = {
        str(number): None if size is None else WeightFormat(bits=4, block_size=size, symmetric=True)
        for number, size in enumerate(block_sizes)
    }
    return SimpleNamespace(choice=SimpleNamespace(formats=formats))


@pytest.mark.parametrize(
    ("blocks", "share"),
    [((), 1.25), ((None,), 1.25), ((32, 32, 32, 128), 1.25), ((128, 128, 128, 32), 1.0)],
)
def test_kernels_add_to_the_scales_of_short_blocks(blocks: tuple[int | None, ...], share: float) -> None:
    assert _opened_share(prepared(*blocks)) == share
