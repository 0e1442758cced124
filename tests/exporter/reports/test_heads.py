from __future__ import annotations

import dataclasses

from jisu.exporter.reports.heads import HEADS, Head, Heads, read_heads


def test_the_shipped_table_has_every_head_and_a_reason_for_each_refusal():
    table = read_heads()
    assert {one.head for one in table.heads} <= set(HEADS)
    for one in table.heads:
        assert (one.reason is None) is one.passes
        assert (one.worst is None) is not one.passes
    names = [(one.head, one.model_type) for one in table.heads]
    assert len(set(names)) == len(names)


def test_a_table_is_read_as_it_was_written(tmp_path):
    good = Head(model_type="bert", head="MaskedLM", passes=True, worst=1e-6, seconds=3.0)
    bad = Head(model_type="bert", head="TokenClassification", passes=False, reason="It does not.")
    table = Heads(transformers="5", heads=(good, bad))
    file = tmp_path / "heads.json"
    file.write_text(table.to_json(), encoding="utf-8")
    assert read_heads(file) == table
    assert table.find("bert") == (good, bad) and table.find("other") == ()
    more = dataclasses.replace(table, heads=(*table.heads, dataclasses.replace(good, model_type="x")))
    assert more.summary("MaskedLM") == "2 of 2" and more.summary("TokenClassification") == "0 of 1"
