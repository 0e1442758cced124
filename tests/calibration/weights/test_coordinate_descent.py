from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.awq import output_error
from jisu.calibration.weights.coordinate_descent import refine_codes
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
from jisu.calibration.weights.gptq import gptq
from jisu.calibration.weights.round_to_nearest import round_to_nearest

FORMAT = BlockFormat(bits=4, block_size=32, symmetric=False)


def test_a_code_moves_to_make_up_for_its_neighbour_by_hand() -> None:
    # Both inputs are always equal, so that only the sum of the two weights matters: 0.4 + 0.4 rounds to 0, but is 1.
    weight = np.zeros((1, 16), dtype=np.float32)
    weight[0, :2] = 0.4
    hessian = np.zeros((16, 16))
    hessian[:2, :2] = 1
    start = BlockQuantized(
        codes=np.full((1, 16), 8, dtype=np.uint8),
        scales=np.ones((1, 1), dtype=np.float32),
        zero_points=np.full((1, 1), 8, dtype=np.uint8),
        format=BlockFormat(bits=4, block_size=16, symmetric=True),
    )
    result = refine_codes(weight, hessian, start, damping=1e-3)

    assert result.dequantize()[0, :2].tolist() == [1.0, 0.0]
    assert not result.dequantize()[0, 2:].any()


@pytest.mark.parametrize("features", [64, 96])
def test_it_improves_on_rounding_and_on_gptq(features: int) -> None:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((400, 20)) @ random.standard_normal((20, features))
    hessian = inputs.T @ inputs + 10 * np.eye(features)
    weight = random.standard_normal((16, features)).astype(np.float32)
    errors = []
    for start in (round_to_nearest(weight, FORMAT, layer="w"), gptq(weight, hessian, FORMAT, layer="w")):
        result = refine_codes(weight, hessian, start)
        for quantized in (start, result):
            errors.append(output_error(quantized.dequantize() - weight, hessian))
        assert (result.scales == start.scales).all()

    assert errors[1] < 0.5 * errors[0]
    assert errors[3] < 0.99 * errors[2]


def test_the_best_codes_stay() -> None:
    weight = np.arange(32, dtype=np.float32)[None] % 16
    start = round_to_nearest(weight, FORMAT, layer="w")
    assert (refine_codes(weight, np.eye(32), start).codes == start.codes).all()
