from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.float4 import find_float4
from tests.exporter.sources.quantized.tables import only

VALUES = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]
# Every code once, the first of two in the low half of their byte.
CODES = torch.tensor([[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]], dtype=torch.uint8)


def test_mxfp4_experts_are_turned_and_scaled_by_powers_of_two():
    blocks = torch.cat([CODES, CODES], dim=1).reshape(1, 1, 1, 16).repeat(1, 2, 1, 1)
    scales = torch.tensor([[[127], [129]]], dtype=torch.uint8)
    weight = only(find_float4, {"e.down_proj_blocks": blocks, "e.down_proj_scales": scales})
    assert (weight.name, weight.shape) == ("e.down_proj", (1, 32, 2))
    assert weight[...][0, :, 0].tolist() == VALUES * 2
    assert weight[...][0, :, 1].tolist() == [4 * value for value in VALUES * 2]


def test_nvfp4_of_modelopt_multiplies_both_scales():
    tensors = {
        "x.weight": CODES,
        "x.weight_scale": torch.tensor([[2.0]]).to(torch.float8_e4m3fn),
        "x.weight_scale_2": torch.tensor(0.25),
    }
    assert only(find_float4, tensors)[...].tolist() == [[value / 2 for value in VALUES]]


def test_nvfp4_of_llm_compressor_divides_by_the_global_scale():
    tensors = {
        "x.weight_packed": CODES,
        "x.weight_scale": torch.tensor([[2.0]]).to(torch.float8_e4m3fn),
        "x.weight_global_scale": torch.tensor([4.0]),
    }
    weight = only(find_float4, tensors)
    assert weight[...].tolist() == [[value / 2 for value in VALUES]]
    integers = weight.integers()
    assert (integers.bits, integers.group_size) == (8, 16)
    assert np.array_equal(integers.dequantize(), weight[...].numpy())


@pytest.mark.parametrize("names", [("x.weight", "x.weight_scale"), ("x.weight_packed", "x.weight_scale")])
def test_mxfp4_of_a_matrix(names):
    tensors = {names[0]: torch.cat([CODES, CODES], dim=1), names[1]: torch.tensor([[126]], dtype=torch.uint8)}
    assert only(find_float4, tensors)[...].tolist() == [[value / 2 for value in VALUES * 2]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x.weight_scale_2": None}, "without x.weight_scale_2"),
        ({"x.weight_scale_2": torch.tensor(0.0)}, "positive"),
        ({"x.weight_scale": torch.ones(1, 2).to(torch.float8_e4m3fn)}, r"scales of \[1, 2\]"),
    ],
)
def test_a_damaged_matrix_is_refused(change, words):
    tensors = {
        "x.weight": CODES,
        "x.weight_scale": torch.ones(1, 1).to(torch.float8_e4m3fn),
        "x.weight_scale_2": torch.tensor(1.0),
        **change,
    }
    with pytest.raises(InputError, match=words):
        only(find_float4, {name: one for name, one in tensors.items() if one is not None})[...]


def test_blocks_without_scales_are_refused():
    with pytest.raises(InputError, match=r"e\.down_proj_blocks without e\.down_proj_scales"):
        only(find_float4, {"e.down_proj_blocks": torch.zeros(1, 2, 1, 16, dtype=torch.uint8)})
