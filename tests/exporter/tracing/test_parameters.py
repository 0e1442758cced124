"""What stands for a parameter in a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.tracing.parameters import float32_tensor, parameter_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_is_float32_in_a_graph_whatever_holds_it(dtype: torch.dtype) -> None:
    weight = torch.tensor([[1.5, -2.0]], dtype=dtype)
    stored = float32_tensor(weight, "w")
    assert (stored.name, stored.dtype, stored.nbytes) == ("w", ir.DataType.FLOAT, 8)
    assert stored.numpy().dtype == np.float32
    assert stored.numpy().tolist() == [[1.5, -2.0]]


def test_a_parameter_is_found_by_its_path() -> None:
    root = nn.Sequential(nn.Linear(2, 1))
    assert parameter_of(root, "0.weight").data_ptr() == root[0].weight.data_ptr()
