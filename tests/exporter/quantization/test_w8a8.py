from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.w8a8.pair_sums import pair_sums
from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import Int8MatmulFormat, WeightFormat, precision_named
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.w8a8 import RANDOM_WINDOWS, _fewest, _held_back, find_products
from jisu.exporter.quantization.weight_formats import choose_formats
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_embedder


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


@pytest.fixture(scope="module")
def data(source):
    return read_calibration_data(source, None, windows=6, window_tokens=32)


def planned(source, precision="w8a8"):
    return choose_formats(matrices_of(source.module), precision_named(precision))


def outcome(source, data, *, max_kl, precision="w8a8"):
    return find_products(source, planned(source, precision), data, max_kl=max_kl, feeders={})


def test_within_a_wide_budget_every_layer_is_a_product(source, data):
    result = outcome(source, data, max_kl=100.0)
    layers = {matrix.name for matrix in matrices_of(source.module) if not matrix.embedding}
    assert set(result.products) == layers
    assert result.kept == ()
    assert result.record["kept"] == []
    assert result.record["random_windows"] == RANDOM_WINDOWS


def test_within_no_budget_every_layer_keeps_its_inputs(source, data):
    result = outcome(source, data, max_kl=1e-12)
    assert result.products == {}
    assert len(result.record["kept"]) == len(result.kept) > 0
    errors = [group["token_error"] for group in result.record["kept"]]
    assert errors == sorted(errors, reverse=True), "the worst first"


def test_a_fixed_scale_covers_random_tokens_too(source, data):
    fixed = outcome(source, data, max_kl=100.0).products["model.layers.0.mlp.down_proj"]
    dynamic = outcome(source, data, max_kl=100.0, precision="w8a8-dynamic").products["model.layers.0.mlp.down_proj"]
    assert dynamic.format.activation is None
    assert fixed.format.activation is not None
    largest = []
    layer = source.module.get_submodule("model.layers.0.mlp.down_proj")
    handle = layer.register_forward_pre_hook(lambda _, inputs: largest.append(inputs[0].abs().amax((0, 1)).numpy()))
    try:
        import torch

        with torch.no_grad():
            for window in np.delete(data.windows.ids, _held_back(data), axis=0):
                source.module(torch.from_numpy(window)[None], use_cache=False)
    finally:
        handle.remove()
    from_text = float((np.max(largest, axis=0) / fixed.channel_scales).max())
    assert fixed.format.activation.scale * 127 > from_text


def test_the_same_text_gives_the_same_products(source, data):
    first, second = (outcome(source, data, max_kl=100.0).products for _ in range(2))
    for name, product in first.items():
        assert np.array_equal(product.codes, second[name].codes)
        assert product.format == second[name].format


def test_layers_that_are_kept_get_8_bit_weights(source, data, monkeypatch):
    from jisu.calibration.weights.formats import BlockQuantized

    choice = replace(planned(source), max_kl=1e-12)
    result = quantize_source(source, choice, data=data)
    layer = result.by_name["model.layers.0.mlp.down_proj.weight"]
    assert isinstance(layer, BlockQuantized)
    assert layer.format == WeightFormat(bits=8, block_size=32, symmetric=True).to_block_format()
    assert result.record["products"]["kept"]


@pytest.mark.parametrize(("precision", "share"), [("w8a8", 0.15), ("w8a8-dynamic", 0.5)])
def test_fixed_scales_are_given_less_of_the_budget(source, data, monkeypatch, precision, share):
    """What they lose in a language that the mixture has not is a few times what they lose in the mixture."""
    limits = []
    monkeypatch.setattr(
        "jisu.exporter.quantization.w8a8._fewest",
        lambda divergence, count, limit: limits.append(limit) or _fewest(divergence, count, limit),
    )
    outcome(source, data, max_kl=0.08, precision=precision)
    assert limits == [pytest.approx(share * 0.08)]


@pytest.mark.parametrize("needed", [0, 1, 3, 4, 5, 9, 10])
def test_as_few_are_kept_as_the_limit_asks_for(needed):
    count, tried = _fewest(lambda kept: 1.0 if kept < needed else 0.1, 10, 0.5)
    assert count == needed
    assert len(tried) <= 6


@pytest.mark.parametrize("kernels", ["any", "vnni"])
def test_weights_use_all_codes_only_where_kernels_are_assumed(source, data, kernels):
    choice = planned(source)
    forms = {
        name: replace(form, kernels=kernels) if is_product(form) else form for name, form in choice.formats.items()
    }
    result = find_products(source, replace(choice, formats=forms), data, max_kl=100.0, feeders={})
    largest = max(int(pair_sums(product.codes).max()) for product in result.products.values())
    assert (largest <= 128) == (kernels == "any")


def is_product(form):
    return isinstance(form, Int8MatmulFormat)


@pytest.mark.parametrize("precision", ["w8a8", "w8a8-dynamic"])
@pytest.mark.parametrize("options", [{"block_size": 32}, {"symmetric": True}])
def test_options_of_blocks_are_refused(source, precision, options):
    with pytest.raises(InputError, match="has no blocks"):
        choose_formats(matrices_of(source.module), precision_named(precision), **options)


def test_windows_of_every_part_are_held_back(data):
    parts = ("own writing", "own writing", "random tokens", "code", "own writing", "prose")
    assert _held_back(replace(data, parts=parts)) == [0, 3, 5, 1, 4]
    assert _held_back(replace(data, parts=())) == [1, 2, 3, 4, 5]


def test_an_encoder_has_codes_above_the_bound_of_its_activation_and_fixed_scales_where_they_add_little(tmp_path):
    source = load_source(write_tiny_embedder(tmp_path))
    data = read_calibration_data(source, None, windows=6, window_tokens=32)
    products = outcome(source, data, max_kl=100.0, precision="w8a8-dynamic").products
    bounds = {name: part.format.lower_bound for name, part in products.items()}
    # The least value of a GELU.
    behind_gelu = [bound for name, bound in bounds.items() if name.endswith(".output.dense") and bound is not None]
    assert behind_gelu == [pytest.approx(-0.17, abs=1e-3)] * len(behind_gelu) != []
    assert any(part.format.activation is not None for part in products.values())
    assert any(part.format.activation is None for part in products.values())
    fixed = outcome(source, data, max_kl=100.0, precision="w8a8").products
    assert all(part.format.lower_bound is None for part in fixed.values())


def test_a_decoder_finds_every_scale_when_it_runs(source, data):
    products = outcome(source, data, max_kl=100.0, precision="w8a8-dynamic").products
    assert all(part.format.activation is None for part in products.values())
