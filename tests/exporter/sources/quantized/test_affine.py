from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.affine import find_hqq, find_mlx
from tests.exporter.sources.quantized.tables import declared, only


def mlx(**more):
    return {
        "x.weight": torch.tensor([[0x76543210]], dtype=torch.int64).to(torch.uint32).repeat(1, 4),
        "x.scales": torch.tensor([[0.5]]).half(),
        "x.biases": torch.tensor([[-1.0]]).half(),
        **more,
    }


def test_mlx_adds_a_bias_to_each_group():
    weight = only(find_mlx, mlx(), declared("mlx", group_size=32, bits=4))
    assert weight[...].tolist() == [[-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5] * 4]


def test_mlx_layers_can_have_settings_of_their_own():
    stored = {
        "x.weight": torch.tensor([[0x03020100, 0x07060504]], dtype=torch.int64).to(torch.uint32).repeat(1, 4),
        "x.scales": torch.tensor([[1.0]]).half(),
        "x.biases": torch.tensor([[0.0]]).half(),
    }
    weight = only(find_mlx, stored, declared("mlx", group_size=64, bits=4, x={"group_size": 32, "bits": 8}))
    assert weight[...].tolist() == [list(range(8)) * 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x.biases": None}, "without biases"),
        ({"x.scales": torch.ones(1, 3).half(), "x.biases": torch.ones(1, 3).half()}, r"scales \[1, 3\]"),
    ],
)
def test_damaged_mlx_weights_are_refused(change, words):
    stored = {name: one for name, one in mlx(**change).items() if one is not None}
    with pytest.raises(InputError, match=words):
        only(find_mlx, stored, declared("mlx", group_size=32, bits=4))


def hqq(**more):
    """The codes 0 to 15 of [2, 8] in four rows of four, rows 0 and 1 in the high halves."""

    def number(value, dtype=torch.int32):
        return torch.tensor(value, dtype=dtype)

    return {
        "x.W_q": torch.tensor([[0x08, 0x19, 0x2A, 0x3B], [0x4C, 0x5D, 0x6E, 0x7F]], dtype=torch.uint8),
        "x.scale": torch.tensor([[1.0], [1.0], [0.5], [0.5]]),
        "x.zero": torch.tensor([[0.0], [0.5], [8.0], [8.0]]),
        "x.shape": torch.tensor([2, 8]),
        "x.nbits": number(4),
        "x.group_size": number(4),
        "x.axis": number(1),
        "x.packing": torch.tensor(list(b"4bit_u8"), dtype=torch.uint8),
        "x.view_as_float": number(0, torch.uint8),
        "x.optimize": number(1, torch.uint8),
        **more,
    }


def test_hqq_subtracts_zero_points_that_are_floats():
    weight = only(find_hqq, hqq())
    assert weight[...].tolist() == [[0, 1, 2, 3, 3.5, 4.5, 5.5, 6.5], [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]]
    assert weight.parts["x.optimize"] == "format"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x.zero": None}, "no zero beside"),
        ({"x.packing": torch.tensor(list(b"5bit"), dtype=torch.uint8)}, "packing '5bit'"),
        ({"x.group_size": torch.tensor(3, dtype=torch.int32)}, "groups of 3"),
        ({"x.W_q": torch.zeros(1, 4, dtype=torch.uint8)}, r"codes of \[1, 4\]"),
    ],
)
def test_damaged_hqq_weights_are_refused(change, words):
    stored = {name: one for name, one in hqq(**change).items() if one is not None}
    with pytest.raises(InputError, match=words):
        only(find_hqq, stored)[...]
