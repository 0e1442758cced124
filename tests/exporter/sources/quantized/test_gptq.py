from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.gptq import find_gptq
from tests.exporter.sources.quantized.tables import declared, only
from tests.support.quantized_folders import pack

ROWS, COLUMNS, GROUP = 32, 64, 32


def make(bits=4, *, zeros=None, stored_less=1, groups=None):
    """(tensors, the weight that they stand for)."""
    generator = np.random.default_rng(0)
    largest = (1 << bits) - 1
    codes = generator.integers(0, largest + 1, (ROWS, COLUMNS))
    zeros = generator.integers(1, largest + 1, (ROWS, COLUMNS // GROUP)) if zeros is None else zeros
    scales = generator.integers(1, 64, (ROWS, COLUMNS // GROUP)).astype(np.float32) / 128
    order = np.arange(COLUMNS) // GROUP if groups is None else groups
    tensors = {
        "x.qweight": pack(codes, bits).T.contiguous(),
        "x.qzeros": pack(((zeros - stored_less) % (largest + 1)).T, bits),
        "x.scales": torch.from_numpy(scales.T.copy()).half(),
        "x.g_idx": torch.from_numpy(order.astype(np.int32)),
    }
    weight = ((codes - zeros[:, order]) * scales[:, order]).astype(np.float32)
    return tensors, weight


def test_four_bits_by_hand():
    """Eight codes of one output feature in a word; the zero point 8 is stored as 7."""
    tensors = {
        "x.qweight": torch.tensor([[0x76543210]]).int().repeat(1, 8),
        "x.qzeros": torch.tensor([[0x77777777]]).int(),
        "x.scales": torch.full((1, 8), 0.5).half(),
    }
    weight = only(find_gptq, tensors, declared("gptq", bits=4, group_size=8, sym=True))
    assert weight.shape == (8, 8)
    assert weight[...][0].tolist() == [-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
def test_zero_points_are_one_less_in_the_first_format(bits, form):
    tensors, expected = make(bits, stored_less=1 if form == "gptq" else 0)
    weight = only(find_gptq, tensors, declared("gptq", bits=bits, group_size=GROUP, checkpoint_format=form))
    assert np.array_equal(weight[...].numpy(), expected)
    assert f"{bits} bits" in weight.form


@pytest.mark.parametrize(
    ("packing", "stored_less"),
    [(None, 1), ("auto_round:auto_gptq", 1), ("auto_round:gptqmodel", 0), ("auto_round", 0)],
)
def test_the_packings_of_autoround_differ_in_their_zero_points(packing, stored_less):
    tensors, expected = make(stored_less=stored_less)
    settings = {"bits": 4, "group_size": GROUP, **({} if packing is None else {"packing_format": packing})}
    assert np.array_equal(only(find_gptq, tensors, declared("auto-round", **settings))[...].numpy(), expected)


def test_a_zero_point_of_zero_borrows_from_its_neighbour_and_gives_back():
    tensors, expected = make(zeros=np.tile([[0, 5]], (ROWS, 1)), stored_less=0)
    words = tensors["x.qzeros"].numpy().view(np.uint32)
    tensors["x.qzeros"] = torch.from_numpy((words - np.uint32(0x11111111)).view(np.int32))
    weight = only(find_gptq, tensors, declared("gptq", bits=4, group_size=GROUP))
    assert np.array_equal(weight[...].numpy(), expected)


def test_reordered_columns_have_the_scales_of_their_groups():
    groups = np.random.default_rng(1).permutation(np.arange(COLUMNS) // GROUP)
    tensors, expected = make(groups=groups)
    weight = only(find_gptq, tensors, declared("gptq", bits=4, group_size=GROUP, desc_act=True))
    assert np.array_equal(weight[...].numpy(), expected)
    assert np.array_equal(weight.integers().groups, groups)


def test_groups_in_order_are_no_reordering():
    tensors, _ = make()
    assert only(find_gptq, tensors, declared("gptq", bits=4, group_size=GROUP)).integers().groups is None


@pytest.mark.parametrize("stored", [7, 8])
def test_symmetric_weights_tell_the_format_themselves(stored):
    tensors, expected = make(zeros=np.full((ROWS, 2), 8), stored_less=8 - stored)
    assert np.array_equal(only(find_gptq, tensors)[...].numpy(), expected)


def test_zero_points_of_an_untold_format_are_refused():
    with pytest.raises(InputError, match="which format of GPTQ"):
        only(find_gptq, make()[0])[...]


def test_symmetric_weights_with_other_zero_points_are_refused():
    tensors, _ = make(zeros=np.full((ROWS, 2), 8), stored_less=1)
    with pytest.raises(InputError, match="zero points from 7 to 7.*gptq_v2"):
        only(find_gptq, tensors, declared("gptq", bits=4, group_size=GROUP, sym=True, checkpoint_format="gptq_v2"))[...]


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({"x.scales": None}, {}, "without x.scales"),
        ({"x.scales": torch.ones(3, ROWS).half()}, {}, r"scales \[3, 32\]"),
        ({"x.qzeros": torch.zeros(2, 5, dtype=torch.int32)}, {}, "5 bits by the shapes, bits 4"),
        ({"x.g_idx": torch.zeros(63, dtype=torch.int32)}, {}, r"g_idx \[63\]"),
        ({"x.g_idx": torch.full((64,), 9, dtype=torch.int32)}, {}, "groups from 9 to 9"),
        ({"x.qweight": torch.zeros(8, ROWS)}, {}, "float32"),
        ({"x.scales": torch.full((2, ROWS), float("nan")).half()}, {}, "NaN"),
        ({}, {"bits": 8}, "4 bits by the shapes, bits 8 in quantization_config"),
        ({}, {"checkpoint_format": "marlin"}, "marlin"),
    ],
)
def test_a_damaged_weight_is_refused(change, settings, words):
    tensors = {name: one for name, one in {**make()[0], **change}.items() if one is not None}
    with pytest.raises(InputError, match=words):
        only(find_gptq, tensors, declared("gptq", **{"bits": 4, "group_size": GROUP, **settings}))[...]


def test_awq_orders_eight_output_features_in_its_own_way():
    """Nibbles 0, 2, 4, 6, 1, 3, 5, 7 from the lowest; zero points are stored as they are."""
    tensors = {
        "x.qweight": torch.tensor([[0x75316420], [0x75316420]]).int(),
        "x.qzeros": torch.tensor([[0x11111111]]).int(),
        "x.scales": torch.full((1, 8), 2.0).half(),
    }
    weight = only(find_gptq, tensors, declared("awq", bits=4, group_size=2, version="gemm", zero_point=True))
    assert weight[...].tolist() == [[2 * (feature - 1)] * 2 for feature in range(8)]


def test_awq_for_gemv_lies_along_the_input_features():
    tensors = {
        "x.qweight": torch.tensor([[0x76543210] * 16]).int().repeat(2, 1),
        "x.qzeros": torch.tensor([[0x31, 0, 0, 0]] * 2).int(),
        "x.scales": torch.tensor([[2.0, 1.0] + [0.0] * 30] * 2).half(),
    }
    weight = only(find_gptq, tensors, declared("awq", w_bit=4, q_group_size=64, version="gemv"))
    assert weight.shape == (2, 128)
    assert weight[...][1, :8].tolist() == [2 * (code - 1) for code in range(8)]
    assert weight[...][1, 64:72].tolist() == [code - 3 for code in range(8)]


def test_a_layout_that_the_configuration_does_not_name_is_refused():
    with pytest.raises(InputError, match="GPTQ's layout, and the method 'awq'"):
        only(find_gptq, make()[0], declared("awq", bits=4, group_size=GROUP, version="gemm"))
