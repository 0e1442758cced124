from __future__ import annotations

import numpy as np
import onnx_ir as ir

from jisu.exporter.contract.artifact import ENCODER, ENCODER_WEIGHTS, GRAPH, WEIGHTS, weight_file, weight_files
from jisu.exporter.graph.weights_file import save_encoder, save_graph
from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.lower_quantized_embedding import lower_quantized_embedding
from jisu.exporter.passes.quantize_weights import quantize_weights
from jisu.runtimes.backends.external_data import external_locations
from tests.exporter.passes.draft import Draft, noise, operators, run
from tests.exporter.passes.test_quantize_weights import FORMATS, quantized


def session_outputs(path, feeds):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([item.name for item in session.get_outputs()], session.run(None, feeds), strict=True))


def test_a_saved_graph_computes_what_the_one_in_memory_does(tmp_path):
    draft = Draft()
    x = draft.input("x", "B", 64)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(noise(64, 64), "w"), dims=["B", 64]))
    before = run(model, {"x": noise(2, 64)})["y"]
    save_graph(model, tmp_path)
    np.testing.assert_array_equal(session_outputs(tmp_path / GRAPH, {"x": noise(2, 64)})["y"], before)
    assert (tmp_path / WEIGHTS).stat().st_size == 64 * 64 * 4


def test_the_bytes_of_a_tied_table_are_stored_once(tmp_path):
    table, draft = noise(300, 64), Draft()
    ids = draft.input("ids", "B", "T", dtype=ir.DataType.INT64)
    weight = draft.weight(table, "table")
    rows = draft.op("Gather", weight, ids, dims=["B", "T", 64], dtype=ir.DataType.FLOAT, axis=0)
    turned = draft.op("Transpose", weight, dims=[64, 300], perm=[1, 0])
    model = draft.model(rows=rows, y=draft.op("MatMul", rows, turned, dims=["B", "T", 300]))
    integers = quantized(table, FORMATS[3])
    quantize_weights(model.graph, quantized={"table": integers}, target="portable")
    lower_matmul_nbits(model.graph)
    lower_quantized_embedding(model.graph)
    assert operators(model) == {"GatherBlockQuantized": 1, "MatMulNBits": 1}
    feeds = {"ids": np.array([[1, 299, 7]])}
    before = run(model, feeds)
    save_graph(model, tmp_path)
    codes, scales, zeros = 300 * 64, 300 * 4 * 4, 300 * 4
    # Each tensor starts at a multiple of the alignment, hence a little more than their sum.
    assert (tmp_path / WEIGHTS).stat().st_size < codes + scales + zeros + 4096
    actual = session_outputs(tmp_path / GRAPH, feeds)
    np.testing.assert_array_equal(actual["rows"], integers.dequantize()[feeds["ids"]])
    np.testing.assert_array_equal(actual["rows"], before["rows"])
    np.testing.assert_allclose(actual["y"], before["y"], atol=1e-4)


def product(*weights):
    """x times one weight after another, of 64 x 64 each."""
    draft = Draft()
    value = draft.input("x", "B", 64)
    for number, weight in enumerate(weights):
        value = draft.op("MatMul", value, draft.weight(weight, f"w{number}"), dims=["B", 64])
    return draft.model(y=value)


def test_what_an_encoder_shares_with_its_decoder_is_stored_once(tmp_path):
    shared, own, other = (noise(64, 64, seed=seed) for seed in range(3))
    decoder, encoder = product(shared, own), product(other, shared)
    before = run(encoder, {"x": noise(2, 64)})["y"]
    save_graph(decoder, tmp_path)
    save_encoder(encoder, tmp_path, decoder=decoder)
    assert (tmp_path / WEIGHTS).stat().st_size == 2 * 64 * 64 * 4
    assert (tmp_path / ENCODER_WEIGHTS).stat().st_size == 64 * 64 * 4
    np.testing.assert_array_equal(session_outputs(tmp_path / ENCODER, {"x": noise(2, 64)})["y"], before)


def test_an_encoder_without_weights_of_its_own_needs_no_file(tmp_path):
    decoder, encoder = product(noise(64, 64)), product(noise(64, 64))
    save_graph(decoder, tmp_path)
    save_encoder(encoder, tmp_path, decoder=decoder)
    assert not (tmp_path / ENCODER_WEIGHTS).exists() or not (tmp_path / ENCODER_WEIGHTS).stat().st_size
    assert session_outputs(tmp_path / ENCODER, {"x": noise(2, 64)})["y"].shape == (2, 64)


def test_weights_that_are_too_many_for_a_file_lie_in_several(tmp_path):
    size = 64 * 64 * 4
    model = product(*(noise(64, 64, seed=seed) for seed in range(5)))
    before = run(model, {"x": noise(2, 64)})["y"]
    save_graph(model, tmp_path, max_shard_size=2 * size)
    files = weight_files([file.name for file in tmp_path.iterdir()])
    assert files == (WEIGHTS, f"{WEIGHTS}-2", f"{WEIGHTS}-3")
    assert [(tmp_path / name).stat().st_size for name in files] == [2 * size, 2 * size, size]
    assert external_locations(tmp_path / GRAPH) == set(files)
    np.testing.assert_array_equal(session_outputs(tmp_path / GRAPH, {"x": noise(2, 64)})["y"], before)


def test_a_weight_that_is_larger_than_a_file_may_be_has_one_of_its_own(tmp_path):
    save_graph(product(*(noise(64, 64, seed=seed) for seed in range(3))), tmp_path, max_shard_size=1)
    assert [(tmp_path / weight_file(WEIGHTS, number)).stat().st_size for number in (1, 2, 3)] == [64 * 64 * 4] * 3


def test_files_are_as_many_as_needed_and_the_first_has_the_usual_name(tmp_path):
    weights = [noise(64, 64, seed=seed) for seed in range(3)]
    save_graph(product(*weights), tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / "cut").mkdir()
    save_graph(product(*weights), tmp_path / "cut", max_shard_size=len(whole) - 1)
    assert b"".join((tmp_path / "cut" / weight_file(WEIGHTS, number)).read_bytes() for number in (1, 2)) == whole


def test_an_encoders_files_are_numbered_too(tmp_path):
    shared, *own = (noise(64, 64, seed=seed) for seed in range(4))
    decoder, encoder = product(shared, own[0]), product(*own[1:], shared)
    before = run(encoder, {"x": noise(2, 64)})["y"]
    save_graph(decoder, tmp_path, max_shard_size=64 * 64 * 4)
    save_encoder(encoder, tmp_path, decoder=decoder, max_shard_size=64 * 64 * 4)
    names = [file.name for file in tmp_path.iterdir()]
    assert weight_files(names, ENCODER_WEIGHTS) == (ENCODER_WEIGHTS, f"{ENCODER_WEIGHTS}-2")
    assert external_locations(tmp_path / ENCODER) == {WEIGHTS, *weight_files(names, ENCODER_WEIGHTS)}
    np.testing.assert_array_equal(session_outputs(tmp_path / ENCODER, {"x": noise(2, 64)})["y"], before)
