from __future__ import annotations

import json

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.bitsandbytes import find_four_bits
from tests.exporter.sources.quantized.tables import only

VALUES = torch.tensor([float(place) for place in range(-8, 8)])


def state(**settings):
    text = json.dumps({"quant_type": "nf4", "blocksize": 4, "dtype": "bfloat16", "shape": [2, 4], **settings})
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def tensors(**more):
    """Codes 0 to 7 in two rows, the first of two in the high half of their byte."""
    return {
        "x.weight": torch.tensor([[0x01], [0x23], [0x45], [0x67]], dtype=torch.uint8),
        "x.weight.absmax": torch.tensor([0.5, 2.0]),
        "x.weight.quant_map": VALUES,
        "x.weight.quant_state.bitsandbytes__nf4": state(),
        **more,
    }


def test_a_value_is_looked_up_and_multiplied_by_its_blocks_magnitude():
    assert only(find_four_bits, tensors())[...].tolist() == [[-4, -3.5, -3, -2.5], [-8, -6, -4, -2]]


def test_magnitudes_can_be_quantized_themselves():
    """0.5 and 2 are 0.25 and 1.75 over their mean, the codes 3 and 5 of a table, in blocks of one."""
    table = torch.zeros(256)
    table[3], table[5] = 0.25, 0.875
    nested = tensors(
        **{
            "x.weight.absmax": torch.tensor([3, 5], dtype=torch.uint8),
            "x.weight.nested_absmax": torch.tensor([1.0, 2.0]),
            "x.weight.nested_quant_map": table,
            "x.weight.quant_state.bitsandbytes__nf4": state(nested_blocksize=1, nested_offset=0.25),
        }
    )
    assert torch.equal(only(find_four_bits, nested)[...], only(find_four_bits, tensors())[...])


def test_blocks_go_on_over_rows_and_the_last_may_be_short():
    odd = tensors(**{"x.weight.quant_state.bitsandbytes__nf4": state(shape=[1, 7])})
    assert only(find_four_bits, odd)[...].tolist() == [[-4, -3.5, -3, -2.5, -8, -6, -4]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x.weight.absmax": None}, "x.weight.absmax missing"),
        ({"x.weight.absmax": torch.ones(3)}, r"x.weight.absmax \[3\]"),
        ({"x.weight.quant_map": torch.ones(8)}, r"x.weight.quant_map \[8\]"),
        ({"x.weight.absmax": torch.ones(2, dtype=torch.uint8)}, "of uint8"),
        ({"x.weight": torch.zeros(3, 1, dtype=torch.uint8)}, r"x.weight \[3, 1\]"),
        ({"x.weight.quant_state.bitsandbytes__nf4": torch.tensor([123], dtype=torch.uint8)}, "JSON object"),
        ({"x.weight.quant_state.bitsandbytes__nf4": state(quant_type="nf5")}, "nf5"),
        ({"x.weight.quant_state.bitsandbytes__nf4": state(nested_blocksize=256)}, "absmax of float32"),
    ],
)
def test_a_damaged_weight_is_refused(change, words):
    stored = {name: one for name, one in tensors(**change).items() if one is not None}
    with pytest.raises(InputError, match=words):
        only(find_four_bits, stored)[...]
