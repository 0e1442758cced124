from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.errors import FormatError
from jisu.calibration.weights.formats import ROW, BlockFormat, BlockQuantized, to_blocks


def quantized(block_format: BlockFormat) -> BlockQuantized:
    codes = np.zeros((1, 32), dtype=np.uint8)
    codes[0, 0], codes[0, 16] = 15, 3
    return BlockQuantized(
        codes=codes,
        scales=np.array([[0.5, 2.0]], dtype=np.float32),
        zero_points=np.array([[8, 1]], dtype=np.uint8),
        format=block_format,
    )


def test_a_weight_is_code_minus_zero_point_times_scale() -> None:
    weight = quantized(BlockFormat(bits=4, block_size=16, symmetric=False)).dequantize()

    assert weight.dtype == np.float32
    assert weight[0, :2].tolist() == [3.5, -4.0]  # (15 - 8) * 0.5, (0 - 8) * 0.5
    assert weight[0, 16:18].tolist() == [4.0, -2.0]  # (3 - 1) * 2, (0 - 1) * 2


def test_one_scale_a_row_takes_rows_of_any_length() -> None:
    form = BlockFormat(bits=8, block_size=ROW, symmetric=True)
    assert (form.width(37), form.count_blocks(37, layer="x")) == (37, 1)
    assert form.stored_bytes(3, 37, layer="x") == 3 * (37 + 4)
    assert to_blocks(np.zeros((3, 37), np.float32), form, layer="x").shape == (3, 1, 37)
    codes = np.full((2, 37), 130, np.uint8)
    scales, zeros = np.array([[0.5], [2.0]], np.float32), np.full((2, 1), 128, np.uint8)
    weight = BlockQuantized(codes=codes, scales=scales, zero_points=zeros, format=form).dequantize()
    assert weight[:, 36].tolist() == [1.0, 4.0]  # (130 - 128) * scale


def test_transposed_scales_give_another_weight() -> None:
    right = quantized(BlockFormat(bits=4, block_size=16, symmetric=False))
    wrong = BlockQuantized(
        codes=right.codes, scales=right.scales[:, ::-1], zero_points=right.zero_points, format=right.format
    )

    assert not np.allclose(wrong.dequantize(), right.dequantize())


def test_a_block_size_that_does_not_divide_names_the_layer_and_the_choices() -> None:
    with pytest.raises(FormatError, match="block size 128 does not divide K=576 of layers.3.up.*16, 32, 64.*Use block"):
        BlockFormat(bits=4, block_size=128, symmetric=True).count_blocks(576, layer="layers.3.up")


def test_a_short_last_block_can_be_accepted() -> None:
    accepting = BlockFormat(bits=4, block_size=128, symmetric=True, short_last_block=True)

    assert accepting.count_blocks(576, layer="w") == 5
    assert to_blocks(
        np.arange(20, dtype=np.float32)[None],
        BlockFormat(bits=4, block_size=16, symmetric=True, short_last_block=True),
        layer="w",
    )[0, 1].tolist() == [16, 17, 18, *[19] * 13]


@pytest.mark.parametrize(("bits", "block_size"), [(1, 32), (9, 32), (4, 48), (4, 8)])
def test_formats_that_do_not_exist_are_refused(bits: int, block_size: int) -> None:
    with pytest.raises(FormatError):
        BlockFormat(bits=bits, block_size=block_size, symmetric=True)


def test_stored_bytes_count_codes_scales_and_packed_zero_points() -> None:
    # Two rows of 96 features in 3 blocks: 48 bytes of codes, 12 of scales, 2 of packed zero points per row.
    assert BlockFormat(bits=4, block_size=32, symmetric=False).stored_bytes(2, 96, layer="w") == 2 * (48 + 12 + 2)
    assert BlockFormat(bits=4, block_size=32, symmetric=True).stored_bytes(2, 96, layer="w") == 2 * (48 + 12)
    assert BlockFormat(bits=8, block_size=32, symmetric=False).stored_bytes(2, 96, layer="w") == 2 * (96 + 12 + 3)


def test_a_weight_is_dequantized_in_pieces_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from jisu.calibration.weights import formats
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    weight = np.random.default_rng(0).normal(size=(23, 64)).astype(np.float32)
    quantized = round_to_nearest(weight, BlockFormat(bits=4, block_size=32, symmetric=False), layer="layer")
    whole = quantized.dequantize()
    monkeypatch.setattr(formats, "_PIECE", 5 * 64)
    np.testing.assert_array_equal(quantized.dequantize(), whole)
    np.testing.assert_array_equal(quantized.rows(7, 11).dequantize(), whole[7:11])
