from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.w8a8.feeders import Feeder
from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import WeightFormat, precision_named
from jisu.exporter.quantization import quantize_source as module
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.weight_formats import FormatChoice, choose_formats
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

EMBEDDINGS = {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    return load_source(write_tiny_llama(tmp_path_factory.mktemp("tied") / "source", layers=1))


@pytest.fixture(scope="module")
def untied(tiny_source):
    return load_source(tiny_source)


@pytest.fixture(scope="module")
def data(untied):
    return read_calibration_data(untied, None, windows=2, window_tokens=32)


def weights_of(source):
    return {name: value.detach().numpy().copy() for name, value in source.module.named_parameters()}


def quantize(source, precision, **options):
    choice = choose_formats(matrices_of(source.module), precision_named(precision), block_size=32)
    return quantize_source(source, choice, **options)


def test_nothing_to_quantize_gives_nothing(untied):
    actual = quantize_source(untied, FormatChoice(formats={}, algorithm="none"))
    assert (actual.by_name, actual.record) == ({}, {})


def test_the_names_are_those_of_the_checkpoint_and_the_source_stays_as_it_was(untied):
    before = weights_of(untied)
    actual = quantize(untied, "int8")
    assert set(actual.by_name) == {name for name, value in before.items() if value.ndim == 2}
    for name, part in actual.by_name.items():
        assert abs(part.dequantize() - before[name]).max() <= 0.51 * part.scales.max(), name
    assert all(np.array_equal(value, before[name]) for name, value in weights_of(untied).items())


def test_a_tied_embedding_is_quantized_once(tied):
    actual = quantize(tied, "int8")
    assert len({id(actual.by_name[name]) for name in EMBEDDINGS}) == 1


def test_calibrated_layers_beat_rounding_on_the_text_they_were_calibrated_on(untied, data):
    import torch

    def error(quantized):
        kept = {name: untied.module.get_parameter(name).detach().clone() for name in quantized.by_name}
        with torch.no_grad():
            ids = torch.from_numpy(np.stack(data.windows.as_list()))
            right = untied.module(ids).logits.log_softmax(-1)
            for name, part in quantized.by_name.items():
                untied.module.get_parameter(name).copy_(torch.from_numpy(part.dequantize()))
            wrong = untied.module(ids).logits.log_softmax(-1)
            for name, value in kept.items():
                untied.module.get_parameter(name).copy_(value)
        return float((right.exp() * (right - wrong)).sum(-1).mean())

    choice = choose_formats(matrices_of(untied.module), precision_named("int4"), block_size=32)
    before = weights_of(untied)
    calibrated = quantize_source(untied, choice, data=data)
    assert all(np.array_equal(value, before[name]) for name, value in weights_of(untied).items())
    assert calibrated.record["calibration"] == data.record
    assert calibrated.record["statistics"].startswith("sequential")
    rounded = quantize_source(untied, replace(choice, algorithm="none"))
    assert error(calibrated) < error(rounded)


def test_a_kept_layer_gets_no_integers(untied):
    choice = choose_formats(matrices_of(untied.module), precision_named("int8"), keep=["*.down_proj"], block_size=32)
    actual = quantize_source(untied, choice)
    assert not [name for name in actual.by_name if "down_proj" in name]
    assert [name for name in actual.by_name if "up_proj" in name]


def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path):
    source = load_source(write_tiny_llama(tmp_path / "source", layers=1))
    source.module.get_parameter("model.layers.0.mlp.up_proj.weight").data[0, 0] = np.nan
    with pytest.raises(InputError, match="up_proj"):
        quantize(source, "int8")


def test_progress_is_reported_to_the_end(untied):
    seen = []
    quantize(untied, "int8", progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]


def test_a_layer_that_makes_the_input_of_others_takes_their_scales_where_these_are_of_one_format(
    untied, data, monkeypatch
):
    four, six = (WeightFormat(bits=bits, block_size=32, symmetric=True) for bits in (4, 6))
    rows = np.arange(64)
    feeders = {reader: Feeder(name=name, rows=rows) for reader, name in (("a", "up"), ("b", "up"), ("c", "float"))}
    monkeypatch.setattr("jisu.calibration.w8a8.feeders.find_feeders", lambda *inputs: feeders)

    def readers(a, b):
        choice = FormatChoice(formats={"a": a, "b": b, "c": four, "up": four, "float": None}, algorithm="gptq")
        return set(module._feeders(untied, choice, data))

    assert readers(four, four) == {"a", "b"}
    assert readers(four, six) == set(), "they were searched apart"
