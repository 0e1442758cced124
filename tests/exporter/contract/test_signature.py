"""The signature survives the manifest and refuses what a runtime could not use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),),
    outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "K", 49152)),),
    state=(
        StateSpec(past="past.0.k", present="present.0.k", kind="kv", dtype="float32", dims=("B", 3, "capacity", 64)),
        StateSpec(past="past.h", present="present.h", kind="recurrent", dtype="float32", dims=(1, "B", 32)),
    ),
)


def test_json_round_trip_gives_an_equal_signature() -> None:
    assert Signature.from_dict(json.loads(json.dumps(SIGNATURE.to_dict()))) == SIGNATURE


def test_has_input_knows_the_inputs_only() -> None:
    assert SIGNATURE.has_input("input_ids")
    assert not SIGNATURE.has_input("logits")
    assert not SIGNATURE.has_input("past.0.k")


def test_unknown_state_kind_is_refused() -> None:
    with pytest.raises(InputError, match="unknown kind.*paged.*kv, recurrent"):
        StateSpec(past="p", present="q", kind="paged", dtype="float32", dims=("B",))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "dims"), [("kv", ("B", 3, 64)), ("recurrent", ("B", "capacity"))])
def test_only_kv_state_has_a_capacity_axis(kind: Any, dims: tuple[int | str, ...]) -> None:
    with pytest.raises(InputError, match="wrong dims"):
        StateSpec(past="p", present="q", kind=kind, dtype="float32", dims=dims)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": None},
        {"inputs": [{"name": "x", "dtype": "int64"}]},
        {"inputs": [{"name": "x", "dtype": "int64", "dims": "BT"}]},
        {"inputs": [{"name": "x", "dtype": "int64", "dims": [1.5]}]},
        {"inputs": [{"name": "x", "dtype": "int64", "dims": [1], "layout": "NC"}]},
        {"inputs": ["x"]},
        {"state": [{"past": "p"}]},
        {"state": 3},
    ],
)
def test_altered_signature_is_one_input_error(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="signature"):
        Signature.from_dict({**SIGNATURE.to_dict(), **change})


def test_missing_section_is_an_input_error() -> None:
    data = SIGNATURE.to_dict()
    del data["outputs"]
    with pytest.raises(InputError, match="outputs"):
        Signature.from_dict(data)


def encoded(**changes):
    fields = {
        "past": "encoder_state.0.key",
        "present": "encoder_state.0.key",
        "kind": "encoder",
        "dtype": "float32",
        "dims": ("B", 2, "source", 8),
    }
    return StateSpec(**{**fields, **changes})


def test_an_encoders_inputs_and_outputs_follow_from_what_the_decoder_reads():
    kv = StateSpec(past="p", present="q", kind="kv", dtype="float32", dims=("B", 2, "capacity", 8))
    signature = Signature(inputs=(), outputs=(), state=(kv, encoded()))
    assert signature.written == (kv,)
    assert signature.encoded == (encoded(),)
    encoder = signature.encoder()
    assert [(spec.name, spec.dims) for spec in encoder.inputs] == [
        ("input_ids", ("B", "source")),
        ("attention_mask", ("B", "source")),
    ]
    assert [(spec.name, spec.dims) for spec in encoder.outputs] == [("encoder_state.0.key", ("B", 2, "source", 8))]
    assert Signature.from_dict(json.loads(json.dumps(signature.to_dict()))) == signature


@pytest.mark.parametrize("changes", [{"dims": ("B", 2, 5, 8)}, {"dims": ("B", 2, "capacity", 8)}, {"kind": "kv"}])
def test_an_encoders_tensor_has_an_axis_for_the_source(changes):
    with pytest.raises(InputError, match="has the wrong dims"):
        encoded(**changes)


def test_an_encoders_tensor_has_one_name():
    with pytest.raises(InputError, match="has two names"):
        encoded(present="another")
