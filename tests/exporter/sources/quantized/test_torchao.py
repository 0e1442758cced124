from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.torchao import find_torchao
from tests.exporter.sources.quantized.tables import only


def test_a_tensor_of_int8_is_put_together():
    tensors = {
        "x._weight_qdata": torch.tensor([[-4, 3]], dtype=torch.int8),
        "x._weight_scale": torch.tensor([[0.5]]),
        "x._weight_zero_point": torch.tensor([[1]], dtype=torch.int8),
    }
    weight = only(find_torchao, tensors)
    assert (weight.name, weight[...].tolist()) == ("x.weight", [[-2.5, 1.0]])


def test_a_tensor_of_float8_is_put_together():
    tensors = {
        "x._weight_qdata": torch.tensor([[2.0]]).to(torch.float8_e4m3fn),
        "x._weight_scale": torch.tensor([[4.0]]),
    }
    assert only(find_torchao, tensors)[...].tolist() == [[8.0]]


def test_packed_four_bits_are_refused_by_name():
    tensors = {"x._weight_qdata": torch.zeros(2, 2, dtype=torch.uint8), "x._weight_scale": torch.ones(1, 2)}
    with pytest.raises(InputError, match="packed for GPU kernels"):
        only(find_torchao, tensors)


def test_codes_without_a_scale_are_refused():
    with pytest.raises(InputError, match="without a float x._weight_scale"):
        only(find_torchao, {"x._weight_qdata": torch.zeros(2, 2, dtype=torch.int8)})
