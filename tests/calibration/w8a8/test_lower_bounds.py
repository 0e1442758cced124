from __future__ import annotations

import pytest
import torch

from jisu.calibration.w8a8.lower_bounds import lower_bound, lowest_inputs


def test_the_least_of_each_call_is_seen_while_the_block_runs() -> None:
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU(), torch.nn.Identity())
    with lowest_inputs(model, ["0", "2"]) as lowest:
        model(torch.tensor([1.0, -2.0]))
        model(torch.tensor([-1.0, 5.0]))
        model(torch.empty(0))
    model(torch.tensor([-9.0]))
    assert lowest == {"0": [-2.0, -1.0], "2": [0.0, 0.0]}


@pytest.mark.parametrize(
    ("lowest", "bound"),
    [
        ([-0.17, -0.1699, -0.1698, -0.1], -0.17),  # GELU: nearly every text comes down to it
        ([0.0, 0.0], 0.0),  # ReLU
        ([-0.4, -0.2, -0.3, -0.17], None),  # the least so far, which another text goes below
        ([-1.0, -1.0], None),  # a bound, but half of the codes are there for what is above already
        ([0.5, 0.5], None),
        ([], None),
    ],
)
def test_a_bound_is_what_most_calls_come_down_to(lowest: list[float], bound: float | None) -> None:
    assert lower_bound(lowest, 3.0) == bound
