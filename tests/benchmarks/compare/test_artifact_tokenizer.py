from __future__ import annotations

import pytest

from jisu.benchmarks.compare.artifact_tokenizer import artifact_tokenizer
from tests.support.models import tiny_tokenizer


@pytest.mark.parametrize("texts", [("One two three, four.",), ("Who wrote it?", "Nobody knows who wrote these lines.")])
@pytest.mark.parametrize("limit", [6, 40])
def test_texts_and_pairs_are_encoded_as_transformers_does_it(tiny_classifier, texts, limit):
    ours, theirs = artifact_tokenizer(tiny_classifier.folder), tiny_tokenizer()
    assert ours is not None
    expected = theirs(*texts, truncation=True, max_length=limit)["input_ids"]
    made = ours(*texts, truncation=True, max_length=limit)
    assert made["input_ids"] == expected
    assert len(made["token_type_ids"]) == len(expected)
    assert ours.encode(texts[0]) == theirs.encode(texts[0]) == ours(texts[0])["input_ids"]
    parts = {"add_special_tokens": False, "return_offsets_mapping": True}
    made = ours(texts[0], **parts)
    assert {name: list(made[name]) for name in made} == {name: theirs(texts[0], **parts)[name] for name in made}


def test_special_tokens_are_those_of_the_artifact(tiny_classifier):
    ours, theirs = artifact_tokenizer(tiny_classifier.folder), tiny_tokenizer()
    assert ours is not None
    assert ours.unk_token_id == theirs.unk_token_id
    assert set(ours.all_special_ids) == set(theirs.all_special_ids)


def test_without_a_tokenizer_there_is_none(tmp_path):
    assert artifact_tokenizer(tmp_path) is None
