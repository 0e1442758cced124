from __future__ import annotations

import numpy as np

from jisu.calibration.weights.few_tokens import weigh_correlations
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.gptq import gptq
from jisu.calibration.weights.round_to_nearest import round_to_nearest

FORM = BlockFormat(bits=4, block_size=32, symmetric=False)


def test_what_lies_beside_the_diagonal_counts_by_tokens_and_channels():
    hessian = np.array([[2.0, 1.0], [1.0, 4.0]], np.float32)
    np.testing.assert_allclose(weigh_correlations(hessian, 2), [[2, 0.5], [0.5, 4]])
    np.testing.assert_allclose(weigh_correlations(hessian, 0), [[2, 0], [0, 4]])
    assert hessian[0, 1] == 1


def test_of_few_tokens_the_weighted_statistics_beat_rounding_and_plain_ones_are_worse_than_it():
    generator = np.random.default_rng(0)
    channels, rows, tokens = 128, 64, 64
    turned, _ = np.linalg.qr(generator.standard_normal((channels, channels)))
    spread = (turned * (1 + np.arange(channels)) ** -0.25) @ turned.T
    weight = generator.standard_normal((rows, channels)).astype(np.float32)
    seen, other = (generator.standard_normal((count, channels)) @ spread for count in (tokens, 5000))
    hessian = (seen.T @ seen / tokens).astype(np.float32)

    def error(quantized):
        return float(np.square(other @ (quantized.dequantize() - weight).T).mean())

    nearest = error(round_to_nearest(weight, FORM, layer="x"))
    plain = error(gptq(weight, hessian, FORM, layer="x"))
    weighted = error(gptq(weight, weigh_correlations(hessian, tokens), FORM, layer="x"))
    assert weighted < nearest < plain
