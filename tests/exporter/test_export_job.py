from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jisu.exporter.export_job import resume_key
from jisu.exporter.quantization.weight_formats import FormatChoice


def job(**changes: Any) -> Any:
    facts = {"keep": (), "sha256": "a", "target": "ort-cpu", "device": "cpu", **changes}
    return SimpleNamespace(
        source=SimpleNamespace(provenance={"name": "model", "sha256": facts["sha256"]}),
        prepared=SimpleNamespace(
            data=None,
            choice=FormatChoice(formats={}, algorithm="none"),
            options=SimpleNamespace(keep=facts["keep"]),
        ),
        target=facts["target"],
        request=SimpleNamespace(device=facts["device"]),
    )


def differing(one: Any, other: Any) -> list[str]:
    keys = [resume_key(one), resume_key(other)]
    return [name for name in keys[0] if keys[0][name] != keys[1][name]]


def test_what_calibrated_weights_depend_on_begins_anew() -> None:
    assert differing(job(), job()) == []
    assert differing(job(), job(sha256="b")) == ["the checkpoint"]
    assert differing(job(), job(target="portable")) == ["the target"]
    assert differing(job(), job(device="cuda")) == ["the device"]


def test_layers_that_a_mixed_precision_keeps_begin_anew_in_whatever_order() -> None:
    """Its choice of formats is empty until it has been found."""
    assert differing(job(), job(keep=("*.down_proj",))) == ["the precision or one of its options"]
    assert differing(job(keep=("a", "b")), job(keep=("b", "a"))) == []
