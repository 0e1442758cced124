"""The table of second opinions: what becomes of one model, and how the document shows it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from jisu.benchmarks.studies.gguf_architectures import architectures
from jisu.benchmarks.studies.gguf_writing import write_gguf
from jisu.benchmarks.studies.second_opinions import Row, examine_gguf, model_types, read_rows, render

gguf = pytest.importorskip("gguf", reason="writing GGUF files needs the gguf package")


@pytest.mark.parametrize("name", sorted(architectures()))
def test_a_file_of_each_architecture_says_what_it_is(name: str, tmp_path: Path) -> None:
    made = architectures()[name]
    reader = gguf.GGUFReader(write_gguf(tmp_path / "model.gguf", made))
    assert reader.fields["general.architecture"].contents() == made.name
    assert {tensor.name for tensor in reader.tensors} == set(made.shapes)
    assert set(made.known) <= set(made.variants)


def test_a_variant_changes_settings_and_tensors(tmp_path: Path) -> None:
    made = architectures()["llama"]
    factors = gguf.GGUFReader(write_gguf(tmp_path / "factors.gguf", made, variant="frequency factors"))
    assert "rope_freqs.weight" in {tensor.name for tensor in factors.tensors}
    other = gguf.GGUFReader(write_gguf(tmp_path / "other.gguf", made, variant="no rotary base"))
    assert "llama.rope.freq_base" not in other.fields


def test_what_we_refuse_is_told_from_who_cannot_be_asked(tmp_path: Path) -> None:
    refused = list(examine_gguf("deci", tmp_path, python="/nowhere/python"))
    assert [row.outcome for row in refused] == ["refused"]
    assert "architecture 'deci'" in refused[0].detail


def test_at_least_forty_model_types_and_twenty_five_architectures_are_asked_about() -> None:
    assert len(model_types()) >= 40
    assert len({made.name for made in architectures().values()}) >= 25


def test_rows_are_read_back_and_shown(tmp_path: Path) -> None:
    rows = [
        Row(
            kind="gguf", name="llama", variant="", outcome="agrees", implementation="llama.cpp (1)", error=5e-6, kl=0.0
        ),
        Row(kind="gguf", name="llama", variant="window", outcome="refused", detail="a | b <s>"),
        Row(kind="folder", name="gpt2", variant="", outcome="diverges", error=0.5, detail="logits"),
    ]
    table = tmp_path / "table.json"
    table.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    assert read_rows(table) == rows
    text = render(rows)
    assert "1 names, 2 models: 1 agrees, 1 refused. Asked: llama.cpp (1)." in text
    assert "| llama |  | agrees | 5e-06 | 0 |  |" in text
    assert "a \\| b &lt;s>" in text
    assert "| gpt2 |  | diverges | 0.5 |  | logits |" in text
