from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from jisu.calibration.errors import ActivationError, CalibrationError
from jisu.calibration.weights.formats import BlockFormat, Floats
from jisu.calibration.weights.gptq import GptqOptions, Order, gptq, gptq_formats, inverse_factor
from jisu.calibration.weights.round_to_nearest import round_to_nearest

ORDERS: list[Order] = ["natural", "blocks", "columns"]


def correlated_inputs(features: int, *, tokens: int = 512, rank: int = 12) -> Floats:
    random = np.random.default_rng(0)
    mixed = random.standard_normal((tokens, rank)) @ random.standard_normal((rank, features))
    return np.asarray(mixed + 0.2 * random.standard_normal((tokens, features)), dtype=np.float32)


def a_weight(rows: int, features: int) -> Floats:
    return np.random.default_rng(1).standard_normal((rows, features)).astype(np.float32)


def plain_gptq(weight: Floats, hessian: npt.NDArray[np.float64], scale: float, zero: int, damping: float) -> Floats:
    """One row after another with the textbook update: fix a column, solve for all later ones again."""
    damped = hessian + damping * np.diag(hessian).mean() * np.eye(len(hessian))
    result = np.empty_like(weight)
    for row, values in enumerate(weight.astype(np.float64)):
        left = values.copy()
        for i in range(len(values)):
            result[row, i] = (np.clip(np.rint(left[i] / scale) + zero, 0, 15) - zero) * scale
            error = left[i] - result[row, i]
            later = slice(i + 1, None)
            if i + 1 < len(values):
                # Minimize the output's change over the later columns, given that column i changed by -error.
                left[later] += np.linalg.solve(damped[later, later], damped[later, i]) * error
    return result


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block_size", [16, 32])
def test_outputs_change_much_less_than_with_rounding(order: Order, symmetric: bool, block_size: int) -> None:
    inputs, weight = correlated_inputs(64), a_weight(24, 64)
    block_format = BlockFormat(bits=4, block_size=block_size, symmetric=symmetric)

    corrected = gptq(weight, inputs.T @ inputs, block_format, layer="w", options=GptqOptions(order=order))
    rounded = round_to_nearest(weight, block_format, layer="w")

    def error(dequantized: Floats) -> float:
        return float(np.square(inputs @ (dequantized - weight).T).sum())

    assert error(corrected.dequantize()) < 0.5 * error(rounded.dequantize())


def test_it_equals_solving_for_the_later_columns_again_each_time() -> None:
    inputs = correlated_inputs(16, rank=4).astype(np.float64)
    hessian = inputs.T @ inputs
    # Equal extremes in a block of 16, and no search: the scale is known beforehand.
    weight = a_weight(6, 16).clip(-1, 1)
    weight[:, 0], weight[:, 1] = -1.0, 1.0
    result = gptq(
        weight,
        hessian,
        BlockFormat(bits=4, block_size=16, symmetric=True),
        layer="w",
        options=GptqOptions(order="natural", search=False, batch=1, damping=0.01),
    )

    assert np.allclose(result.scales, 1 / 7)
    expected = plain_gptq(weight, hessian, 1 / 7, 8, 0.01)
    assert np.abs(result.dequantize() - expected).max() < 1e-5


def test_with_uncorrelated_inputs_it_is_rounding() -> None:
    weight = a_weight(8, 64)
    block_format = BlockFormat(bits=4, block_size=32, symmetric=False)
    result = gptq(weight, np.eye(64), block_format, layer="w", options=GptqOptions(search=False))
    rounded = round_to_nearest(weight, block_format, layer="w", search=False)

    assert (result.codes == rounded.codes).all()
    assert (result.scales == rounded.scales).all()


@pytest.mark.parametrize("order", ORDERS)
def test_the_size_of_the_batches_changes_nothing(order: Order) -> None:
    inputs, weight = correlated_inputs(80), a_weight(5, 80)
    block_format = BlockFormat(bits=4, block_size=16, symmetric=False)

    def codes(batch: int) -> npt.NDArray[np.uint8]:
        options = GptqOptions(order=order, batch=batch)
        return gptq(weight, inputs.T @ inputs, block_format, layer="w", options=options).codes

    assert (codes(16) != codes(1000)).mean() < 0.01  # sums in another order may turn a tie


@pytest.mark.parametrize("order", ORDERS)
def test_stacked_matrices_are_quantized_as_if_alone(order: Order) -> None:
    inputs, weight = correlated_inputs(64), a_weight(10, 64)
    block_format = BlockFormat(bits=4, block_size=32, symmetric=False)

    def run(rows: Floats) -> Floats:
        return gptq(rows, inputs.T @ inputs, block_format, layer="w", options=GptqOptions(order=order)).dequantize()

    assert np.allclose(np.concatenate([run(weight[:4]), run(weight[4:])]), run(weight), atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_a_feature_that_was_never_active_is_only_rounded(order: Order) -> None:
    inputs, weight = correlated_inputs(32), a_weight(6, 32)
    inputs[:, 5] = 0
    block_format = BlockFormat(bits=8, block_size=32, symmetric=False)
    result = gptq(weight, inputs.T @ inputs, block_format, layer="w", options=GptqOptions(order=order))

    assert np.abs(result.dequantize()[:, 5] - weight[:, 5]).max() < 0.02


def test_a_short_last_block_is_quantized_in_every_order() -> None:
    inputs, weight = correlated_inputs(48), a_weight(6, 48)
    block_format = BlockFormat(bits=4, block_size=32, symmetric=False, short_last_block=True)
    for order in ORDERS:
        result = gptq(weight, inputs.T @ inputs, block_format, layer="w", options=GptqOptions(order=order))
        change = np.square(inputs @ (result.dequantize() - weight).T).mean() / np.square(inputs @ weight.T).mean()
        assert result.scales.shape == (6, 2)
        assert change < 0.01


def test_the_factor_gives_the_inverse_back() -> None:
    inputs = correlated_inputs(24)
    hessian = (inputs.T @ inputs).astype(np.float64)
    columns = np.random.default_rng(0).permutation(24)
    upper = inverse_factor(hessian, columns, 0.1, layer="w").astype(np.float64)

    damped = hessian[np.ix_(columns, columns)] + 0.1 * np.diag(hessian).mean() * np.eye(24)
    assert np.allclose(upper.T @ upper @ damped, np.eye(24), atol=1e-3)
    assert np.allclose(upper, np.triu(upper))


@pytest.mark.parametrize("damage", [np.nan, np.inf, -1e9])
def test_statistics_that_are_no_hessian_name_the_layer(damage: float) -> None:
    hessian = np.eye(32)
    hessian[3, 4] = hessian[4, 3] = damage
    with pytest.raises(ActivationError, match="layers.7.down"):
        gptq(a_weight(2, 32), hessian, BlockFormat(bits=4, block_size=32, symmetric=True), layer="layers.7.down")


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(CalibrationError, match="damping=0"):
        GptqOptions(damping=0)


def test_several_formats_are_each_as_alone_and_share_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, weight = correlated_inputs(64), a_weight(24, 64)
    hessian = inputs.T @ inputs
    formats = [
        BlockFormat(bits=bits, block_size=size, symmetric=symmetric)
        for bits, size, symmetric in ((4, 32, False), (5, 32, True), (6, 32, True), (4, 16, False), (5, 32, True))
    ]
    alone = [gptq(weight, hessian, form, layer="w") for form in formats]
    factors = []

    def counted(*values: object, **named: object) -> Floats:
        factors.append(1)
        return inverse_factor(*values, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("jisu.calibration.weights.gptq.inverse_factor", counted)
    together = gptq_formats(weight, hessian, formats, layer="w")
    assert len(factors) == 2
    for one, other in zip(together, alone, strict=True):
        assert one.format == other.format
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.scales, other.scales)
        np.testing.assert_array_equal(one.zero_points, other.zero_points)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("features", [64, 80, 100])
def test_pieces_and_runs_of_any_size_give_one_result(
    order: Order, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, weight = correlated_inputs(features), a_weight(23, features)
    hessian = inputs.T @ inputs
    form = BlockFormat(bits=4, block_size=32, symmetric=False, short_last_block=True)
    options = GptqOptions(order=order)
    whole = gptq(weight, hessian, form, layer="w", options=options)
    for piece, together, slab in ((5 * features, 32, 256), (1, 7, 3), (23 * features, 1, 1)):
        monkeypatch.setattr("jisu.calibration.weights.gptq._PIECE", piece)
        monkeypatch.setattr("jisu.calibration.weights.gptq._TOGETHER", together)
        monkeypatch.setattr("jisu.calibration.weights.gptq._SLAB", slab)
        cut = gptq(weight, hessian, form, layer="w", options=options)
        # Sums in another order: a weight halfway between two codes may take the other one, and move those behind it.
        assert np.mean(cut.codes != whole.codes) < 0.02
        np.testing.assert_allclose(cut.scales, whole.scales, rtol=0.05)


@pytest.mark.parametrize("at_once", [1, 5, 16, 64])
def test_the_factor_is_that_of_the_inverse_however_many_columns_are_calculated_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jisu.calibration.weights.gptq._COLUMNS", at_once)
    inputs = correlated_inputs(16).astype(np.float64)
    hessian, order = inputs.T @ inputs, np.random.default_rng(0).permutation(16)
    factor = inverse_factor(hessian, order, 0.01, layer="w").astype(np.float64)
    damped = (hessian + 0.01 * np.diag(hessian).mean() * np.eye(16))[np.ix_(order, order)]
    np.testing.assert_allclose(factor.T @ factor @ damped, np.eye(16), atol=2e-4)
    assert np.array_equal(factor, np.triu(factor))
