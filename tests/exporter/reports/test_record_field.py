from __future__ import annotations

from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.reports.record_field import field_of

RECORD = {
    "precision": "int8",
    "files": {"model.onnx": {"size": 3}, "model.onnx.data": {"size": 4}},
    "gate": {
        "accepted": True,
        "checks": [{"name": "finite", "value": 0}, {"name": "prefill-2", "value": 0.5}],
        "quality": {"worst": None},
    },
    "model": {"eos": [2, 5]},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("precision", "int8"),
        ("gate.accepted", True),
        ("gate.quality.worst", None),
        ("gate.checks.prefill-2.value", 0.5),
        ("gate.checks.0.name", "finite"),
        ("files.model.onnx.size", 3),
        ("files.model.onnx.data.size", 4),
        ("model.eos", [2, 5]),
        ("model.eos.1", 5),
    ],
)
def test_a_path_leads_to_its_value(path: str, value: Any) -> None:
    assert field_of(RECORD, path) == value


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("presicion", r"no field presicion.*Allowed: precision, files, gate, model.*Did you mean precision\?"),
        ("gate.qualty.worst", r"Allowed: accepted, checks, quality.*Did you mean gate.quality.worst\?"),
        ("gate.checks.prefil-2.value", r"Did you mean gate.checks.prefill-2.value\?"),
        ("model.eos.2", r"Allowed: 0, 1"),
        ("precision.deeper", r"nothing below this value"),
        ("", r"no field"),
        ("zzzzzzzzzz", r"leave --field out to see all"),
    ],
)
def test_a_path_that_leads_nowhere_names_the_nearest(path: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        field_of(RECORD, path)
