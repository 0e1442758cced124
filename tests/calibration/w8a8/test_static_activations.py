from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.errors import ActivationError
from jisu.calibration.w8a8.static_activations import activation_scale, quantize_rows


def test_a_symmetric_scale_by_hand() -> None:
    actual = activation_scale(-254.0, 10.0, layer="w")

    assert (actual.scale, actual.zero_point, actual.dtype) == (2.0, 0, "int8")
    assert actual.round_trip(np.array([-254, 3.1, 1000], dtype=np.float32)).tolist() == [-254, 4, 254]


def test_an_asymmetric_scale_by_hand() -> None:
    actual = activation_scale(-10.0, 245.0, layer="w", symmetric=False)

    assert (actual.scale, actual.zero_point, actual.dtype) == (1.0, 10, "uint8")
    assert actual.round_trip(np.array([-12, 0, 300], dtype=np.float32)).tolist() == [-10, 0, 245]


def test_a_positive_range_still_holds_zero() -> None:
    actual = activation_scale(100.0, 510.0, layer="w", symmetric=False)
    assert (actual.scale, actual.zero_point) == (2.0, 0)


def test_unsigned_codes_are_the_same_grid() -> None:
    signed = activation_scale(-3.0, 5.0, layer="w")
    unsigned = signed.as_unsigned()
    values = np.linspace(-6, 6, 100, dtype=np.float32)

    assert (unsigned.zero_point, unsigned.dtype) == (128, "uint8")
    assert np.array_equal(signed.round_trip(values), unsigned.round_trip(values))
    assert unsigned.as_unsigned() == unsigned


def test_an_idle_layer_has_scale_one() -> None:
    assert activation_scale(0.0, 0.0, layer="w").scale == 1.0


@pytest.mark.parametrize(("low", "high"), [(float("nan"), 1.0), (0.0, float("inf")), (2.0, 1.0)])
def test_a_range_that_is_none_names_the_layer(low: float, high: float) -> None:
    with pytest.raises(ActivationError, match="layers.4.mlp"):
        activation_scale(low, high, layer="layers.4.mlp")


def test_rows_have_their_own_scales() -> None:
    result = quantize_rows(np.array([[-127.0, 63.6], [2.54, 0.01], [0, 0]], dtype=np.float32))

    assert np.allclose(result.scales, [1.0, 0.02, 1.0])
    assert result.codes.tolist() == [[-127, 64], [127, 0], [0, 0]]
    assert result.dequantize()[0].tolist() == [-127.0, 64.0]
