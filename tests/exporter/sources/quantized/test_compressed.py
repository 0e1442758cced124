from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.compressed import find_packed
from tests.exporter.sources.quantized.tables import declared, only


def settings(bits=4, *, symmetric=True, group=8):
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group}
    return declared("compressed-tensors", config_groups={"group_0": {"weights": weights, "targets": ["Linear"]}})


def tensors(**more):
    """Two rows of the signed codes -8 to 7, in two groups."""
    return {
        "x.weight_packed": torch.tensor([[0x76543210, 0xFEDCBA98 - (1 << 32)]] * 2).int(),
        "x.weight_scale": torch.tensor([[0.5, 1.0], [2.0, 1.0]]).bfloat16(),
        "x.weight_shape": torch.tensor([2, 16]),
        **more,
    }


def test_half_the_range_is_added_to_signed_codes():
    weight = only(find_packed, tensors(), settings())
    assert weight[...].tolist() == [
        [-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0, 1, 2, 3, 4, 5, 6, 7],
        [-16, -14, -12, -10, -8, -6, -4, -2, 0, 1, 2, 3, 4, 5, 6, 7],
    ]


def test_zero_points_are_packed_along_the_output_features():
    zeros = torch.tensor([[0x98, 0x78]]).int()  # signed: 0 and 1 of the first group, 0 and -1 of the second
    weight = only(find_packed, tensors(**{"x.weight_zero_point": zeros}), settings(symmetric=False))
    assert weight[...][0].tolist() == only(find_packed, tensors(), settings())[...][0].tolist()
    assert weight[...][1, 7:9].tolist() == [-4, 1]


def test_columns_belong_to_the_groups_that_they_are_assigned_to():
    order = torch.tensor([1, 0] * 8, dtype=torch.int32)
    weight = only(find_packed, tensors(**{"x.weight_g_idx": order}), settings())
    assert weight[...][0, :4].tolist() == [-8, -3.5, -6, -2.5]


def test_a_width_that_no_word_ends_at():
    short = tensors(**{"x.weight_shape": torch.tensor([2, 13])})
    weight = only(find_packed, short, settings())
    assert weight.shape == (2, 13)
    assert weight[...][0, 12].item() == 4


@pytest.mark.parametrize("gaps", [False, True])
def test_three_bits_are_packed_with_gaps_by_older_releases(gaps):
    codes = [place % 8 for place in range(64)]
    number = sum(code << (3 * place + (2 * (place // 10) if gaps else 0)) for place, code in enumerate(codes))
    words = [(number >> (32 * word)) & 0xFFFFFFFF for word in range(7 if gaps else 6)]
    stored = {
        "x.weight_packed": torch.from_numpy(np.array([words], np.uint32).view(np.int32)),
        "x.weight_scale": torch.ones(1, 1),
        "x.weight_shape": torch.tensor([1, 64]),
    }
    assert only(find_packed, stored, settings(3, group=64))[...][0].tolist() == [code - 4 for code in codes]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x.weight_scale": None}, "without scales"),
        ({"x.weight_scale": torch.ones(2, 3)}, "3 groups of 16 columns"),
        ({"x.weight_shape": torch.tensor([3, 16])}, r"x.weight_shape \[3, 16\]"),
        ({"x.weight_shape": torch.tensor([2, 64])}, "rows of 2 words for 64 columns"),
        ({"x.weight_g_idx": torch.full((16,), 5, dtype=torch.int32)}, "up to 5"),
        ({"x.weight_zero_point": torch.zeros(1, 2)}, "float32"),
    ],
)
def test_a_damaged_weight_is_refused(change, words):
    stored = {name: one for name, one in tensors(**change).items() if one is not None}
    with pytest.raises(InputError, match=words):
        only(find_packed, stored, settings())[...]


def test_zero_points_that_are_missing_are_refused():
    with pytest.raises(InputError, match="no x.weight_zero_point"):
        only(find_packed, tensors(), settings(symmetric=False))
