from __future__ import annotations

import struct

import numpy as np
import pytest

from jisu.calibration.errors import FormatError
from jisu.calibration.weights.gguf_blocks import CLOSEST, EXACT, blocks_to_quantized, widen

gguf = pytest.importorskip("gguf")


def random_blocks(type_name: str, rows: int, blocks: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Raw bytes with sensible float16 scales, and what the gguf package reads in them."""
    kind = gguf.GGMLQuantizationType[type_name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(seed)
    raw = generator.integers(0, 256, (rows * blocks, size), dtype=np.uint8)
    halves = {"Q6_K": (208,), "Q3_K": (108,), "Q2_K": (80, 82), "Q4_1": (0, 2), "Q5_1": (0, 2)}
    halves |= {"Q4_K": (0, 2), "Q5_K": (0, 2)}
    for offset in halves.get(type_name, (0,)):
        scale = generator.normal(0, 0.02, (len(raw), 1)).astype("<f2")
        raw[:, offset : offset + 2] = scale.view(np.uint8)
    values = gguf.dequantize(raw.reshape(rows, -1), kind)
    assert values.shape == (rows, blocks * elements)
    return raw, values


@pytest.mark.parametrize("type_name", EXACT)
def test_blocks_are_taken_over_bit_for_bit(type_name):
    raw, values = random_blocks(type_name, rows=6, blocks=3)
    assert np.array_equal(blocks_to_quantized(type_name, raw, values, layer="w").dequantize(), values)


def test_a_block_by_hand():
    # d = 0.5; byte j holds element j in its low half and element j + 16 in its high half; 8 stands for zero.
    raw = np.frombuffer(struct.pack("<e", 0.5) + bytes([0xF0] + [0x88] * 15), np.uint8)
    values = gguf.dequantize(raw[None], gguf.GGMLQuantizationType.Q4_0)
    actual = blocks_to_quantized("Q4_0", raw, values, layer="w")
    assert actual.codes[0, 0] == 0
    assert actual.codes[0, 16] == 15
    assert (np.delete(actual.codes[0], [0, 16]) == 8).all()
    assert actual.scales.tolist() == [[0.5]]
    assert actual.dequantize()[0, [0, 16, 1]].tolist() == [-4.0, 3.5, 0.0]


def test_a_negative_scale_stays_negative():
    raw = np.frombuffer(struct.pack("<e", -0.5) + bytes([0xF0] + [0x88] * 15), np.uint8)
    values = gguf.dequantize(raw[None], gguf.GGMLQuantizationType.Q4_0)
    actual = blocks_to_quantized("Q4_0", raw, values, layer="w")
    assert (actual.codes[0, 0], actual.scales[0, 0], actual.dequantize()[0, 0]) == (0, -0.5, 4.0)


def test_values_outside_of_their_blocks_range_are_refused():
    raw, values = random_blocks("Q4_0", rows=1, blocks=1)
    with pytest.raises(FormatError, match="damaged"):
        blocks_to_quantized("Q4_0", raw, values * 20, layer="w")


def test_a_scale_of_zero_gives_zeros():
    raw = np.zeros((1, 34), np.uint8)
    actual = blocks_to_quantized("Q8_0", raw, np.zeros((1, 32), np.float32), layer="w")
    assert actual.scales.tolist() == [[1.0]]
    assert not actual.dequantize().any()


@pytest.mark.parametrize("type_name", CLOSEST)
def test_blocks_with_a_minimum_are_fitted_closely(type_name):
    raw, values = random_blocks(type_name, rows=4, blocks=2)
    actual = blocks_to_quantized(type_name, raw, values, layer="w").dequantize()
    block = CLOSEST[type_name].block_size
    span = np.ptp(np.concatenate([values.reshape(-1, block), np.zeros((values.size // block, 1))], axis=1), axis=1)
    error = np.abs(actual - values).reshape(-1, block).max(axis=1)
    # One code is a 255th of what the block spans together with zero, and rounding is off by half of one.
    assert (error <= span / 255 * 0.75 + 1e-7).all()


def test_a_type_without_such_a_form_is_named():
    with pytest.raises(FormatError, match=r"TQ1_0 blocks in layers\.0"):
        blocks_to_quantized("TQ1_0", np.zeros(1, np.uint8), np.zeros((1, 1), np.float32), layer="layers.0")


def test_other_values_than_the_blocks_are_found():
    raw, values = random_blocks("Q8_0", rows=2, blocks=1)
    values = values.copy()
    values[1, 3] += abs(values).max() / 500
    with pytest.raises(FormatError, match="not converted exactly"):
        blocks_to_quantized("Q8_0", raw, values, layer="w")


def test_wide_codes_are_the_same_numbers():
    raw, values = random_blocks("Q4_0", rows=2, blocks=2)
    wide = widen(blocks_to_quantized("Q4_0", raw, values, layer="w"))
    assert wide.format.bits == 8
    assert np.array_equal(wide.dequantize(), values)


def test_integers_have_as_many_bits_as_their_type():
    bits = {name: layout.format.bits for name, layout in EXACT.items()}
    assert (bits["Q4_0"], bits["Q5_0"], bits["Q6_K"], bits["Q8_0"]) == (4, 5, 6, 8)
