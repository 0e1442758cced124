from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.pipeline import export
from jisu.exporter.precision.precision import precision_named
from jisu.exporter.quantization.keep_integers import describe_second_rounding, keep_integers, kept_format
from jisu.exporter.quantization.kept_types import describe_kept
from jisu.exporter.sources import load_source
from jisu.exporter.sources.quantized import Integers, QuantizedWeight
from tests.support.models import llama_config, write_tiny
from tests.support.quantized_folders import GPTQ, float8, gptq, pack, rewrite


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("plain") / "model", llama_config(layers=1, tied=False))


def kept(folder, **options):
    source = load_source(folder)
    return source, keep_integers(source, **options)


def weight_of(codes, zeros, *, bits, group, groups=None):
    integers = Integers(
        codes=np.array(codes, np.uint8),
        scales=np.arange(1, 1 + np.size(zeros), dtype=np.float32).reshape(np.shape(zeros)),
        zero_points=np.array(zeros, np.uint8),
        bits=bits,
        group_size=group,
        groups=groups,
    )
    shape = integers.codes.shape
    return QuantizedWeight(
        name="x",
        shape=shape,
        form="form",
        parts={},
        bits=bits,
        code_bits=bits,
        group_size=group,
        integers=lambda: integers,
    )


def in_blocks(weight):
    from jisu.exporter.quantization.keep_integers import _kept

    values = weight[...].numpy()
    actual = _kept(weight, values, layer="x")
    return actual, np.array_equal(actual.dequantize(), values)


@pytest.mark.parametrize(
    ("bits", "zeros", "stored", "symmetric"),
    [
        (2, [[2, 2]], 4, True),
        (3, [[4, 4]], 4, True),
        (3, [[1, 5]], 4, False),
        (4, [[8, 8]], 4, True),
        (4, [[7, 7]], 4, False),
        (8, [[128, 128]], 8, True),
        (5, [[3, 9]], 8, False),
    ],
)
def test_narrow_codes_are_kept_in_the_next_wider_ones(bits, zeros, stored, symmetric):
    codes = np.arange(64).reshape(1, 64) % (1 << bits)
    actual, exact = in_blocks(weight_of(codes, zeros, bits=bits, group=32))
    assert exact
    assert (actual.format.bits, actual.format.block_size, actual.format.symmetric) == (stored, 32, symmetric)


@pytest.mark.parametrize(
    ("features", "group", "block"), [(128, 128, 128), (512, 512, 256), (96, 96, 32), (96, 48, 16), (64, 64, 64)]
)
def test_long_groups_become_blocks_with_one_scale(features, group, block):
    codes = np.arange(features).reshape(1, -1) % 16
    zeros = np.arange(features // group).reshape(1, -1) + 3
    actual, exact = in_blocks(weight_of(codes, zeros, bits=4, group=group))
    assert exact
    assert actual.format.block_size == block


def test_groups_that_no_block_divides_get_the_closest_form():
    codes = np.arange(64).reshape(1, -1) % 16
    actual, exact = in_blocks(weight_of(codes, np.arange(8).reshape(1, 8), bits=4, group=8))
    assert not exact
    assert (actual.format.bits, actual.format.block_size) == (8, 32)


def test_a_width_that_nothing_divides_stays_float():
    weight = weight_of(np.zeros((1, 24)), [[1]], bits=4, group=24)
    assert kept_format(weight, 24) == (None, False)


def test_every_matrix_of_a_folder_is_the_loaded_one_bit_for_bit(plain, tmp_path):
    folder, _ = rewrite(plain, tmp_path / "model", gptq, settings=GPTQ)
    source, actual = kept(folder)
    assert len(actual.by_name) == 7
    for name, quantized in actual.by_name.items():
        assert np.array_equal(quantized.dequantize(), source.module.get_parameter(name).numpy()), name
    record = actual.record["types"]["GPTQ, 4 bits, groups of 32, symmetric"]
    assert (record["stored"], record["exact"], record["weights"]) == ("4 bits, symmetric, blocks of 32", True, 7)
    said = "7 weights of type GPTQ, 4 bits, groups of 32, symmetric kept as 4 bits"
    assert any(line.startswith(said) and line.endswith("bit for bit.") for line in describe_kept(actual.record))


def test_floats_of_eight_bits_get_the_closest_form_and_its_error_is_stated(plain, tmp_path):
    folder, _ = rewrite(plain, tmp_path / "model", float8)
    _, actual = kept(folder)
    record = actual.record["types"]["float8 e4m3, a scale for each tensor (closest)"]
    assert record["exact"] is False
    assert 0 < record["rms_error"] < 0.01


def test_a_plain_folder_has_nothing_to_keep(plain):
    with pytest.raises(InputError, match="no quantization that could be kept"):
        kept(plain)


@pytest.mark.parametrize("target", ["portable", "ort-cuda"])
def test_an_artifact_with_a_folders_own_integers_is_accepted(plain, tmp_path, target):
    folder, _ = rewrite(plain, tmp_path / "model", gptq, settings=GPTQ, only=("proj.weight", "lm_head.weight"))
    # Random weights amplify what the runtime rounds; the exactness of the weights is tested above.
    artifact = export(folder, tmp_path / "out", target=target, keep_quantization=True, max_kl=0.2, min_top1=0.5)
    assert artifact.manifest.precision == "kept"
    assert artifact.manifest.source["quantization"]["method"] == "gptq"
    types = artifact.manifest.quantization["types"]
    assert types["GPTQ, 4 bits, groups of 32, symmetric"]["weights"] == 8


def test_rounding_a_second_time_is_said(plain, tmp_path):
    folder, _ = rewrite(plain, tmp_path / "model", gptq, settings=GPTQ)
    source = load_source(folder)
    said = describe_second_rounding(source, precision_named("int4"))
    assert said is not None
    assert "rounded to 4 bits already (gptq)" in said
    assert "--keep-quantization" in said
    assert describe_second_rounding(source, precision_named("int8")) is None
    assert describe_second_rounding(load_source(plain), precision_named("int4")) is None


def test_zero_points_are_kept_beside_the_codes(plain, tmp_path):
    def change(stem, weight):
        parts, expected = gptq(stem, weight)
        rows, columns = weight.shape
        zeros = (np.arange(columns // 32 * rows) % 15).reshape(columns // 32, rows)
        wide = torch.from_numpy(zeros.T.copy()).repeat_interleave(32, 1) + 1
        scales = parts[f"{stem}.scales"].T.float().repeat_interleave(32, 1)
        codes = expected / scales + 8
        return {**parts, f"{stem}.qzeros": pack(zeros, 4)}, (codes - wide) * scales

    folder, expected = rewrite(plain, tmp_path / "model", change, settings={**GPTQ, "sym": False})
    _, actual = kept(folder)
    assert {quantized.format.symmetric for quantized in actual.by_name.values()} == {False}
    for name, quantized in actual.by_name.items():
        assert np.array_equal(quantized.dequantize(), expected[name].numpy())


def test_scattered_groups_are_kept_side_by_side():
    groups = np.random.default_rng(0).permutation(np.arange(64) // 32)
    weight = weight_of(np.arange(128).reshape(2, 64) % 16, [[3, 5], [7, 9]], bits=4, group=32, groups=groups)
    actual, exact = in_blocks(weight)
    assert exact
    assert actual.format.bits == 4
    assert np.array_equal(groups[actual.columns], np.arange(64) // 32)


def test_groups_of_unequal_size_get_the_closest_form():
    weight = weight_of(np.arange(64).reshape(1, 64) % 16, [[3, 5]], bits=4, group=32, groups=np.arange(64) // 48)
    actual, exact = in_blocks(weight)
    assert not exact
    assert actual.columns is None


def act_order(stem, weight):
    """GPTQ with the groups of columns scattered, alike for all that read one input."""
    order = np.random.default_rng(weight.shape[1]).permutation(weight.shape[1])
    parts, expected = gptq(stem, weight[:, torch.from_numpy(order)])
    columns = np.argsort(order)
    codes = expected / parts[f"{stem}.scales"].T.float().repeat_interleave(32, 1) + 8
    scattered = torch.empty_like(expected)
    scattered[:, torch.from_numpy(order)] = expected
    parts[f"{stem}.qweight"] = pack(codes[:, torch.from_numpy(columns)].int().numpy(), 4).T.contiguous()
    return {**parts, f"{stem}.g_idx": torch.from_numpy((columns // 32).astype(np.int32))}, scattered


def test_an_artifact_with_scattered_groups_is_accepted(plain, tmp_path):
    folder, expected = rewrite(plain, tmp_path / "model", act_order, settings={**GPTQ, "desc_act": True})
    _, actual = kept(folder)
    for name, quantized in actual.by_name.items():
        assert quantized.columns is not None
        assert np.array_equal(quantized.dequantize(), expected[name].numpy()), name
    artifact = export(folder, tmp_path / "out", keep_quantization=True, max_kl=0.2, min_top1=0.5)
    steps = {step["pass"]: step["count"] for step in artifact.manifest.recipe}
    assert steps["order_inputs"] == 4  # queries, keys and values are one matmul, as are gate and up
    assert artifact.manifest.quantization["types"]["GPTQ, 4 bits, groups of 32, symmetric"]["exact"] is True
