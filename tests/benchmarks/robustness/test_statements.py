from __future__ import annotations

import json

import pytest

from jisu.benchmarks.robustness.statements import new_statements, only_numbers, without

TREE = {"size": 3, "rope": {"base": 1e4, "factor": 2}, "eos": [1, 2], "tokens": [{"id": 0}, {"id": 1}], "unset": None}


def changed(**values):
    return json.dumps({**TREE, **values}).encode()


@pytest.mark.parametrize(
    ("damaged", "places"),
    [
        (changed(), []),
        (changed(size=4), [("size",)]),
        (changed(size=True), [("size",)]),
        (changed(rope={"base": 1e4, "factor": 3}), [("rope", "factor")]),
        (changed(rope={"base": 1e4, "fbctor": 2}), [("rope", "fbctor")]),
        (changed(rope={"base": 1e4}), []),
        (changed(size=None), []),
        (changed(eos=[]), []),
        (changed(eos_token_id=-1), []),
        (changed(swicth=False), []),
        (changed(size=False), [("size",)]),
        (changed(eos_token_id=1), [("eos_token_id",)]),
        (changed(eos=[1]), [("eos",)]),
        (changed(tokens=[{"id": 0}, {"id": 9}]), [("tokens", 1, "id")]),
        (b"{", None),
    ],
)
def test_what_a_damaged_file_says_anew_is_found(damaged, places):
    assert new_statements("config.json", changed(), damaged) == places


def test_statements_are_taken_out():
    damaged = changed(size=4, rope={"base": 1e4, "fbctor": 2}, tokens=[{"id": 0}, {"id": 9}])
    left = json.loads(without("config.json", damaged, [("size",), ("rope", "fbctor"), ("tokens", 1, "id")]))
    assert left == {"rope": {"base": 1e4}, "eos": [1, 2], "tokens": [{"id": 0}, {}], "unset": None}


def test_a_gguf_file_is_read_and_written_without_a_key(tmp_path):
    gguf = pytest.importorskip("gguf")
    from jisu.benchmarks.studies.gguf_architectures import architectures
    from jisu.benchmarks.studies.gguf_writing import write_gguf

    path = write_gguf(tmp_path / "a.gguf", architectures()["llama"])
    whole = path.read_bytes()
    renamed = whole.replace(b"llama.rope.freq_base", b"llama.rope.freq_basf")
    assert new_statements("", whole, renamed) == [("llama.rope.freq_basf",)]
    (tmp_path / "b.gguf").write_bytes(without("", renamed, [("llama.rope.freq_basf",)]))
    before, after = (gguf.GGUFReader(str(tmp_path / name)) for name in ("a.gguf", "b.gguf"))
    assert set(before.fields) - set(after.fields) == {"llama.rope.freq_base"}
    assert all((one.data == other.data).all() for one, other in zip(before.tensors, after.tensors, strict=True))
    assert only_numbers("", whole, whole[:-3] + b"abc")
    assert not only_numbers("", whole, renamed)


def test_numbers_of_safetensors_are_told_from_their_names(tmp_path):
    import numpy as np
    from safetensors.numpy import save

    whole = save({"weight": np.arange(8, dtype=np.float32)})
    assert only_numbers("model.safetensors", whole, whole[:-2] + b"ab")
    assert not only_numbers("model.safetensors", whole, whole.replace(b"weight", b"veight"))
    assert not only_numbers("model.safetensors", whole, whole[:-1])
    assert not only_numbers("config.json", b"{}", b"[]")
