from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.errors import CalibrationError
from jisu.calibration.w8a8.smoothquant import smoothing_scales

MAX_ABS = np.array([16.0, 1.0], dtype=np.float32)
WEIGHTS = [np.array([[-4.0, 1.0]], np.float32), np.array([[1.0, 0.25]], np.float32)]


def test_the_scales_by_hand() -> None:
    assert smoothing_scales(MAX_ABS, WEIGHTS).tolist() == [2.0, 1.0]  # sqrt(16 / 4), sqrt(1 / 1)


def test_strength_one_makes_all_channels_equal() -> None:
    scales = smoothing_scales(MAX_ABS, WEIGHTS, strength=1.0)
    assert (MAX_ABS / scales).tolist() == [1.0, 1.0]


def test_a_silent_channel_and_an_empty_column_give_finite_scales() -> None:
    scales = smoothing_scales(np.zeros(2, np.float32), [np.zeros((3, 2), np.float32)])
    assert np.isfinite(scales).all()
    assert (scales > 0).all()


def test_a_strength_outside_its_range_is_refused() -> None:
    with pytest.raises(CalibrationError, match="Received: 1.5"):
        smoothing_scales(MAX_ABS, WEIGHTS, strength=1.5)
