"""The table of families that read recordings: which types it is of, and that the page says what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.benchmarks.studies import audio_families
from jisu.benchmarks.studies.audio_families import _class_of, rendered

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "benchmarks" / "results" / "audio" / "families.json"


def test_types_are_those_whose_class_reads_recordings() -> None:
    from transformers import LlamaConfig, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, WhisperConfig

    assert _class_of(Qwen2AudioConfig()) is Qwen2AudioForConditionalGeneration
    assert _class_of(LlamaConfig()) is None
    assert _class_of(WhisperConfig()) is None  # an encoder that its decoder attends to


def test_what_cannot_be_made_small_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model_type: str, folder: Path) -> None:
        raise ValueError("sizes that do not fit\nmore")

    monkeypatch.setattr(audio_families, "_write", fails)
    assert audio_families.tried("voxtral", tmp_path) == ("not made", "ValueError: sizes that do not fit more")


def test_the_page_says_what_was_recorded() -> None:
    rows = json.loads(RECORD.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "audio.md").read_text(encoding="utf-8")
    assert rendered(rows).strip() in page
