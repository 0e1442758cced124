"""What follows from an image's grid, against transformers' own functions."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.runtimes.images.grid import grid_arrays

GRIDS = [(1, 1), (3, 4), (4, 4), (7, 9), (2, 13)]


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_positions_and_windows_are_those_of_transformers(rows: int, columns: int) -> None:
    import torch
    from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

    grid = torch.tensor([[1, rows * 2, columns * 2]])
    arrays = grid_arrays(rows, columns, {"position_ids": {"merge": 2}, "windows": {"merge": 2, "blocks": 2}})
    assert np.array_equal(arrays["position_ids"], get_vision_position_ids(grid, 2).numpy())
    order, ends = get_vision_window_index(grid, 2, 16, 4)
    assert np.array_equal(arrays["window_index"], order.numpy())
    assert arrays["cu_window_seqlens"].tolist() == [*ends.tolist(), int(ends[-1])]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_interpolations_are_those_of_transformers(rows: int, columns: int, align_corners: bool) -> None:
    import torch
    from transformers.vision_utils import get_vision_interpolation_indices_and_weights

    grid = torch.tensor([[1, rows * 2, columns * 2]])
    indices, weights = get_vision_interpolation_indices_and_weights(
        grid, 6, align_corners=align_corners, spatial_merge_size=2
    )
    requests = {"interpolation": {"side": 6, "merge": 2, "align_corners": align_corners}}
    arrays = grid_arrays(rows, columns, requests)
    assert np.array_equal(arrays["interp_indices"], indices.numpy())
    assert np.abs(arrays["interp_weights"] - weights.numpy()).max() < 1e-6  # float32, in another order
    assert arrays["interp_weights"].dtype == np.float32


def test_nothing_is_computed_that_nobody_reads() -> None:
    assert grid_arrays(2, 2, {}) == {}
