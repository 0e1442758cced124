from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.calibration.text.builtin_texts import reference_prose
from jisu.exporter.quantization.calibration_mixture import (
    UNWRITTEN,
    compose_mixture,
    random_windows_of,
    write_own_windows,
)
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_classifier
from tests.support.word_model import word_source


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


def parts(mixture):
    return {part: mixture.parts.count(part) for part in mixture.parts}


def test_a_language_model_has_every_part_and_most_is_its_own(source):
    mixture = compose_mixture(source, windows=32, length=16)
    assert parts(mixture) == {"own writing": 20, "prompts": 4, "prose": 2, "code": 4, "random tokens": 2}
    assert [entry["windows"] for entry in mixture.made_of] == [20, 4, 2, 4, 2]
    assert sum(entry["share"] for entry in mixture.made_of) == pytest.approx(1)
    assert mixture.left_out == ()


def test_every_part_says_what_it_is_made_of(source):
    by_part = {entry["part"]: entry for entry in compose_mixture(source, windows=32, length=16).made_of}
    assert by_part["own writing"]["prompts"] > 90
    assert by_part["prose"]["texts"][0]["text"] == "pydoc_data.topics"
    assert {text["text"].partition("/")[0] for text in by_part["code"]["texts"]} == {"Lib", "torch"}
    assert all("windows_sha256" in entry for part, entry in by_part.items() if part != "own writing")


def test_the_model_fills_what_was_left_for_it_and_nothing_else(source):
    planned = compose_mixture(source, windows=16, length=16)
    written = write_own_windows(source, planned)
    own = [place for place, part in enumerate(planned.parts) if part == "own writing"]
    others = [place for place in range(16) if place not in own]
    assert (planned.ids[own] == UNWRITTEN).all()
    assert (written.ids[own] >= 0).all()
    np.testing.assert_array_equal(written.ids[others], planned.ids[others])
    assert written.writing is None


def test_windows_that_a_model_cannot_afford_are_left_out_and_said(source, monkeypatch):
    planned = compose_mixture(source, windows=16, length=16)
    monkeypatch.setattr(
        "jisu.exporter.quantization.calibration_mixture.write_windows", lambda *_, **__: np.zeros((2, 16), np.int64)
    )
    written = write_own_windows(source, planned)
    assert len(written.ids) == len(written.parts) == 8
    [entry] = [entry for entry in written.made_of if entry["part"] == "own writing"]
    assert entry["windows"] == 2
    assert "8 windows fewer" in entry["note"]
    assert sum(entry["share"] for entry in written.made_of) == pytest.approx(1)


def test_a_large_model_gets_other_windows_instead_of_its_own(source):
    large = replace(source, model=replace(source.model, parameters=10**12))
    mixture = compose_mixture(large, windows=32, length=16)
    assert len(mixture.ids) == 32
    assert parts(mixture)["own writing"] == 4
    assert "because the model is large" in mixture.made_of[0]["note"]


def test_without_a_tokenizer_there_are_its_own_writing_and_random_tokens(source):
    mixture = compose_mixture(replace(source, tokenizer=None), windows=9, length=16)
    assert parts(mixture) == {"own writing": 8, "random tokens": 1}
    assert "no tokenizer" in mixture.left_out[0]
    assert (write_own_windows(replace(source, tokenizer=None), mixture).ids >= 0).all()


def test_a_classifier_gets_texts_with_its_special_tokens_around_them(tmp_path):
    from tests.support.models import tiny_tokenizer

    classifier = load_source(write_tiny_classifier(tmp_path / "classifier"))
    tokenizer = tiny_tokenizer()
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    mixture = compose_mixture(replace(classifier, tokenizer=tokenizer), windows=14, length=16)
    assert set(parts(mixture)) == {"prompts", "prose", "code", "random tokens"}
    text = mixture.ids[[part != "random tokens" for part in mixture.parts]]
    assert (text[:, 0] == 0).all()
    assert (text[:, -1] == 1).all()
    assert mixture.left_out == ("own writing: a model that reads whole texts writes none",)


def test_a_model_of_a_dozen_words_is_calibrated_on_what_it_knows_and_says_so():
    mixture = compose_mixture(word_source(), windows=9, length=16)
    assert parts(mixture) == {"own writing": 8, "random tokens": 1}
    assert any("prompts: the tokenizer does not know" in reason for reason in mixture.left_out)
    assert any("pydoc_data.topics: 9" in reason and "unknown to the model" in reason for reason in mixture.left_out)


def test_a_built_in_text_that_quality_is_measured_on_is_left_out(source):
    mixture = compose_mixture(source, windows=32, length=16, evaluation=reference_prose()[10_000:20_000])
    assert "prose" not in mixture.parts
    assert "pydoc_data.topics: quality is measured on" in mixture.left_out[0]


def test_texts_of_the_users_are_weighted_alike(source):
    yours = [np.full((20, 16), 5), np.full((2, 16), 6)]
    mixture = compose_mixture(source, windows=16, length=16, yours=yours)
    own = mixture.ids[[part == "your text" for part in mixture.parts]]
    assert own[:, 0].tolist() == [5, 6, 5, 6, 5, 5, 5, 5]


def test_random_windows_stand_behind_special_tokens(source):
    ids = random_windows_of(source, count=6, length=8)
    assert set(ids[:, 0]) == set(source.tokenizer.all_special_ids)
