from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.pipeline import export
from jisu.exporter.quantization.calibration_texts import calibration_texts
from jisu.exporter.request import ExportRequest, with_arguments_of

REQUESTED = {field.name for field in fields(ExportRequest) if field.init}


def test_the_public_function_has_the_arguments_of_a_request() -> None:
    signature = inspect.signature(export)
    assert set(signature.parameters) == REQUESTED
    assert [name for name, one in signature.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        "checkpoint",
        "out",
    ]
    assert signature.return_annotation == "Artifact"


def test_arguments_become_a_request(tmp_path: Path) -> None:
    accepted = with_arguments_of(ExportRequest)(lambda request: request)
    request = accepted("x.gguf", str(tmp_path / "out"), precision="int8", calibration="text.txt")
    assert request == ExportRequest("x.gguf", str(tmp_path / "out"), precision="int8", calibration="text.txt")
    assert request.folder == tmp_path / "out"
    assert request.options.calibration == calibration_texts("text.txt")


@pytest.mark.parametrize(("options", "message"), [({"out": "x", "precison": "int8"}, "precison"), ({}, "'out'")])
def test_a_wrong_argument_is_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        export("x.gguf", **options)  # type: ignore[arg-type]
    assert "ExportRequest" not in str(caught.value)


def test_a_recipe_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="no recipe"):
        ExportRequest("x.gguf", "out", target="tensorrt", precision="mixed", max_kl=0.1)


def test_kept_integers_and_an_adapter_are_refused_together() -> None:
    with pytest.raises(InputError, match="adapter"):
        ExportRequest("x.gguf", "out", keep_quantization=True, adapters=["lora"])


def test_a_request_goes_through_as_it_is(tmp_path: Path) -> None:
    request = ExportRequest("checkpoint", tmp_path / "out", precision="int8")
    assert with_arguments_of(ExportRequest)(lambda request: request)(request) is request
