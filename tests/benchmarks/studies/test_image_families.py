"""The table of families that read images: what a row says, and how the page is made of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jisu.benchmarks.studies import image_families
from jisu.benchmarks.studies.image_families import main, reason, rendered

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "benchmarks" / "results" / "images" / "families.json"


def test_rows_are_kept_and_a_page_is_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: dict[str, Any] = {"one": ("passes", ""), "two": ("refused", "A. Received: marks | x. Allowed: y.")}
    types = []

    def run(model_type: str, seconds: int, tries: Any) -> dict[str, Any]:
        types.append(model_type)
        result, why = rows[model_type]
        return {"type": model_type, "result": result, "why": why}

    monkeypatch.setattr(image_families, "run_apart", run)
    out = tmp_path / "rows.json"
    assert main(["--out", str(out), "--types", "one", "two"]) == 0
    assert main(["--out", str(out), "--types", "one"]) == 0
    assert types == ["one", "two", "one"]
    capsys.readouterr()
    assert main(["--out", str(out), "--page"]) == 0
    page = capsys.readouterr().out
    assert "1 pass: one." in page
    assert "| two | marks \\\\| x |" in page.replace("\\", "\\\\")


def test_known_reasons_are_said_in_one_way() -> None:
    assert reason("X. Received: pixels that no way of preparing images gives. Allowed: y") == reason(
        "pixels that no way of preparing"
    )


def test_the_page_says_what_was_recorded() -> None:
    rows = json.loads(RECORD.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    assert rendered(rows).strip() in page
