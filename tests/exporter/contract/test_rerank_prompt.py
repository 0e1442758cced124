from __future__ import annotations

from dataclasses import asdict

import pytest

from jisu.exporter.contract.rerank_prompt import DOCUMENT, QUERY, SLOTS, RerankPrompt, slot_problem, split_slots


def test_a_piece_is_text_and_slots():
    assert split_slots("A: {query}\n{document}{other}") == [
        (None, "A: "),
        ("query", ""),
        (None, "\n"),
        ("document", ""),
        (None, "{other}"),
    ]
    assert split_slots("") == []


def test_a_slot_that_is_missing_or_twice_is_named():
    assert slot_problem(("{query}", "{document}"), needed=(QUERY, DOCUMENT)) is None
    assert (
        slot_problem(("{query}{query}",), needed=(QUERY, DOCUMENT))
        == "{query} 2 times, {document} 0 times in the prompt"
    )
    assert "{instruction} 0 times" in str(slot_problem(("{query}{document}",), needed=SLOTS))
    with pytest.raises(ValueError, match="{document} 0 times"):
        RerankPrompt(pieces=("{query}",))


def test_a_prompt_is_read_from_what_was_written():
    prompt = RerankPrompt(pieces=("{query}", "{document}"), instructed=("{instruction}{query}{document}",), trims=True)
    record = asdict(prompt)
    assert (
        RerankPrompt.from_dict({**record, "pieces": list(prompt.pieces), "instructed": list(prompt.instructed)})
        == prompt
    )


@pytest.mark.parametrize(
    "record",
    [
        {"pieces": "{query}{document}"},
        {"pieces": [1]},
        {"pieces": ["{query}{document}"], "trims": 1},
        {"pieces": ["{query}{document}"], "code": "x"},
        {"pieces": ["{query}"]},
    ],
)
def test_anything_else_is_no_prompt(record):
    with pytest.raises(ValueError, match="prompt"):
        RerankPrompt.from_dict(record)
