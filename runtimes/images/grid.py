"""What a vision graph reads of an image's grid of patches besides its pixels: positions, windows and interpolations.

Models compute it from sizes alone, in loops that no graph holds. Patches are in blocks of ``merge * merge`` that become
one token, block by block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def grid_arrays(rows: int, columns: int, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """Inputs of a vision graph for a grid of ``rows`` x ``columns`` blocks.

    Args:
        requests: ``position_ids``, ``windows`` or ``interpolation``, each with its settings.

    Returns:
        ``position_ids`` int64 [patches, 2]; ``window_index`` int64 [blocks], ``cu_window_seqlens`` int64 [windows + 2];
        ``interp_indices`` int64 and ``interp_weights`` float32 [patches, 4].
    """
    arrays: dict[str, Array] = {}
    if (settings := requests.get("position_ids")) is not None:
        arrays["position_ids"] = np.stack(_lines_and_columns(rows, columns, int(settings["merge"])), axis=-1)
    if (settings := requests.get("windows")) is not None:
        arrays["window_index"], arrays["cu_window_seqlens"] = _windows(
            rows, columns, int(settings["blocks"]), int(settings["merge"])
        )
    if (settings := requests.get("interpolation")) is not None:
        arrays["interp_indices"], arrays["interp_weights"] = _interpolation(rows, columns, settings)
    return arrays


def _lines_and_columns(rows: int, columns: int, merge: int) -> tuple[Array, Array]:
    """Line and column of each patch, int64 [patches]."""
    lines, places = np.meshgrid(np.arange(rows * merge), np.arange(columns * merge), indexing="ij")
    shape = (rows, merge, columns, merge)
    ordered = [axis.reshape(shape).transpose(0, 2, 1, 3).ravel() for axis in (lines, places)]
    return ordered[0], ordered[1]


def _windows(rows: int, columns: int, side: int, merge: int) -> tuple[Array, Array]:
    """Blocks in the order of windows of ``side`` x ``side`` of them, and where the patches of each window end."""
    order, ends = [], [0]
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            lines, places = np.meshgrid(
                np.arange(top, min(top + side, rows)), np.arange(left, min(left + side, columns)), indexing="ij"
            )
            order.append((lines * columns + places).ravel())
            ends.append(ends[-1] + lines.size * merge * merge)
    # An empty window at the end, so that there are two: a graph may have another case for one.
    return np.concatenate(order), np.array([*ends, ends[-1]], np.int64)


def _interpolation(rows: int, columns: int, settings: Mapping[str, Any]) -> tuple[Array, Array]:
    """The four places of a square table [side, side] around each patch, and their shares in it."""
    side, merge = int(settings["side"]), int(settings["merge"])
    lines, places = _lines_and_columns(rows, columns, merge)
    corners = bool(settings["align_corners"])
    high, high_shares = _around(lines, rows * merge, side, align_corners=corners)
    wide, wide_shares = _around(places, columns * merge, side, align_corners=corners)
    indices = (high[:, :, None] * side + wide[:, None, :]).reshape(-1, 4)
    return indices, (high_shares[:, :, None] * wide_shares[:, None, :]).reshape(-1, 4)


def _around(index: Array, size: int, side: int, *, align_corners: bool) -> tuple[Array, Array]:
    """The two places of a line of ``side`` around each index of a line of ``size``, and their shares; float32."""
    places = index.astype(np.float32)
    one = np.float32(1)
    if align_corners:
        source = places * np.float32(side - 1) / np.float32(max(size - 1, 1))
    else:
        source = (places + np.float32(0.5)) * np.float32(side) / np.float32(size) - np.float32(0.5)
    floor = np.floor(source)
    taps = floor.astype(np.int64)[:, None] + np.arange(2)
    distance = np.abs(source[:, None] - floor[:, None] - np.arange(2, dtype=np.float32))
    return taps.clip(0, side - 1), np.maximum(one - distance, np.float32(0))
