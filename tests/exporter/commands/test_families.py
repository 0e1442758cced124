"""`jisu families` prints the shipped table, filtered, and warns when it is about another transformers."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

import jisu
from jisu.exporter.commands.families import describe, describe_heads, describe_shown, stale
from jisu.exporter.reports.families import Families, Family, read_families
from jisu.exporter.reports.heads import Head, Heads, read_heads
from jisu.exporter.reports.shown_types import SHOWN, ShownType

PASSES = Family(
    model_type="alpha",
    passes=True,
    attention="fused",
    state=("kv",),
    layers=2,
    operators=40,
    worst=2e-6,
    seconds=5.0,
)
ONE = Family(
    model_type="scan",
    passes=True,
    attention="none",
    state=("recurrent",),
    one_token=True,
    layers=2,
    operators=90,
    worst=3e-6,
    seconds=4.0,
)
FAILS = Family(model_type="omega", passes=False, reason="It has no cache.")
TABLE = Families(transformers="5.0", families=(PASSES, ONE, FAILS))


def test_each_line_says_what_became_of_a_type() -> None:
    text = describe(TABLE, list(TABLE.families))
    assert text.splitlines() == [
        "transformers 5.0: 2 of 3 causal language models pass.",
        "alpha  passes  attention fused, state kv; 40 operators in 2 layers, error 2.0e-06, 5 s",
        "scan   passes  attention none, state recurrent, one token at a time; 90 operators in 2 layers, error 3.0e-06, "
        "4 s",
        "omega  no      It has no cache.",
    ]


def test_a_table_of_another_version_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "6.1")
    assert stale(TABLE) is not None
    assert "made with transformers 5.0; 6.1 is installed" in str(stale(TABLE))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "5.0")
    assert stale(TABLE) is None


def test_the_shipped_table_is_printed_and_filtered(capsys: pytest.CaptureFixture[str]) -> None:
    table = read_families()
    assert jisu.main(["families"]) == 0
    heads = {one.head for one in read_heads().heads}
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(table.families) + len(heads) + len(SHOWN)
    assert jisu.main(["families", "--failed", "--json"]) == 0
    actual = json.loads(capsys.readouterr().out)
    assert len(actual["families"]) == len(table.families) - table.passing
    assert all(entry["reason"] for entry in actual["families"])
    assert jisu.main(["families", "llama"]) == 0
    assert "llama  passes  attention fused" in capsys.readouterr().out


def test_types_that_are_shown_images_or_recordings_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    for model_type, line in (("smolvlm", "smolvlm images  passes"), ("qwen2_audio", "qwen2_audio recordings  passes")):
        assert jisu.main(["families", model_type]) == 0
        assert line in capsys.readouterr().out
    assert jisu.main(["families", "smolvlm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shown"][0]["result"] == "passes"
    alpha = ShownType(model_type="alpha", shown="images", result="passes", reason="")
    omega = ShownType(model_type="omega", shown="images", result="refused", reason="It has no marks.")
    assert describe_shown([alpha, omega], [alpha, omega]).splitlines() == [
        "images in a prompt: 1 of 2 tried model types pass.",
        "recordings in a prompt: 0 of 0 tried model types pass.",
        "alpha images  passes",
        "omega images  no      refused: It has no marks.",
    ]


def test_an_unknown_type_is_refused_with_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert jisu.main(["families", "lama"]) == 2
    assert "such as llama" in capsys.readouterr().err


def test_the_table_reads_back_what_it_writes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "table.json").write_text(TABLE.to_json(), encoding="utf-8")
    assert read_families(tmp_path / "table.json") == TABLE


def test_heads_have_their_counts_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    heads = Heads(
        transformers="5.0",
        heads=(
            Head(model_type="alpha", head="MaskedLM", passes=True, worst=2e-6, seconds=3.0),
            Head(model_type="omega", head="MaskedLM", passes=False, reason="It has no mask."),
        ),
    )
    assert describe_heads(heads, list(heads.heads)).splitlines() == [
        "MaskedLM, words for masks: 1 of 2 tried model types pass.",
        "alpha MaskedLM  passes  error 2.0e-06, 3 s",
        "omega MaskedLM  no      It has no mask.",
    ]


def test_a_type_that_only_reads_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    writes = {family.model_type for family in read_families().families}
    only_reads = next(one for one in read_heads().heads if one.model_type not in writes)
    assert jisu.main(["families", only_reads.model_type]) == 0
    assert f"{only_reads.model_type} {only_reads.head}" in capsys.readouterr().out
