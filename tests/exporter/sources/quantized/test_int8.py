from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.int8 import find_int8
from tests.exporter.sources.quantized.tables import declared, only

CODES = torch.tensor([[-128, 0, 1, 127], [2, -2, 4, -4]], dtype=torch.int8)


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        (torch.tensor([0.5]), [[-64, 0, 0.5, 63.5], [1, -1, 2, -2]]),
        (torch.tensor([[0.5], [2.0]]), [[-64, 0, 0.5, 63.5], [4, -4, 8, -8]]),
        (torch.tensor([[1.0, 0.5], [2.0, 1.0]]), [[-128, 0, 0.5, 63.5], [4, -4, 4, -4]]),
    ],
)
def test_a_tensor_a_row_or_a_group_shares_a_scale(scales, expected):
    weight = only(find_int8, {"x.weight": CODES, "x.weight_scale": scales})
    assert weight[...].tolist() == expected
    assert np.array_equal(weight.integers().dequantize(), np.array(expected, np.float32))


def test_zero_points_are_signed_as_the_codes_are():
    zeros = torch.tensor([[-128], [4]], dtype=torch.int8)
    tensors = {"x.weight": CODES, "x.weight_scale": torch.ones(2, 1), "x.weight_zero_point": zeros}
    assert only(find_int8, tensors)[...].tolist() == [[0, 128, 129, 255], [-2, -6, 0, -8]]


def test_bitsandbytes_stores_the_magnitude_that_127_stands_for():
    tensors = {
        "x.weight": CODES,
        "x.SCB": torch.tensor([127.0, 254.0]),
        "x.weight_format": torch.tensor(0).to(torch.uint8),
    }
    weight = only(find_int8, tensors)
    assert weight[...].tolist() == [[-128, 0, 1, 127], [4, -4, 8, -8]]
    assert weight.parts["x.weight_format"] == "layout"


def test_quanto_names_the_codes_data():
    assert only(find_int8, {"x.weight._data": CODES, "x.weight._scale": torch.ones(2, 1)}).name == "x.weight"


def test_codes_that_quanto_packed_are_refused():
    with pytest.raises(InputError, match="packed codes without their shape"):
        only(find_int8, {"x.weight._data._data": torch.zeros(2, 2, dtype=torch.uint8)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x.weight_scale": torch.ones(3)}, r"x.weight_scale of \[3\]"),
        ({"x.weight_zero_point": torch.zeros(2, 1)}, "float32"),
        ({"x.SCB": torch.ones(3)}, r"SCB of \[3\]"),
        ({"x.SCB": torch.ones(2), "x.weight_format": torch.tensor(2).to(torch.uint8)}, "weight_format 2"),
    ],
)
def test_a_damaged_weight_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        only(find_int8, {"x.weight": CODES, "x.weight_scale": torch.ones(2, 1), **change}, declared())[...]
