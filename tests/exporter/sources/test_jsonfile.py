from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json


def test_a_key_that_is_stated_twice_differently_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": {"rope_theta": 10000.0, "rope_theta": 500000.0}}')
    with pytest.raises(InputError, match=r"'rope_theta' is stated twice, as 10000\.0 and as 500000\.0"):
        read_json(path)
    path.write_text('{"a": 1, "a": 1}')
    assert read_json(path) == {"a": 1}


def test_a_vocabulary_may_list_a_token_twice(tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text('{"a": 1, "a": 2}')
    assert read_json(path) == {"a": 2}


def test_half_of_a_pair_of_surrogates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"id2label": {"0": "\\uD83D\\uDE80", "1": "\\ud800"}}')
    with pytest.raises(InputError, match=r"lone surrogate, '\\ud800', which is no Unicode text"):
        read_json(path)
    path.write_text('{"id2label": {"0": "\\uD83D\\uDE80"}}')
    assert read_json(path) == {"id2label": {"0": "🚀"}}
