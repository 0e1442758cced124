from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.errors import ActivationError
from jisu.calibration.weights import awq
from jisu.calibration.weights.awq import clip_blocks, output_error, search_channel_scales
from jisu.calibration.weights.formats import BlockFormat, Floats
from jisu.calibration.weights.round_to_nearest import round_to_nearest

FORMAT = BlockFormat(bits=4, block_size=32, symmetric=False)


def inputs_with_outliers() -> Floats:
    inputs = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    inputs[:, 7] *= 30
    inputs[:, 40] *= 20
    return inputs


def weights() -> list[Floats]:
    random = np.random.default_rng(1)
    return [random.standard_normal((16, 64)).astype(np.float32), random.standard_normal((8, 64)).astype(np.float32)]


def test_the_output_error_by_hand() -> None:
    difference = np.array([[1.0, 2.0]], dtype=np.float32)

    assert output_error(difference, np.array([[3.0, 1.0], [1.0, 5.0]])) == 27.0  # 3 + 2 * 2 + 4 * 5
    assert output_error(difference, np.array([3.0, 5.0])) == 23.0


@pytest.mark.parametrize("diagonal", [True, False])
def test_loud_channels_get_larger_weights_and_the_error_falls(diagonal: bool) -> None:
    inputs = inputs_with_outliers()
    hessian = inputs.T @ inputs
    actual = search_channel_scales(
        weights(),
        FORMAT,
        mean_abs=np.abs(inputs).mean(axis=0),
        hessian=np.diagonal(hessian) if diagonal else hessian,
        layer="w",
    )

    assert actual.alpha > 0
    assert actual.error < 0.7 * actual.plain_error
    assert set(np.argsort(actual.scales)[-2:]) == {7, 40}


def test_the_reported_error_is_the_one_that_results() -> None:
    inputs = inputs_with_outliers()
    hessian = inputs.T @ inputs
    actual = search_channel_scales(weights(), FORMAT, mean_abs=np.abs(inputs).mean(axis=0), hessian=hessian, layer="w")
    weight = np.concatenate(weights())
    result = round_to_nearest(weight * actual.scales, FORMAT, layer="w", search=False)

    before, after = inputs @ weight.T, (inputs / actual.scales) @ result.dequantize().T
    assert np.square(after - before).sum() / np.square(before).sum() == pytest.approx(actual.error, rel=1e-3)


def test_even_activations_need_no_scales() -> None:
    actual = search_channel_scales(weights(), FORMAT, mean_abs=np.ones(64, np.float32), hessian=np.eye(64), layer="w")

    assert (actual.alpha, actual.scales.tolist()) == (0.0, [1.0] * 64)


def test_statistics_with_nan_name_the_layer() -> None:
    with pytest.raises(ActivationError, match="layers.2.o_proj"):
        search_channel_scales(
            weights(), FORMAT, mean_abs=np.full(64, np.nan, np.float32), hessian=np.eye(64), layer="layers.2.o_proj"
        )


def test_clipping_never_raises_the_error_of_a_blocks_own_outputs() -> None:
    inputs, weight = inputs_with_outliers(), weights()[0]
    hessian = inputs.T @ inputs
    plain = round_to_nearest(weight, FORMAT, layer="w", search=False).dequantize()
    clipped = clip_blocks(weight, hessian, FORMAT, layer="w").dequantize()

    for block in (slice(0, 32), slice(32, 64)):
        before = output_error((plain - weight)[:, block], hessian[block, block])
        after = output_error((clipped - weight)[:, block], hessian[block, block])
        assert after < before


def test_some_rows_of_a_large_layer_choose_what_all_of_them_would(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_with_outliers()
    tall = np.random.default_rng(2).standard_normal((4096, 64)).astype(np.float32)
    judged: list[int] = []

    def search() -> float:
        hessian, mean_abs = inputs.T @ inputs, np.abs(inputs).mean(axis=0)
        return search_channel_scales([tall], FORMAT, mean_abs=mean_abs, hessian=hessian, layer="w").alpha

    def counted(difference: Floats, hessian: Floats) -> float:
        judged.append(len(difference))
        return output_error(difference, hessian)

    monkeypatch.setattr(awq, "output_error", counted)
    alpha = search()
    assert set(judged) == {4096}
    judged.clear()
    monkeypatch.setattr(awq, "_MULTIPLICATIONS", 300 * 64**2)
    assert search() == pytest.approx(alpha, abs=0.1)
    assert set(judged) == {300}
