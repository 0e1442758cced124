from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jisu.calibration.errors import StatisticsError
from jisu.calibration.statistics.add_statistics import add_statistics
from jisu.calibration.statistics.collect import CollectSettings, collect
from jisu.calibration.text.windows import Windows, draw_windows
from tests.calibration.tiny_models import tiny_decoder

WHOLE = draw_windows(np.arange(200) * 7 % 32, count=6, length=12)
ALL = CollectSettings(hessians=True)


def pieces(folder: Path, *cuts: slice) -> list[Path]:
    actual = []
    for number, cut in enumerate(cuts):
        part = Windows(ids=WHOLE.ids[cut], seed=0)
        collect(tiny_decoder(), part, folder / str(number), settings=ALL, probe=WHOLE.ids[0][:8])
        actual.append(folder / str(number))
    return actual


def test_the_sums_of_pieces_are_those_of_the_whole_text(tmp_path: Path) -> None:
    whole = collect(tiny_decoder(), WHOLE, tmp_path / "whole", settings=ALL)
    added = add_statistics(
        pieces(tmp_path, slice(0, 3), slice(3, 4), slice(4, 6)), tmp_path / "added", windows=WHOLE.sha256
    )
    assert added.origin == whole.origin
    assert added.groups == whole.groups
    assert (added.windows_done, added.windows_wanted) == (6, 6)
    for index in range(len(whole.groups)):
        one, other = added.read_group(index), whole.read_group(index)
        assert one.tokens == other.tokens == 72
        assert np.allclose(one.sum_abs, other.sum_abs, rtol=1e-12)
        assert np.allclose(one.sum_square, other.sum_square, rtol=1e-12)
        assert np.array_equal(one.max_abs, other.max_abs)
        assert one.gram is not None and other.gram is not None
        assert np.allclose(one.gram, other.gram, rtol=1e-4, atol=1e-5)
        assert one.output_max_abs == other.output_max_abs


def test_statistics_of_another_model_or_settings_are_not_added(tmp_path: Path) -> None:
    one = pieces(tmp_path, slice(0, 3))[0]
    part = Windows(ids=WHOLE.ids[3:], seed=0)
    collect(tiny_decoder(), part, tmp_path / "plain", settings=CollectSettings())
    with pytest.raises(StatisticsError, match="cannot be added"):
        add_statistics([one, tmp_path / "plain"], tmp_path / "added", windows=WHOLE.sha256)
    model = tiny_decoder()
    model.head.weight.data += 1
    collect(model, part, tmp_path / "other", settings=ALL)
    with pytest.raises(StatisticsError, match="of another model"):
        add_statistics([one, tmp_path / "other"], tmp_path / "added", windows=WHOLE.sha256)
