from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reranking.options import RerankOptions, rerank_options


def test_a_name_needs_no_tokens_and_a_file_does(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("{query} and {document}?")
    assert rerank_options(None) is None
    assert rerank_options("judge") == RerankOptions(prompt="judge")
    made = rerank_options(file, yes_token="yes", no_token="no")
    assert made == RerankOptions(prompt="{query} and {document}?", yes="yes", no="no")
    assert RerankOptions.from_record(made.to_record()) == made
    assert RerankOptions.from_record(None) is None


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("{query} {document}", {}, "which token means that a document answers.*Add --yes-token"),
        ("{query}", {"yes_token": "y"}, "{document} 0 times in the prompt"),
        ("{query} {query} {document}", {"yes_token": "y"}, "{query} 2 times"),
        ("{instruction} {instruction} {query} {document}", {"yes_token": "y"}, "{instruction} 2 times"),
        (b"\xff", {"yes_token": "y"}, "There is no prompt .*judge, relevance, passage; or a text file"),
    ],
)
def test_a_file_that_cannot_be_a_prompt_is_refused(text, options, message, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        rerank_options(file, **options)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("juge", {}, "There is no prompt 'juge'.*judge, relevance, passage"),
        ("a\0b", {"yes_token": "y"}, "There is no prompt"),
        (None, {"yes_token": "y"}, "without the prompt.*--yes-token.*--rerank-prompt judge"),
        ("judge", {"no_token": "n"}, "which token means.*--rerank-prompt judge --no-token n"),
    ],
)
def test_options_that_do_not_go_together_are_refused(prompt, options, message):
    with pytest.raises(InputError, match=message):
        rerank_options(prompt, **options)
