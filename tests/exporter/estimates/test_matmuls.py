from __future__ import annotations

import pytest

from jisu.exporter.estimates.matmuls import (
    FLOAT,
    Kind,
    products_of,
)
from jisu.exporter.passes.recipes import recipe_for
from jisu.exporter.passes.run_recipe import run_recipe
from tests.exporter.passes.draft import copied

INT8 = Kind(operator="MatMulNBits", bits=8, block_size=32)


def test_products_of_a_graph_are_counted_by_shape(tiny_artifact):
    actual = {(one.kind, one.rows, one.features): one.count for one in products_of(tiny_artifact.graph)}
    hidden, vocabulary = 64, tiny_artifact.manifest.model.vocab_size
    assert actual == {
        (FLOAT, 2 * hidden, hidden): 3,  # queries, keys and values together
        (FLOAT, hidden, hidden): 3,
        (FLOAT, 4 * hidden, hidden): 3,  # gate and up together
        (FLOAT, hidden, 2 * hidden): 3,
        (FLOAT, vocabulary, hidden): 1,
    }


@pytest.mark.parametrize(
    ("precision", "kinds"),
    [
        ("int8", {INT8, Kind(operator="MatMulNBits", bits=8, block_size=64)}),
        ("w8a8-dynamic", {Kind(operator="MatMulIntegerToFloat", bits=8, row_scales=True), INT8}),
    ],
)
def test_quantized_products_are_known_by_their_operator(tiny_source, tiny_traced, tmp_path, precision, kinds):
    from jisu.exporter.gate.evaluation_text import read_evaluation_text
    from jisu.exporter.graph.weights_file import save_graph
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.precision.precision import precision_named
    from jisu.exporter.quantization.options import QuantizationOptions
    from jisu.exporter.quantization.prepared import complete_prepared, pass_context, prepare_quantization
    from jisu.exporter.quantization.run import run_quantization
    from jisu.exporter.sources import load_source

    source = load_source(tiny_source)
    options = QuantizationOptions(precision=precision_named(precision))
    prepared = prepare_quantization(source, options, evaluation=read_evaluation_text(None).text)
    prepared = complete_prepared(source, prepared, stages=Stages())
    quantized = run_quantization(source, prepared, measure=lambda _: None, target="ort-cpu", stages=Stages())
    model = copied(tiny_traced)
    context = pass_context(prepared, quantized.by_name, target="ort-cpu", max_positions=512)
    run_recipe(model, recipe_for("ort-cpu", precision), context)
    save_graph(model, tmp_path)
    actual = products_of(tmp_path / "model.onnx")
    assert {one.kind for one in actual} <= kinds
    assert sum(one.count for one in actual) >= 13
