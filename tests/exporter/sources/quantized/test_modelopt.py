from __future__ import annotations

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.modelopt import find_modelopt
from tests.exporter.sources.quantized.tables import declared, only


def test_two_output_features_share_a_byte():
    tensors = {
        "x.weight": torch.tensor([[0x81, 0x7F]], dtype=torch.uint8),
        "x.weight_scale": torch.tensor([[2.0], [0.5]]),
    }
    assert only(find_modelopt, tensors, declared("modelopt"))[...].tolist() == [[2, -2], [-4, 3.5]]


@pytest.mark.parametrize(
    ("scale", "method", "words"),
    [(torch.ones(3, 1), "modelopt", r"scales of \[3, 1\]"), (torch.ones(2, 1), "bitnet", "bitnet")],
)
def test_other_bytes_are_refused(scale, method, words):
    with pytest.raises(InputError, match=words):
        only(
            find_modelopt, {"x.weight": torch.zeros(1, 2, dtype=torch.uint8), "x.weight_scale": scale}, declared(method)
        )
