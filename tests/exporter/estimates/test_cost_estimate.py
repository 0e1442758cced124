from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jisu.exporter.dry_run import estimate_export
from jisu.exporter.estimates import cost_estimate
from jisu.exporter.estimates.cost_estimate import _backward_bytes, _opened_share
from jisu.exporter.precision.precision import WeightFormat
from jisu.exporter.request import ExportRequest
from jisu.exporter.sources import load_source


def prepared(*block_sizes: int | None) -> Any:
    formats = {
        str(number): None if size is None else WeightFormat(bits=4, block_size=size, symmetric=True)
        for number, size in enumerate(block_sizes)
    }
    return SimpleNamespace(choice=SimpleNamespace(formats=formats))


@pytest.mark.parametrize(
    ("blocks", "share"),
    [((), 1.25), ((None,), 1.25), ((32, 32, 32, 128), 1.25), ((128, 128, 128, 32), 1.0)],
)
def test_kernels_add_to_the_scales_of_short_blocks(blocks: tuple[int | None, ...], share: float) -> None:
    assert _opened_share(prepared(*blocks)) == share


def test_a_backward_pass_holds_logits_and_the_layers_that_are_not_computed_again(
    tiny_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_source(tiny_source)
    vocabulary, layers = source.model.vocab_size, source.model.layers
    every = _backward_bytes(source, 32)
    monkeypatch.setattr(cost_estimate, "is_large", lambda _: True)
    one = _backward_bytes(source, 32)
    logits = 4 * 32 * 4 * vocabulary
    assert one > logits
    assert every - logits == layers * (one - logits)


def test_text_that_chooses_bits_takes_the_memory_of_a_backward_pass(
    tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peaks(**options: Any) -> dict[str, int]:
        request = ExportRequest(checkpoint=str(tiny_source), out=tmp_path / "out", **options)
        return {stage.name: stage.peak_bytes for stage in estimate_export(request).stages}

    choices: list[tuple[str, dict[str, Any]]] = [("quantize", {"precision": "int4"}), ("sensitivity", {"max_kl": 0.1})]
    for stage, options in choices:
        before = peaks(**options)
        with monkeypatch.context() as patch:
            patch.setattr(cost_estimate, "_backward_bytes", lambda *_: 1 << 40)
            after = peaks(**options)
        assert after[stage] > 1 << 40 > before[stage]


@pytest.mark.parametrize(("target", "stays"), [("ort-cuda", True), ("tensorrt", True), ("ort-cpu", False)])
def test_half_weights_of_a_large_graph_for_gpus_stay_in_the_file_while_it_is_verified(
    tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, stays: bool
) -> None:
    request = ExportRequest(checkpoint=str(tiny_source), out=tmp_path / "out", precision="fp16", target=target)

    def peak() -> int:
        return {stage.name: stage.peak_bytes for stage in estimate_export(request).stages}["verify"]

    monkeypatch.setattr(cost_estimate, "_opened_share", lambda _: 1e6)
    opened = peak()
    monkeypatch.setattr(cost_estimate, "WIDENED_WHEN_OPENED", 0)
    assert opened > 1e9
    assert (peak() < opened / 2) == stays


def verify_peak(checkpoint: Path, out: Path, **options: Any) -> int:
    request = ExportRequest(checkpoint=str(checkpoint), out=out, precision="int8", **options)
    return {stage.name: stage.peak_bytes for stage in estimate_export(request).stages}["verify"]


def test_of_a_large_artifact_the_gate_opens_what_is_left_of_the_memory(
    tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    small = verify_peak(tiny_source, out)
    monkeypatch.setattr(cost_estimate, "_opened_share", lambda _: 1e5)  # 20 GB
    monkeypatch.setattr(cost_estimate, "_largest", lambda _: 1000)
    largest = verify_peak(tiny_source, out)
    assert small + 0.9 * cost_estimate.OPEN_BYTES < largest < small + 1.1 * cost_estimate.OPEN_BYTES
    limited = verify_peak(tiny_source, out, max_memory=3_000_000_000)
    assert small < limited < 3_000_000_000
    assert verify_peak(tiny_source, out, max_memory=10_000_000_000) > largest
    least = verify_peak(tiny_source, out, max_memory=1)
    assert small + 0.9 * cost_estimate.PIECE_BYTES < least < limited, "a piece is always open"


def test_a_graph_that_is_not_run_in_pieces_is_opened_whole(
    speech_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_estimate, "_opened_share", lambda _: 1e5)
    assert verify_peak(speech_source, tmp_path / "out") > 1e9 + cost_estimate.OPEN_BYTES
