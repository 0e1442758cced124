"""Recurrent layers in 8 bits: the written integers are the intended ones, and any other is found."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.gate.weights import check_weights
from jisu.exporter.passes.quantize_recurrent import count_places, quantize_recurrent
from jisu.exporter.precision.precision import PRECISIONS, RowFormat
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.weight_formats import choose_formats
from jisu.exporter.sources import load_source
from jisu.exporter.tracing.trace import trace
from tests.exporter.passes.draft import copied
from tests.support.own_modules import Recurrent, seeded

LAYERS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "both ways": partial(nn.LSTM, bidirectional=True)}


class Tagger(nn.Module):
    """One recurrent layer and nothing else that could be quantized, looking both ways or one."""

    def __init__(self, layer):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.layer = layer(8, 6, batch_first=True)

    def forward(self, ids):
        return self.layer(self.embedding(ids))[0]


class Twice(nn.Module):
    """One layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(20, 6), nn.LSTM(6, 6, batch_first=True)

    def forward(self, ids):
        return self.layer(self.layer(self.embedding(ids))[0])[0]


@pytest.mark.parametrize("target", ["ort-cpu", "portable"])
def test_a_layer_that_runs_twice_is_stored_once(target):
    module = seeded(Twice).eval()
    intended = {f"layer.{name}": rounded(getattr(module.layer, name)) for name in ("weight_ih_l0", "weight_hh_l0")}
    model = trace(module, [])
    assert quantize_recurrent(model.graph, quantized=intended, target=target) == 2
    assert sum(name.endswith(".codes") for name in model.graph.initializers) == 2


@functools.cache
def traced(layer):
    return trace(seeded(Tagger, LAYERS[layer]).eval(), [])


@pytest.fixture(params=[(layer, target) for layer in LAYERS for target in ("ort-cpu", "portable")], ids=str)
def quantized(request, tmp_path):
    layer, target = request.param
    module = seeded(Tagger, LAYERS[layer]).eval()
    names = [name for name, _ in module.layer.named_parameters() if name.startswith("weight")]
    intended = {f"layer.{name}": rounded(getattr(module.layer, name)) for name in names}
    model = copied(traced(layer))
    assert count_places(model.graph, quantized=intended) == 1
    assert quantize_recurrent(model.graph, quantized=intended, target=target) == 1
    assert quantize_recurrent(model.graph, quantized=intended, target=target) == 0
    ir.save(model, tmp_path / "model.onnx")
    return module, intended, tmp_path / "model.onnx"


def rounded(parameter):
    from jisu.calibration.w8a8.matmul import ActivationFormat, Int8Matmul
    from jisu.calibration.w8a8.static_activations import quantize_rows

    rows = quantize_rows(parameter.detach().numpy())
    return Int8Matmul(codes=rows.codes, scales=rows.scales, format=ActivationFormat(activation=None))


def test_the_graph_computes_with_the_rounded_weights(quantized):
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    module, intended, file = quantized
    for name, part in intended.items():
        getattr(module.layer, name.removeprefix("layer.")).data = torch.from_numpy(part.dequantize())
    ids = torch.arange(27).reshape(3, 9) % 20
    session = import_onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
    actual = session.run(None, {"input_ids": ids.numpy()})[0]
    with torch.inference_mode():
        expected = module(ids).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_written_integers_are_the_intended_ones(quantized):
    _, intended, file = quantized
    check = check_weights(file, intended)
    assert check.passed, check.detail


@pytest.mark.parametrize("fault", ["a code", "a scale", "exchanged"])
def test_any_other_integers_are_found(quantized, fault):
    _, intended, file = quantized
    first, second, *_ = [name for name in intended if "_ih_" in name] + [name for name in intended if "_hh_" in name]
    wrong = dict(intended)
    if fault == "a code":
        codes = intended[first].codes.copy()
        codes[3, 2] += 1 if codes[3, 2] < 100 else -1
        wrong[first] = replace(intended[first], codes=codes)
    elif fault == "a scale":
        wrong[first] = replace(intended[first], scales=intended[first].scales * np.float32(1.001))
    else:
        wrong[first], wrong[second] = intended[second], intended[first]
    assert not check_weights(file, wrong).passed


def test_a_choice_gives_recurrent_matrices_rows_and_leaves_the_rest_to_the_precision():
    matrices = matrices_of(seeded(Recurrent))
    assert {matrix.name for matrix in matrices if matrix.recurrent} == {
        f"layers.weight_{kind}_l{depth}" for kind in ("ih", "hh") for depth in (0, 1)
    }
    choice = choose_formats(matrices, PRECISIONS["int8"], keep=["layers.*_l1"])
    assert choice.formats["layers.weight_ih_l0"] == RowFormat()
    assert choice.formats["layers.weight_ih_l1"] is None
    assert not choice.calibrated
    assert Matrix(name="a", rows=1, features=1, embedding=False, storage=0).parameter == "a.weight"


def test_quantizing_a_source_leaves_it_as_it_was():
    source = load_source(seeded(Recurrent))
    before = {name: parameter.clone() for name, parameter in source.module.named_parameters()}
    choice = choose_formats(matrices_of(source.module), PRECISIONS["int8"])
    actual = quantize_source(source, choice).by_name
    assert {"layers.weight_hh_l1", "embedding.weight", "output.weight"} <= set(actual)
    assert all(torch.equal(before[name], parameter) for name, parameter in source.module.named_parameters())
