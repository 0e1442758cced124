from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.gate.half import foreign_types
from jisu.exporter.graph.evaluate import evaluate
from jisu.exporter.passes.compute_half import compute_half
from jisu.exporter.passes.compute_rope_tables import compute_rope_tables, find_frequencies
from jisu.exporter.passes.keep_float import keep_float
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

HALF = 32
FREQUENCIES = (10000.0 ** -(np.arange(HALF) / HALF)).astype(np.float32)
FEEDS = {"x": noise(1, 2, 3, 2 * HALF), "ids": np.array([[0, 700, 1023]])}


def tables(positions=1024, *, frequencies=FREQUENCIES, amplitude=1.0):
    """As a model computes them: the product and the functions in float32."""
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.float32(amplitude) * np.cos(angles), np.float32(amplitude) * np.sin(angles)


def rotation(cos: np.ndarray, sin: np.ndarray, *, readers: int = 1) -> ir.Model:
    draft = Draft()
    x, ids = draft.input("x", 1, 2, "T", 2 * HALF), draft.input("ids", 1, "T", dtype=ir.DataType.INT64)
    where = (draft.weight(cos, "cos"), draft.weight(sin, "sin"))
    for _ in range(readers):
        x = draft.op("RotaryEmbedding", x, *where, ids)
    return draft.model(y=x)


@pytest.mark.parametrize("amplitude", [1.0, 1.25])
def test_tables_are_computed_once_for_all_readers(amplitude):
    model = rotation(*tables(amplitude=amplitude), readers=3)
    before, names = run(copied(model), FEEDS)["y"], signature_names(model)
    assert compute_rope_tables(model.graph) == 1
    assert signature_names(model) == names
    counts = operators(model)
    assert (counts["Range"], counts["Cos"], counts["Sin"], counts["RotaryEmbedding"]) == (1, 1, 1, 3)
    assert sum(value.const_value.nbytes for value in model.graph.initializers.values()) < 1000
    np.testing.assert_allclose(run(model, FEEDS)["y"], before, atol=3e-6)  # three rotations of numbers up to 4
    assert compute_rope_tables(model.graph) == 0


def test_frequencies_are_found_to_the_last_bit_but_the_smallest():
    cos, sin = tables(8192)
    actual = find_frequencies(cos, sin)
    large = FREQUENCIES > 1e-3
    np.testing.assert_array_equal(actual[large], FREQUENCIES[large])
    assert np.abs(actual - FREQUENCIES).max() * 8192 < 3e-7


@pytest.mark.parametrize("positions", [1000, 131072])
def test_the_runtime_gives_the_tables_again_at_every_position(positions):
    cos, sin = tables(positions, frequencies=(500000.0 ** -(np.arange(HALF) / HALF)).astype(np.float32))
    model = rotation(cos, sin)
    assert compute_rope_tables(model.graph) == 1
    (reader,) = (node for node in model.graph if node.op_type == "RotaryEmbedding")
    for index, table in ((1, cos), (2, sin)):
        # Half a unit of the product p * f, where the smallest frequencies are off by one.
        np.testing.assert_allclose(evaluate(reader.inputs[index], {}, opset=24), table, atol=1e-6)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_graph_computed_in_half_keeps_every_digit_of_its_positions(half):
    # Above 2048 half precision has no odd numbers, and an angle of 3 to two digits more is another angle.
    cos, sin = tables(5000)
    model = rotation(cos, sin)
    assert compute_rope_tables(model.graph) == 1
    keep_float(model.graph, half=half, target="portable", kept=frozenset(), windows=None)
    compute_half(model.graph, half=half)
    assert foreign_types(model) == []
    (reader,) = (node for node in model.graph if node.op_type == "RotaryEmbedding")
    for index, table in ((1, cos), (2, sin)):
        np.testing.assert_allclose(evaluate(reader.inputs[index], {}, opset=24), table, atol=1e-6)


def test_other_tables_stay():
    cos, sin = tables()
    bent = sin.copy()
    bent[512:] = bent[511]
    short = tables(128)
    for pair in ((cos, bent), (sin, cos), (cos, np.full_like(sin, np.nan)), (-cos, sin), short):
        model = rotation(*pair)
        before = operators(model)
        assert compute_rope_tables(model.graph) == 0
        assert operators(model) == before
        assert set(model.graph.initializers) == {"cos", "sin"}
