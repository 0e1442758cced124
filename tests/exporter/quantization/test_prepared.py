from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import for_target, precision_named
from jisu.exporter.quantization.calibration_texts import calibration_texts
from jisu.exporter.quantization.mixed_precision import Goal
from jisu.exporter.quantization.options import QuantizationOptions
from jisu.exporter.quantization.prepared import prepare_quantization
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

NO_TEXT = calibration_texts("none", optional=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return load_source(write_tiny_llama(tmp_path_factory.mktemp("prepared") / "source", layers=1))


def prepared(source, name, *, target="ort-cpu", **options):
    precision = for_target(precision_named(name), target)
    chosen = QuantizationOptions(precision=precision, calibration=NO_TEXT, **options)
    return prepare_quantization(source, chosen, evaluation="", target=target)


@pytest.mark.parametrize("name", ["int4", "int8"])
def test_without_text_weights_are_rounded_to_the_nearest(source, name):
    ready = prepared(source, name)
    assert (ready.choice.algorithm, ready.data) == ("rtn", None)
    weights = quantize_source(source, ready.choice, data=ready.data)
    assert weights.record["algorithm"] == "rtn"
    assert "calibration" not in weights.record
    for key, part in weights.by_name.items():
        own = source.module.get_parameter(key).detach().numpy()
        steps = np.repeat(part.scales, part.format.block_size, axis=1)[:, : own.shape[1]]
        assert np.abs(part.dequantize() - own).max() < 2 * steps.max(), key


@pytest.mark.parametrize(("target", "bits"), [("ort-cpu", {6}), ("portable", {4, 8})])
def test_without_text_6_bits_are_for_files_that_can_hold_them(source, target, bits):
    ready = prepared(source, "int4", target=target)
    assert {form.bits for form in ready.choice.formats.values() if form is not None} == bits


def test_a_precision_without_integers_needs_no_text_anyway(source):
    assert prepared(source, "fp32").data is None


@pytest.mark.parametrize("name", ["w8a8", "w8a8-dynamic"])
def test_activations_of_8_bits_are_not_rounded_without_text(source, name):
    with pytest.raises(InputError, match=rf"precision {name} for the target ort-cpu.*--calibration none"):
        prepared(source, name)


def test_a_mixed_precision_is_not_chosen_without_text(source):
    with pytest.raises(InputError, match="precision mixed"):
        prepared(source, "mixed", goal=Goal(max_kl=0.1))


def test_the_range_of_half_activations_is_not_known_without_text(source):
    with pytest.raises(InputError, match="precision int4 for the target ort-cuda"):
        prepared(source, "int4", target="ort-cuda")
