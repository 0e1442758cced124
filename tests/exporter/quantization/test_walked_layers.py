"""Layers rounded one after another in several formats at once."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.sequential import GroupStatistics
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.walked_layers import codes_of, quantize_by_format, quantize_group, walk_layers
from jisu.exporter.quantization.weight_formats import FormatChoice
from jisu.exporter.sources import load_source

FOUR = WeightFormat(bits=4, block_size=32, symmetric=False)
FIVE = WeightFormat(bits=5, block_size=32, symmetric=True)
SIX = WeightFormat(bits=6, block_size=32, symmetric=True)
EIGHT = WeightFormat(bits=8, block_size=32, symmetric=True)


def group(names=("q", "k"), *, tokens=256):
    random = np.random.default_rng(0)
    inputs = random.standard_normal((256, 64)).astype(np.float32) * np.geomspace(0.1, 3, 64, dtype=np.float32)
    return GroupStatistics(
        names=names,
        weights=tuple(random.standard_normal((16, 64)).astype(np.float32) for _ in names),
        hessian=inputs.T @ inputs / 256 * (tokens > 0),
        mean_abs=np.abs(inputs).mean(axis=0) * (tokens > 0),
        tokens=tokens,
    )


@pytest.mark.parametrize("names", [("q",), ("q", "k")])
def test_more_bits_have_the_same_channel_scales_and_less_error(names):
    statistics = group(names)
    results = quantize_group(statistics, FOUR, finer=[FIVE, SIX])
    alone = quantize_group(statistics, FOUR)
    for weight, result, plain in zip(statistics.weights, results, alone, strict=True):
        np.testing.assert_array_equal(result.codes, plain.codes)
        assert [part.format.bits for part in result.finer] == [5, 6]
        parts = [result, *result.finer]
        errors = [float(np.square(part.dequantize() - weight).mean()) for part in parts]
        assert errors[0] > 2 * errors[1] > 4 * errors[2]
        for part in parts:
            np.testing.assert_array_equal(part.channel_scales, result.channel_scales)


def test_what_no_text_reached_is_rounded_once():
    (result,) = quantize_group(group(("expert",), tokens=0), FOUR, finer=[FIVE])
    assert result.unreached
    assert result.finer == ()


def test_layers_of_other_formats_are_rounded_apart():
    choice = FormatChoice(formats={"q": FOUR, "k": EIGHT}, algorithm="gptq")
    first, second = quantize_by_format(choice, group(), finer_formats={"q": (SIX,)})
    assert (first.format.bits, [part.format.bits for part in first.finer]) == (4, [6])
    assert (second.format.bits, second.finer) == (8, ())


def test_a_choice_has_the_codes_of_its_formats_only():
    weight = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)

    def rounded(form):
        return round_to_nearest(weight, form.to_block_format(), layer="w")

    other = BlockFormat(bits=5, block_size=16, symmetric=True)
    codes = [
        {"q.weight": rounded(FOUR), "k.weight": rounded(FOUR), "v.weight": round_to_nearest(weight, other, layer="v")},
        {"q.weight": rounded(SIX), "k.weight": rounded(SIX)},
    ]
    choice = FormatChoice(formats={"q": SIX, "k": FOUR, "v": FIVE, "o": None}, algorithm="gptq")
    chosen = codes_of(choice, codes)
    assert {name: part.format.bits for name, part in chosen.items()} == {"q.weight": 6, "k.weight": 4}


def test_a_walk_gives_one_set_of_codes_for_each_format(tiny_source):
    source = load_source(tiny_source)
    data = read_calibration_data(source, None, windows=2, window_tokens=32)
    names = [matrix.name for matrix in matrices_of(source.module) if not matrix.embedding]
    choice = FormatChoice(formats=dict.fromkeys(names, FOUR), algorithm="gptq")
    finer = {name: (FIVE, SIX) if name.endswith("down_proj") else () for name in names}
    codes = walk_layers(source, choice, finer, data.windows.as_list(), {}, None, resume=None)
    assert [len(part) for part in codes] == [len(names), 3, 3]
    assert [{one.format.bits for one in part.values()} for part in codes] == [{4}, {5}, {6}]
    assert all(one.finer == () for part in codes for one in part.values())
