from __future__ import annotations

import numpy as np
import pytest
import torch

from jisu.exporter.graph.merge_weights import quantized_alike
from jisu.exporter.precision.precision import GridFormat, WeightFormat, precision_named
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.calibration_texts import calibration_texts
from jisu.exporter.quantization.grids import grid_bytes, keep_grids, take_grids
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.options import QuantizationOptions
from jisu.exporter.quantization.prepared import prepare_quantization
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.weight_formats import choose_formats
from jisu.exporter.sources import load_source
from tests.exporter.passes.draft import Draft

OWN = GridFormat(bits=4, block_size=32, sums=True)


def put_on_grid(source):
    """Layers that were quantized before: in each block of 32 sixteen values that zero is none of."""
    generator = np.random.default_rng(0)
    for matrix in matrices_of(source.module):
        if not matrix.embedding:
            codes = generator.integers(0, 16, (matrix.rows, matrix.features // 32, 32)).astype(np.float32)
            codes[..., 0], codes[..., 1] = 0, 15
            steps = generator.uniform(0.01, 0.02, (matrix.rows, matrix.features // 32, 1)).astype(np.float16)
            weight = (codes - 7.4) * steps.astype(np.float32)
            layer = source.module.get_submodule(matrix.name)
            layer.weight.data = torch.from_numpy(weight.reshape(matrix.rows, matrix.features).astype(np.float32))


@pytest.fixture
def source(tiny_source):
    actual = load_source(tiny_source)
    put_on_grid(actual)
    return actual


def plan_of(source, precision="int4"):
    return choose_formats(matrices_of(source.module), precision_named(precision))


def test_layers_on_a_grid_keep_it_and_need_no_text(source):
    choice = keep_grids(source, plan_of(source))
    layers = {m.name for m in matrices_of(source.module) if not m.embedding}
    assert {name for name, form in choice.formats.items() if form == OWN} == layers
    assert (choice.algorithm, choice.calibrated) == ("grid", False)

    actual = quantize_source(source, choice)
    parameters = dict(source.module.named_parameters())
    assert set(actual.by_name) == {f"{name}.weight" for name in choice.formats}
    for name in layers:
        part, weight = actual.by_name[f"{name}.weight"], parameters[f"{name}.weight"].detach().numpy()
        # Sixteen steps of 0.4 steps of the grid: a fiftieth of what rounding anew would be off by.
        assert np.abs(part.dequantize() - weight).max() < 0.02 * 0.02, name
    assert actual.record["algorithm"] == "grid"


def test_a_layer_that_was_tuned_since_is_rounded_and_the_others_keep_their_grid(source):
    tuned = "model.layers.1.self_attn.v_proj"
    with torch.no_grad():
        source.module.get_submodule(tuned).weight[0, 0] += 0.003
    choice = keep_grids(source, plan_of(source))
    assert [n for n, form in choice.formats.items() if isinstance(form, WeightFormat) and form.bits == 4] == [tuned]
    assert (choice.algorithm, choice.calibrated) == ("gptq", True)

    data = read_calibration_data(source, None, windows=2, window_tokens=32)
    before = {name: value.detach().numpy().copy() for name, value in source.module.named_parameters()}
    actual = quantize_source(source, choice, data=data).by_name
    assert set(actual) == {f"{name}.weight" for name in choice.formats}
    errors = {name: np.abs(actual[name].dequantize() - before[name]).max() for name in actual if "layers" in name}
    assert [name for name, error in errors.items() if error > 0.02 * 0.02] == [f"{tuned}.weight"]
    queries = [
        Draft().weight(np.zeros((64, 64)), f"model.layers.{i}.self_attn.{n}_proj.weight") for i in (0, 1) for n in "qv"
    ]
    assert quantized_alike(queries[:2], actual)
    assert not quantized_alike(queries[2:], actual), "one of them reads sums of blocks, the other does not"


def test_eight_bits_and_weights_without_a_grid_are_left_alone(source, tiny_source):
    eight, other = plan_of(source, "int8"), load_source(tiny_source)
    assert keep_grids(source, eight) is eight
    assert keep_grids(other, choice := plan_of(other)) is choice


def test_the_bytes_are_those_of_what_is_stored(source):
    choice = keep_grids(source, plan_of(source))
    actual = take_grids(source, choice)
    for matrix in matrices_of(source.module):
        if not matrix.embedding:
            part = actual[f"{matrix.name}.weight"]
            packed = part.codes.size // 2 + 2 * part.scales.size + len(part.codes) * -(-part.scales.shape[1] // 2)
            assert grid_bytes(matrix, OWN, bytes_per_scale=2) == packed


def test_the_user_hears_what_was_done_instead_and_that_the_text_was_not_needed(source, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text("A text of one's own. " * 500, encoding="utf-8")
    options = QuantizationOptions(precision=precision_named("int4"), calibration=calibration_texts(text))
    prepared = prepare_quantization(source, options, evaluation="")
    assert prepared.data is None
    assert prepared.warnings == (
        "The weights of 21 layers lie on a grid of 4 bits already and keep it, so that the calibration text is not "
        "used; --block-size 32 would round them anew",
    )
    expected = QuantizationOptions(precision=precision_named("int4"), block_size=32)
    assert prepare_quantization(source, expected, evaluation="").choice.algorithm == "gptq"
