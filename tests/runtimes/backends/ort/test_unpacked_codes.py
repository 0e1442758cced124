from __future__ import annotations

import builtins
import gc
import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from jisu.exporter.contract.code_planes import UNPACKS
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
from jisu.exporter.graph.weights_file import save_graph
from jisu.exporter.passes.lower_matmul_nbits import lower_matmul_nbits
from jisu.exporter.passes.lower_quantized_embedding import lower_quantized_embedding
from jisu.exporter.passes.pack_narrow_codes import pack_narrow_codes
from jisu.exporter.passes.quantize_weights import quantize_weights
from jisu.runtimes.backends.ort import unpacked_codes
from jisu.runtimes.backends.ort.session import open_session
from jisu.runtimes.backends.ort.unpacked_codes import Room, read_unpacked
from tests.exporter.passes.draft import Draft, noise, tied_embedding
from tests.exporter.passes.test_pack_narrow_codes import FEATURES, FEEDS, ROWS, rounded


@pytest.fixture(params=[5, 6, 7, 8])
def graph(request, tmp_path):
    """A tied embedding of so many bits and a layer of 6, written with their weights beside them."""
    table, layer, draft = noise(ROWS, FEATURES), noise(ROWS, FEATURES), Draft()
    rows, product = tied_embedding(draft, table)
    x = next(value for value in draft.inputs if value.name == "x")
    model = draft.model(
        rows=rows,
        y=product,
        z=draft.op("MatMul", x, draft.weight(layer.T, "v"), dims=["B", "T", ROWS]),
    )
    integers = {"w": rounded(table, request.param), "v": rounded(layer, 6)}
    quantize_weights(model.graph, quantized=integers, target="ort-cpu")
    lower_matmul_nbits(model.graph)
    lower_quantized_embedding(model.graph)
    pack_narrow_codes(model.graph, quantized=integers)
    RemoveUnusedNodesPass()(model)
    save_graph(model, tmp_path)
    return tmp_path / "model.onnx"


def folded(graph):
    """What the runtime answers when it folds the codes itself."""
    session = import_onnxruntime().InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session.run(None, FEEDS)


def test_answers_are_those_of_the_file_to_the_last_bit(graph):
    session = open_session(graph, threads=1)
    gc.collect()
    for _ in range(3):
        for actual, expected in zip(session.run(None, FEEDS), folded(graph), strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert isinstance(session.jisu_codes, Room)


def test_nothing_is_left_to_fold(graph):
    data, _ = read_unpacked(graph, import_onnxruntime().SessionOptions())
    model = onnx.ModelProto.FromString(data)
    assert {node.op_type for node in model.graph.node} == {"GatherBlockQuantized", "MatMulNBits"}
    assert not [tensor.name for tensor in model.graph.initializer if ".plane" in tensor.name or "shift" in tensor.name]


def test_what_is_given_back_is_still_there_and_no_longer_in_memory():
    def resident():
        fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return sum(int(fields[name].split()[0]) for name in ("RssFile", "RssShmem")) << 10

    room = Room(32 << 20)
    codes = room.take(1024, 32 << 10)
    codes[:] = 7
    before = resident()
    with room.given_back():
        pass
    assert before - resident() > 24 << 20
    assert int(codes.min()) == int(codes.max()) == 7


def test_codes_are_given_back_while_a_session_opens(monkeypatch):
    room, times = Room(64), []
    monkeypatch.setattr(unpacked_codes, "_GIVEN_BACK_SECONDS", 0.001)
    monkeypatch.setattr(Room, "give_back", lambda self: times.append(1))
    with room.given_back():
        deadline = time.monotonic() + 10
        while not times and time.monotonic() < deadline:
            time.sleep(0.001)
        assert times, "before the session is open"


def full(*_):
    raise OSError("No space left on device")


@pytest.mark.parametrize("reserve", [full, None])
def test_a_full_disk_and_a_system_that_cannot_tell_leave_them_in_memory(graph, monkeypatch, reserve):
    if reserve is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", reserve)
    session = open_session(graph, threads=1)
    assert not session.jisu_codes._in_file
    np.testing.assert_array_equal(session.run(None, FEEDS)[1], folded(graph)[1])


def test_without_onnx_the_runtime_folds_them(graph, monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **options):
        if name == "onnx":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    session = open_session(graph, threads=1)
    assert not hasattr(session, "jisu_codes")
    np.testing.assert_array_equal(session.run(None, FEEDS)[1], folded(graph)[1])


def test_planes_that_do_not_belong_together_are_refused(graph):
    model = onnx.load(graph, load_external_data=False)
    plane = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("plane2"))
    plane.dims[2] //= 2
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="cannot open"):
        open_session(graph, threads=1)


def changed(graph, change, planes=("plane4",)):
    """The file with some of its planes changed."""
    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(tuple(planes)):
            change(tensor)
    graph.write_bytes(model.SerializeToString())
    return graph


def set_entry(tensor, key, value):
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value


@pytest.mark.parametrize(
    "change",
    [
        lambda plane: set_entry(plane, "offset", str(1 << 40)),
        lambda plane: set_entry(plane, "length", "1"),
        lambda plane: plane.dims.__setitem__(0, 0),
        lambda plane: setattr(plane, "name", "other"),
    ],
    ids=["beyond the file", "of one byte", "of no rows", "called something else"],
)
def test_planes_that_are_not_all_there_are_refused(graph, change):
    with pytest.raises(InputError, match="cannot open"):
        open_session(changed(graph, change), threads=1)


def test_planes_that_all_lie_beyond_their_file_are_no_zeros(graph):
    beyond = changed(graph, lambda plane: set_entry(plane, "offset", str(1 << 40)), ["plane4", "plane2", "plane1"])
    with pytest.raises(InputError, match="ends before"):
        open_session(beyond, threads=1)


def test_other_bits_than_the_planes_have_are_refused(graph):
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        for entry in node.metadata_props:
            if entry.key == UNPACKS:
                entry.value = "x"
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="says that it has codes of x"):
        open_session(graph, threads=1)


def test_a_folder_of_links_as_a_hub_cache_has_them_is_opened(graph, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, name in enumerate(("model.onnx", "model.onnx.data")):
        (tmp_path / name).rename(blobs / f"{number}")
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    session = open_session(snapshot / "model.onnx", threads=1)
    assert session.run(None, FEEDS)[1].shape == (2, 3, ROWS)


def test_constants_that_only_an_output_reads_stay(graph):
    model = onnx.load(graph, load_external_data=False)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(3, dtype=np.int64), "three"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("three", onnx.TensorProto.INT64, [3]))
    graph.write_bytes(model.SerializeToString())
    assert open_session(graph, threads=1).run(["three"], FEEDS)[0].tolist() == [0, 1, 2]


def test_a_graph_without_planes_is_opened_as_it_is(tmp_path, monkeypatch):
    draft = Draft()
    x = draft.input("x", "B", "T", FEATURES)
    model = draft.model(y=draft.op("MatMul", x, draft.weight(noise(FEATURES, ROWS), "w"), dims=["B", "T", ROWS]))
    save_graph(model, tmp_path)
    monkeypatch.setattr(unpacked_codes, "unpack_codes", None)
    assert read_unpacked(tmp_path / "model.onnx", None) is None
    assert open_session(tmp_path / "model.onnx", threads=1).get_inputs()[0].name == "x"
