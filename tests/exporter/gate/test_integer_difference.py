from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized
from jisu.exporter.gate.integer_difference import dequantized, first_difference, name_difference


@pytest.fixture
def part():
    generator = np.random.default_rng(0)
    return BlockQuantized(
        codes=generator.integers(0, 16, (5, 64), dtype=np.uint8),
        scales=generator.uniform(0.5, 1.5, (5, 2)).astype(np.float32),
        zero_points=generator.integers(4, 12, (5, 2), dtype=np.uint8),
        format=BlockFormat(bits=4, block_size=32, symmetric=False),
    )


def test_the_intended_integers_differ_nowhere(part):
    assert name_difference("w", part.dequantize(), part) is None


def test_a_doubled_scale_is_named(part):
    actual = part.dequantize()
    actual[3, 32:] *= 2
    sentence = name_difference("w", actual, part)
    assert sentence == f"w, row 3, block 1: the scale is 2 times the intended {part.scales[3, 1]:.6g}."


def test_a_zero_point_is_named(part):
    actual = part.dequantize()
    actual[2, :32] -= part.scales[2, 0]
    assert name_difference("w", actual, part) == "w, row 2, block 0: the zero point is off by +1."


def test_a_code_is_named(part):
    actual = part.dequantize()
    actual[4, 40] += 3 * part.scales[4, 1]
    assert name_difference("w", actual, part) == "w, row 4, block 1: the code of feature 40 is off by +3."


def test_a_nan_is_named(part):
    actual = part.dequantize()
    actual[1, :32] = np.nan
    assert "the scale is not finite" in name_difference("w", actual, part)


def test_a_scale_of_a_whole_row_is_named():
    generator = np.random.default_rng(0)
    part = Int8Matmul(
        codes=generator.integers(-127, 128, (3, 20), dtype=np.int8),
        scales=np.array([0.1, 0.2, 0.3], np.float32),
        format=ActivationFormat(activation=None),
    )
    actual = part.dequantize()
    actual[1] *= np.float32(0.5)
    assert name_difference("w", actual, part) == "w, row 1: the scale is 0.5 times the intended 0.2."


def test_the_matrix_among_several_is_named(part):
    actual = np.concatenate([part.dequantize()] * 2)
    actual[7, 3] += part.scales[2, 0]
    assert first_difference(actual, [part, part], ["a", "b"]).startswith("b, row 2, block 0: the code of feature 3")


def test_a_product_shows_the_matrix_that_it_multiplies_with():
    weight = np.random.default_rng(0).normal(size=(7, 300)).astype(np.float32)
    np.testing.assert_array_equal(dequantized(lambda probe: probe @ weight.T, 300), weight)
