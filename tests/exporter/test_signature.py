"""The signature survives the manifest and refuses what a runtime could not use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exporter.errors import InputError
from exporter.signature import Signature, StateSpec, TensorSpec

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
