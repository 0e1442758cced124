from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.quantization.output_projections import quantize_output_projections
from jisu.exporter.quantization.weight_formats import FormatChoice
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

FOUR = WeightFormat(bits=4, block_size=16, symmetric=False)
TABLES = ("model.embed_tokens", "lm_head")


def plan_of(form):
    return FormatChoice(formats=dict.fromkeys(TABLES, form), algorithm="gptq")


@pytest.fixture(scope="module")
def untied(tiny_source):
    return load_source(tiny_source)


def logit_error(source, weight, windows):
    """Mean square of what a changed output projection does to the logits."""
    import torch

    inputs = []
    handle = source.module.lm_head.register_forward_pre_hook(lambda _, entering: inputs.append(entering[0][0]))
    with torch.no_grad():
        for window in windows:
            source.module(torch.from_numpy(window)[None])
    handle.remove()
    difference = weight - source.module.lm_head.weight.detach().numpy()
    return float(np.square(torch.cat(inputs).numpy() @ difference.T).mean())


def test_an_output_projection_is_rounded_for_its_logits_and_the_embedding_is_left(untied):
    windows = [np.random.default_rng(seed).integers(0, 384, 64) for seed in range(8)]
    actual = quantize_output_projections(untied, plan_of(FOUR), windows)
    assert set(actual) == {"lm_head.weight"}

    own = untied.module.lm_head.weight.detach().numpy()
    nearest = round_to_nearest(own, FOUR.to_block_format(), layer="w").dequantize()
    errors = [logit_error(untied, weight, windows) for weight in (actual["lm_head.weight"].dequantize(), nearest)]
    assert errors[0] < 0.95 * errors[1], errors


def test_the_model_runs_once_for_all_formats_and_never_behind_what_enters(untied, monkeypatch):
    windows = [np.random.default_rng(0).integers(0, 384, 32)]
    alone = quantize_output_projections(untied, plan_of(FOUR), windows)["lm_head.weight"]
    runs, products = [], {}
    handle = untied.module.model.norm.register_forward_hook(lambda *_: runs.append("model"))
    last = untied.module.lm_head.register_forward_hook(lambda *_: runs.append("logits"))
    try:
        six = WeightFormat(bits=6, block_size=32, symmetric=False)
        quantize_output_projections(untied, plan_of(six), windows, products=products)
        later = quantize_output_projections(untied, plan_of(FOUR), windows, products=products)["lm_head.weight"]
    finally:
        handle.remove()
        last.remove()
    assert runs == ["model"]
    np.testing.assert_array_equal(later.codes, alone.codes)


def test_tied_tables_are_one_object(tmp_path):
    source = load_source(write_tiny_llama(tmp_path / "tied", layers=1))
    windows = [np.random.default_rng(0).integers(0, 96, 16)]
    actual = quantize_output_projections(source, plan_of(FOUR), windows)
    assert set(actual) == {f"{name}.weight" for name in TABLES}
    assert len({id(part) for part in actual.values()}) == 1


def test_rows_that_are_rounded_apart_are_rounded_alike(untied, monkeypatch):
    windows = [np.random.default_rng(0).integers(0, 384, 32)]
    whole = quantize_output_projections(untied, plan_of(FOUR), windows)["lm_head.weight"]
    monkeypatch.setattr("jisu.exporter.quantization.output_projections._ELEMENTS", 100 * 64)
    pieces = quantize_output_projections(untied, plan_of(FOUR), windows)["lm_head.weight"]
    assert (whole.codes == pieces.codes).mean() > 0.999  # sums of another order may move one


def test_eight_bits_are_left_to_be_rounded_to_the_nearest(untied):
    assert quantize_output_projections(untied, plan_of(WeightFormat(bits=8, block_size=32, symmetric=True)), []) == {}
