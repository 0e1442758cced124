from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.external_data import check_external_data, external_locations
from tests.exporter.contract.test_hub_links import as_cache


def external(location: str, name: str = "w") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def save(folder: Path, tensors: list[onnx.TensorProto], nodes: list[onnx.NodeProto] | None = None) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(helper.make_graph(nodes or [], "g", [], [], tensors)).SerializeToString())
    return path


def test_every_location_is_found_also_in_attributes_and_subgraphs(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=external("c.bin"))], "inner", [], [])
    inner.initializer.append(external("b.bin"))
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    assert external_locations(save(tmp_path, [external("a.bin")], [node])) == {"a.bin", "b.bin", "c.bin"}


def test_a_location_with_a_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot exist"):
        check_external_data(save(tmp_path, [external("a\0b")]))


@pytest.mark.parametrize("location", ["../secret", "sub/../../secret", "sub/../w.bin", "/etc/hostname", "C:\\secret"])
def test_a_location_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"12345678")
    with pytest.raises(InputError, match="outside its folder"):
        check_external_data(save(folder, [external(location)]))


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"12345678")
    (folder / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="outside its folder"):
        check_external_data(save(folder, [external("w.bin")]))


def test_links_of_a_hubs_cache_are_followed_but_not_their_places_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save(tmp_path / "model", [external("w.bin")])
    (tmp_path / "model" / "w.bin").write_bytes(b"12345678")
    snapshot = as_cache(tmp_path / "model", tmp_path / "models--a--b")
    check_external_data(snapshot / "model.onnx")
    blob = (snapshot / "w.bin").resolve()
    (snapshot / "model.onnx").unlink()
    with pytest.raises(InputError, match="outside its folder"):
        check_external_data(save(snapshot, [external(f"../../blobs/{blob.name}")]))
    with pytest.raises(InputError, match="lie in two folders"):
        check_external_data(save(snapshot, [external("w.bin")]))


def test_a_missing_file_is_named_and_a_present_one_accepted(tmp_path: Path) -> None:
    path = save(tmp_path, [external("w.bin")])
    with pytest.raises(InputError, match=r"missing.*w\.bin"):
        check_external_data(path)
    (tmp_path / "w.bin").write_bytes(b"12345678")
    check_external_data(path)


def test_a_file_cut_anywhere_is_refused_or_seen_as_shorter(tmp_path: Path) -> None:
    path = save(tmp_path, [external("w.bin")])
    data = path.read_bytes()
    refused = 0
    for size in range(1, len(data)):
        path.write_bytes(data[:size])
        try:
            assert external_locations(path) <= {"w.bin"}
        except InputError:
            refused += 1
    assert refused > len(data) // 2


def test_random_bytes_never_crash(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "model.onnx"
    for _ in range(200):
        path.write_bytes(random.bytes(64))
        try:
            external_locations(path)
        except InputError:
            continue
