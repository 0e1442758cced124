from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.statistics.statistics import InputStatistics
from jisu.calibration.w8a8.feeders import Feeder
from jisu.exporter.precision.precision import for_target, precision_named
from jisu.exporter.quantization.balanced_layers import channel_scales, describe_balanced
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.weight_formats import choose_formats
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

OUTLIER = 5
FACTOR = 50.0
UP, DOWN = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("up", "down"))


@pytest.fixture(scope="module")
def outlying(tmp_path_factory):
    """A model with one large channel behind its first norm, which no weight makes up for."""
    source = load_source(write_tiny_llama(tmp_path_factory.mktemp("outlying") / "source", layers=1))
    source.module.get_parameter("model.layers.0.input_layernorm.weight").data[OUTLIER] = FACTOR
    return source


@pytest.fixture(scope="module")
def data(outlying):
    return read_calibration_data(outlying, None, windows=2, window_tokens=32, shares={"random tokens": 1.0})


def plan_of(source):
    return choose_formats(matrices_of(source.module), precision_named("int8"), block_size=32)


def seen(squares, names=("q",)):
    squares = np.asarray(squares, np.float64)
    return InputStatistics(
        names=names,
        tokens=1,
        sum_abs=np.sqrt(squares),
        max_abs=np.sqrt(squares).astype(np.float32),
        sum_square=squares,
        gram=None,
        output_max_abs=(1.0,) * len(names),
    )


def test_a_large_channel_moves_into_the_weights_of_all_layers_that_read_it(outlying, data):
    actual = quantize_source(outlying, plan_of(outlying), data=data)
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    scales = [actual.by_name[name].channel_scales for name in names]
    assert all(np.array_equal(scales[0], other) for other in scales), "one norm takes the scales of all three"
    assert scales[0].argmax() == OUTLIER
    assert scales[0][OUTLIER] > 3 * np.delete(scales[0], OUTLIER).max()
    assert actual.record["algorithm"] == "balanced"
    assert actual.record["balanced"]["balanced"] >= 1
    assert actual.record["calibration"]["windows"] == 2


def test_without_text_nothing_is_balanced(outlying):
    actual = quantize_source(outlying, plan_of(outlying))
    assert all(part.channel_scales is None for part in actual.by_name.values())


def test_scales_of_the_layer_before_are_folded_into_its_rows(outlying, data):
    actual = quantize_source(outlying, plan_of(outlying), data=data)
    # What stands for down times up is what it was, though each of the two is scaled.
    down, up = actual.by_name[DOWN], actual.by_name[UP]
    assert down.channel_scales is None, "folded"
    own = {name: outlying.module.get_parameter(name).detach().numpy() for name in (UP, DOWN)}
    rows = np.linalg.norm(up.dequantize(), axis=1) / np.linalg.norm(own[UP], axis=1)
    columns = np.linalg.norm(down.dequantize(), axis=0) / np.linalg.norm(own[DOWN], axis=0)
    assert rows.max() / rows.min() > 1.2, "scaled"
    np.testing.assert_allclose(rows * columns, 1, rtol=0.02)


def test_rounding_input_and_weights_costs_less_than_without_scales(outlying, data):
    plain, balanced = (
        quantize_source(outlying, plan_of(outlying)),
        quantize_source(outlying, plan_of(outlying), data=data),
    )
    name = "model.layers.0.self_attn.v_proj.weight"
    weight = outlying.module.get_parameter(name).detach().numpy()
    inputs = np.random.default_rng(0).normal(size=(64, weight.shape[1])).astype(np.float32)
    inputs *= outlying.module.get_parameter("model.layers.0.input_layernorm.weight").detach().numpy()

    def error(part):
        scales = 1 if part.channel_scales is None else part.channel_scales
        blocks = (inputs / scales).reshape(64, -1, 32)
        step = abs(blocks).max(axis=-1, keepdims=True) / 127
        rounded = (np.rint(blocks / step) * step).reshape(inputs.shape) * scales
        return float(np.square(rounded @ part.dequantize().T - inputs @ weight.T).mean())

    assert error(balanced.by_name[name]) < 0.1 * error(plain.by_name[name])


def test_what_the_cache_holds_is_not_scaled(outlying, data):
    actual = quantize_source(outlying, plan_of(outlying), data=data).by_name["model.layers.0.self_attn.v_proj.weight"]
    rows = np.linalg.norm(actual.dequantize(), axis=1)
    own = outlying.module.get_parameter("model.layers.0.self_attn.v_proj.weight").detach().numpy()
    np.testing.assert_allclose(rows, np.linalg.norm(own, axis=1), rtol=0.05)


def test_scales_have_to_pay_more_where_they_may_cost_a_multiplication():
    weights = [np.ones((4, 4), np.float32)]
    little, much = seen([4, 1, 1, 1]), seen([4000, 1, 1, 1])
    feeder = Feeder(name="v", rows=np.arange(4))
    assert channel_scales(little, weights, block_size=4, feeder=None)[0] is None
    assert channel_scales(little, weights, block_size=4, feeder=feeder)[0] is not None
    assert channel_scales(much, weights, block_size=4, feeder=None)[0] is not None
    even = seen([1, 1, 1, 1])
    assert channel_scales(even, weights, block_size=4, feeder=feeder) == (None, 1.0)


def test_channels_of_one_row_of_the_feeder_are_scaled_alike():
    feeder = Feeder(name="v", rows=np.array([0, 1, 0, 1]))
    scales, error = channel_scales(seen([900, 1, 100, 1]), [np.ones((4, 4), np.float32)], block_size=4, feeder=feeder)
    assert scales is not None
    assert scales[0] == scales[2]
    assert scales[1] == scales[3]
    assert error < 0.9


@pytest.mark.parametrize("target", ["tensorrt", "ort-cuda"])
def test_targets_whose_inputs_are_not_rounded_balance_nothing(target):
    assert for_target(precision_named("int8"), target).algorithm == "rtn"


def test_the_record_in_words():
    record = {"inputs": 120, "balanced": 118, "relative_error": 0.432}
    assert describe_balanced(record) == "118 of 120 inputs, expected rounding error 0.43 of what it was"
    assert "help none of 3" in describe_balanced({"inputs": 3, "balanced": 0, "relative_error": None})
