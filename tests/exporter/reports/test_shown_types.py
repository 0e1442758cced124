from __future__ import annotations

import json
from pathlib import Path

from jisu.exporter.reports.shown_types import TABLE, read_shown_types, shown_types_json

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def test_the_shipped_table_is_what_the_studies_found():
    folders = {"images": "images", "recordings": "audio"}
    results = {
        shown: json.loads((RESULTS / folder / "families.json").read_text(encoding="utf-8"))
        for shown, folder in folders.items()
    }
    assert TABLE.read_text(encoding="utf-8") == shown_types_json(results)


def test_what_does_not_pass_has_a_reason():
    table = read_shown_types()
    assert {one.shown for one in table} == {"images", "recordings"}
    assert all(one.passes or one.reason for one in table)
    assert len({(one.model_type, one.shown) for one in table}) == len(table)
